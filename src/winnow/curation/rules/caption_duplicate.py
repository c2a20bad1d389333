"""One pair per caption: the same caption again, under another picture."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE, describe_place
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
        first = corpus.first_with_caption(rows)
        own = rows[PLACE].to_pylist()
        found = zip(first.places.tolist(), own, first.uids.to_pylist(), strict=True)
        reasons = [
            f"caption-duplicate: of {describe_place(place)}, uid {uid}"
            if place not in (-1, row)
            else None
            for place, row, uid in found
        ]
        return pa.array(reasons, type=pa.string())

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule. Looked at only: of many pictures with one caption, the first is kept."""
        return (Measure("pictures per caption", pa.array(corpus.pictures_with_caption(rows))),)
