"""Pictures too small to show anything."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class PictureSize(Rule):
    """Drops pictures whose shorter side has too few pixels.

    The default only removes tracking pixels, bullets and favicons. For photographs of the web,
    ALIGN (arXiv 2102.05918) and DataComp's basic filter (arXiv 2304.14108) ask for 200.
    """

    codes: ClassVar[tuple[str, ...]] = ("picture-too-small",)

    min_side: int = 32
    """Pixels."""

    def __post_init__(self) -> None:
        check_range(self, "min_side", least=0)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return reason_where(pc.less(_shorter_side(rows), self.min_side), "picture-too-small")

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure("shorter side (px)", _shorter_side(rows), least=self.min_side),)


def _shorter_side(rows: pa.RecordBatch) -> pa.Array:
    return pc.min_element_wise(rows["width"], rows["height"])
