"""The A of CAT: captions in which nothing happens.

Radenovic et al. (DiHT), CVPR 2023, arXiv 2301.02280, section 3.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class HasAction(Rule):
    """Drops captions with too few actions: product names, places, lists.

    A verb counts once, however many do it and to whatever it is done.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-without-action",)

    least: int = 1
    """Actions; the paper asks for one."""

    def __post_init__(self) -> None:
        check_range(self, "least", least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return ("actions",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return reason_where(pc.less(_actions(rows), self.least), "caption-without-action")

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure("actions", _actions(rows), least=self.least),)


def _actions(rows: pa.RecordBatch) -> pa.Array:
    """int32: verbs per row. Records of one verb stand together and share their offset."""
    records = rows["actions"]
    row = pc.list_parent_indices(records).to_numpy()
    start = pc.struct_field(pc.list_flatten(records), "start").to_numpy()
    is_new = np.ones(len(row), dtype=bool)
    is_new[1:] = (np.diff(row) != 0) | (np.diff(start) != 0)
    return pa.array(np.bincount(row[is_new], minlength=rows.num_rows), type=pa.int32())
