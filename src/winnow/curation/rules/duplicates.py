"""Exact duplicates: the same bytes of a picture, with the same caption or with another one."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from winnow.curation.corpus import Corpus, Kept
from winnow.curation.ledger_files import PLACE, describe_place
from winnow.curation.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class DuplicatePair(Rule):
    """Drops all copies of a pair but the first, in ledger order, that no earlier rule drops.

    Captions are compared normalised. The reason names the copy that is kept.
    """

    codes: ClassVar[tuple[str, ...]] = ("duplicate-pair",)
    asks_corpus: ClassVar[bool] = True

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return naming_the_kept("duplicate-pair", rows, corpus.first_with_pair(rows))


@dataclass(frozen=True, kw_only=True)
class DuplicatePicture(Rule):
    """Drops all copies of a picture but the first, in ledger order, that no earlier rule drops.

    Whatever the captions: behind DuplicatePair it takes the copies with another caption. Leave it
    out for data with several good captions a picture. The reason names the copy that is kept.
    """

    codes: ClassVar[tuple[str, ...]] = ("duplicate-picture",)
    asks_corpus: ClassVar[bool] = True

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return naming_the_kept("duplicate-picture", rows, corpus.first_with_picture(rows))


def naming_the_kept(code: str, rows: pa.RecordBatch, kept: Kept) -> pa.Array:
    """One string per row for which another row is kept: which one, by place and uid."""
    own = rows[PLACE].to_pylist()
    found = zip(kept.places.tolist(), own, kept.uids.to_pylist(), strict=True)
    reasons = [
        f"{code}: of {describe_place(place)}, uid {uid}" if place not in (-1, row) else None
        for place, row, uid in found
    ]
    return pa.array(reasons, type=pa.string())
