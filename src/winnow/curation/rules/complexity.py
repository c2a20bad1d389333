"""The C of CAT: captions that say too little of any one object.

    keep where  max over objects of its attributes + actions + relations  >=  least

Radenovic et al. (DiHT), CVPR 2023, arXiv 2301.02280, section 3.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class Complexity(Rule):
    """Drops captions in which no object has enough relations; the reason names the most."""

    codes: ClassVar[tuple[str, ...]] = ("caption-not-complex",)

    least: int = 1
    """Relations attached to one object; the paper keeps from 1 on."""

    def __post_init__(self) -> None:
        check_range(self, "least", least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return ("complexity",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        count = pc.cast(rows["complexity"], pa.string())
        reasons = pc.binary_join_element_wise("caption-not-complex", count, ": ")
        return reason_where(pc.less(rows["complexity"], self.least), reasons)

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure("complexity", rows["complexity"], least=self.least),)
