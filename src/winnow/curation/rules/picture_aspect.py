"""Pictures so long or so wide that a square crop misses most of them."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class PictureAspect(Rule):
    """Drops pictures whose longer side is more than so many times the shorter one."""

    codes: ClassVar[tuple[str, ...]] = ("picture-too-narrow",)

    max_ratio: float = 3.0
    """ALIGN's and DataComp's limit (arXiv 2102.05918, 2304.14108)."""

    def __post_init__(self) -> None:
        check_range(self, "max_ratio", least=1)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        longer = pc.cast(pc.max_element_wise(rows["width"], rows["height"]), pa.float64())
        shorter = pc.cast(pc.min_element_wise(rows["width"], rows["height"]), pa.float64())
        too_narrow = pc.greater(longer, pc.multiply(shorter, self.max_ratio))
        return reason_where(too_narrow, "picture-too-narrow")

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        longer = pc.cast(pc.max_element_wise(rows["width"], rows["height"]), pa.float64())
        shorter = pc.min_element_wise(rows["width"], rows["height"])
        return (
            Measure("longer side / shorter side", pc.divide(longer, shorter), most=self.max_ratio),
        )
