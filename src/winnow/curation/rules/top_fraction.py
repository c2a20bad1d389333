"""The best so many percent, by any number that is known of a pair."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE
from winnow.curation.rules.rule import Measure, Rule
from winnow.curation.rules.score import MISSING, check_column, missing, scatter, scores
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class TopFraction(Rule):
    """Keeps the highest-scoring share of the rows that no earlier rule drops.

    Of n rows exactly ceil(fraction * n) are kept, or all that have a score where those are fewer: a
    row without one (null or NaN) counts in n and never passes. Which of equal scores are kept is
    decided by a hash of the uid, so neither the order of the shards nor their number matters.

    DataComp's best single filter is the highest 30 % by CLIP similarity (arXiv 2304.14108, section
    5); there the share is of the whole pool.
    """

    asks_corpus: ClassVar[bool] = True

    column: str
    """Which number; higher is better. See Score."""
    fraction: float = 0.3
    """Above 0, to 1."""

    def __post_init__(self) -> None:
        check_column(self.column)
        if not 0 < self.fraction <= 1:
            raise InputError(
                f"TopFraction(fraction={self.fraction}): a share is above 0 and at most 1 (0.3 "
                "keeps 30 %)"
            )

    @property
    def codes(self) -> tuple[str, ...]:
        """See Rule."""
        return (f"top-{self.column}", MISSING)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return (self.column,)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        values, cutoff = scores(rows, self.column), self._cutoff(corpus)
        keep = values > cutoff.score
        ties = np.flatnonzero(values == cutoff.score)
        keep[ties] = [rank <= cutoff.last for rank in _ranks(rows, ties)]
        return scatter([self._reason(value, cutoff) for value in values[~keep].tolist()], ~keep)

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure(self.column, rows[self.column], least=self._cutoff(corpus).score),)

    def _reason(self, value: float, cutoff: "_Cutoff") -> str:
        if math.isnan(value):
            return missing(self.column)
        share = f"the highest {100 * self.fraction:.6g} % begin at {cutoff.score:.6g}"
        return f"top-{self.column}: {value:.6g}, {share}"

    def _cutoff(self, corpus: Corpus) -> "_Cutoff":
        if corpus not in self._cutoffs:
            self._cutoffs[corpus] = find_cutoff(corpus, self.column, self.fraction)
        return self._cutoffs[corpus]

    @cached_property
    def _cutoffs(self) -> WeakKeyDictionary[Corpus, "_Cutoff"]:
        return WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        # What was found out of a corpus of this process is of no use in another.
        return {"column": self.column, "fraction": self.fraction}


class _Rank(NamedTuple):
    """Where a row stands among those of equal score; smaller is kept first."""

    hash: int
    """Of the uid."""
    place: int
    """Exact copies share their uid."""


class _Cutoff(NamedTuple):
    """The last row that is kept."""

    score: float
    last: _Rank


def find_cutoff(corpus: Corpus, column: str, fraction: float) -> _Cutoff:
    """The last row of the highest `fraction` of a corpus; 8 bytes of memory a row, and a copy."""
    found = [scores(rows, column).astype(np.float64) for rows in corpus.survivors()]
    values = np.concatenate([*found, np.empty(0)])
    known = values[~np.isnan(values)]
    # As the number is written: in binary, 7 % of 100 rows would be more than 7.
    wanted = min(math.ceil(Fraction(str(fraction)) * len(values)), len(known))
    if not wanted:
        return _Cutoff(math.inf, _Rank(-1, -1))
    lowest = float(np.partition(known, len(known) - wanted)[len(known) - wanted])
    room = wanted - int(np.count_nonzero(known > lowest))
    if room == np.count_nonzero(known == lowest):
        return _Cutoff(lowest, _Rank(1 << 64, 0))
    ties = [
        rank
        for rows in corpus.survivors()
        for rank in _ranks(rows, np.flatnonzero(scores(rows, column) == lowest))
    ]
    return _Cutoff(lowest, sorted(ties)[room - 1])


def _ranks(rows: pa.RecordBatch, index: np.ndarray) -> list[_Rank]:
    """The ranks of the rows at `index`."""
    taken = pa.array(index)
    uids, places = rows["uid"].take(taken).to_pylist(), rows[PLACE].take(taken).to_pylist()
    hashes = [int.from_bytes(blake2b(uid.encode(), digest_size=8).digest(), "big") for uid in uids]
    return [_Rank(*rank) for rank in zip(hashes, places, strict=True)]
