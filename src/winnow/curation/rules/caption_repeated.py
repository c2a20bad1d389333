"""Boilerplate: one caption over many different pictures describes none of them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class CaptionRepeated(Rule):
    """Drops captions that more than so many distinct pictures carry.

    Copies of one picture count once: they are for the rules on duplicates.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-repeated",)
    asks_corpus: ClassVar[bool] = True

    max_pictures: int = 10
    """ALIGN's threshold (arXiv 2102.05918, section 3). Raise it for data labelled by class name."""

    def __post_init__(self) -> None:
        check_range(self, "max_pictures", least=1)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        pictures = corpus.pictures_with_caption(rows)
        counts = pc.cast(pa.array(pictures), pa.string())
        reasons = pc.binary_join_element_wise("caption-repeated: over", counts, "pictures", " ")
        return reason_where(np.greater(pictures, self.max_pictures), reasons)

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        pictures = pa.array(corpus.pictures_with_caption(rows))
        return (Measure("pictures with the caption", pictures, most=self.max_pictures),)
