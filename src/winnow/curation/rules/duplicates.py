"""Exact duplicates: the same bytes of a picture, with the same caption or with another one."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE, describe_place
from winnow.curation.rules.rule import Rule


class _KeepsFirst(Rule):
    """Drops what comes again, and names the first by its place and uid: 24 bytes a row."""

    asks_corpus: ClassVar[bool] = True

    def _reasons(self, rows: pa.RecordBatch, corpus: Corpus, first: np.ndarray) -> pa.Array:
        """One string per row of which `first`, a PLACE, is another row."""
        (code,) = self.codes
        is_copy = (first != -1) & (first != rows[PLACE].to_numpy())
        places = first[is_copy]
        named = zip(places.tolist(), self._uids(corpus, places), strict=True)
        reasons = np.full(rows.num_rows, None, dtype=object)
        reasons[is_copy] = [f"{code}: of {describe_place(p)}, uid {uid.hex()}" for p, uid in named]
        return pa.array(reasons, type=pa.string())

    def _uids(self, corpus: Corpus, places: np.ndarray) -> list[bytes]:
        if not len(places):
            return []
        if corpus not in self._named:
            self._named[corpus] = _Named.of(corpus)
        return self._named[corpus].find(places)

    @cached_property
    def _named(self) -> WeakKeyDictionary[Corpus, "_Named"]:
        return WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        # What was found out of a corpus of this process is of no use in another.
        return {}


@dataclass(frozen=True, kw_only=True)
class DuplicatePair(_KeepsFirst):
    """Drops all copies of a pair but the first, in ledger order, that no earlier rule drops.

    Captions are compared normalised. The reason names the copy that is kept.
    """

    codes: ClassVar[tuple[str, ...]] = ("duplicate-pair",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return self._reasons(rows, corpus, corpus.first_with_pair(rows))


@dataclass(frozen=True, kw_only=True)
class DuplicatePicture(_KeepsFirst):
    """Drops all copies of a picture but the first, in ledger order, that no earlier rule drops.

    Whatever the captions: behind DuplicatePair it takes the copies with another caption. Leave it
    out for data with several good captions a picture. The reason names the copy that is kept.
    """

    codes: ClassVar[tuple[str, ...]] = ("duplicate-picture",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return self._reasons(rows, corpus, corpus.first_with_picture(rows))


class _Named(NamedTuple):
    """The survivors of a corpus by place, which is the order that they come in."""

    places: np.ndarray
    """int64, ascending."""
    uids: np.ndarray
    """16 bytes each."""

    @classmethod
    def of(cls, corpus: Corpus) -> "_Named":
        """One pass over the ledger."""
        found = [(rows[PLACE].to_numpy(), _digits(rows["uid"])) for rows in corpus.survivors()]
        return cls(np.concatenate([p for p, _ in found]), np.concatenate([u for _, u in found]))

    def find(self, places: np.ndarray) -> list[bytes]:
        """The uid at each of `places`, all of which are there."""
        return [uid.tobytes() for uid in self.uids[np.searchsorted(self.places, places)]]


def _digits(uids: pa.Array) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(uids.to_pylist())), dtype="V16")
