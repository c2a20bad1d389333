"""One pair per caption: the same caption again, under another picture."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.rules.duplicates import naming_the_kept
from winnow.curation.rules.rule import Measure, Rule


@dataclass(frozen=True, kw_only=True)
class CaptionDuplicate(Rule):
    """Drops all pairs with one caption but the first, in ledger order, that no earlier rule drops.

    Captions are compared normalised. For data in which a caption is meant for one picture only: in
    no built-in selection, because "a red apple" may well be said of two. CaptionRepeated drops what
    is said of many, the first included, and belongs before.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-duplicate",)
    asks_corpus: ClassVar[bool] = True

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return naming_the_kept("caption-duplicate", rows, corpus.first_with_caption(rows))

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule. Looked at only: of many pictures with one caption, the first is kept."""
        return (Measure("pictures per caption", pa.array(corpus.pictures_with_caption(rows))),)
