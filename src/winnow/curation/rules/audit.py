"""Pairs that a model trained on them does not believe."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from weakref import WeakSet

import numpy as np
import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule
from winnow.curation.rules.score import scatter
from winnow.curation.rules.stamp import stamp
from winnow.data.audit import NUMBERS, AuditTable
from winnow.types import InputError

UNSEEN = "audit-unseen"
"""Code of pairs that the audit has no number of, where these are dropped."""
_HIGH_IS_DOUBT = ("not_first", "target_other_mass")
_MEND = "`winnow audit RUN` writes RUN/audit.parquet"


@dataclass(frozen=True, kw_only=True)
class Audit(Rule):
    """Drops the pairs that a run believes least, or lets them count for less, by a number of its
    audit (see `data.audit`).

    `drop` takes a share of the pairs that the file has a number of, ties by uid, so that it is
    exactly floor(drop * n); `least` and `most` are limits, inclusive. One of the three is given.

    The rule is a veto, as `exclude` is: a pair that the run never saw, or that has no such number,
    has nothing said against it and is kept, unless `unseen` says otherwise.
    """

    asks_corpus: ClassVar[bool] = True
    codes: ClassVar[tuple[str, ...]] = ("audit", UNSEEN)

    file: Path
    """RUN/audit.parquet."""
    column: str = "own_probability_late"
    """Which number. Low ones are doubted, but for not_first and target_other_mass."""
    drop: float | None = None
    """The share of the pairs, above 0 and below 1, that is doubted most and dropped."""
    least: float | None = None
    """Drops what is below."""
    most: float | None = None
    """Drops what is above."""
    unseen: Literal["keep", "drop"] = "keep"
    """What happens to pairs without a number."""
    weight: float | None = None
    """Given, what would be dropped is kept and counts so much in the loss, above 0 and below 1."""

    def __post_init__(self) -> None:
        if self.column not in NUMBERS:
            raise InputError(
                f"an audit has no column {self.column!r} to drop pairs by: it has "
                f"{', '.join(NUMBERS)}"
            )
        given = [name for name in ("drop", "least", "most") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"Audit(file={str(self.file)!r}) is given {' and '.join(given) or 'no limit'}: "
                "give one of drop=0.2 (a share), least=0.01 or most=0.9 (a limit)"
            )
        if self.drop is not None and not 0 < self.drop < 1:
            raise InputError(
                f"Audit(drop={self.drop}): a share is above 0 and below 1 (0.2 drops 20 %)"
            )

        if self.weight is not None and not 0 < self.weight < 1:
            raise InputError(
                f"Audit(weight={self.weight}): a weight is above 0 and below 1 (0.1 lets what is "
                "doubted count a tenth); leave it out to drop it"
            )

    @property
    def weighs(self) -> bool:
        """See Rule."""
        return self.weight is not None

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule.

        Raises InputError where the file cannot be read, has no such number of any pair, or has none
        of the corpus's pairs.
        """
        if self.weighs:
            return pa.nulls(rows.num_rows, pa.string())
        doubts, values, is_doubted = self._doubted(rows, corpus)
        reasons = [self._reason(value, doubts) for value in values[is_doubted].tolist()]
        return scatter(reasons, is_doubted)

    def weights(self, rows: pa.RecordBatch, corpus: Corpus) -> np.ndarray:
        """See Rule. Raises what `verdicts` raises."""
        if self.weight is None:
            return super().weights(rows, corpus)
        _, _, is_doubted = self._doubted(rows, corpus)
        return np.where(is_doubted, np.float32(self.weight), np.float32(1))

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        doubts = self._doubts()
        values = doubts.numbers_of(doubts.audit.rows_of(rows["uid"]))
        known = pa.array(values, mask=np.isnan(values))
        return (Measure(self.column, known, doubts.least, doubts.most),)

    def _doubted(
        self, rows: pa.RecordBatch, corpus: Corpus
    ) -> tuple["_Doubts", np.ndarray, np.ndarray]:
        """The audit, its number of every row, and which rows are to be dropped or to count less."""
        doubts = self._doubts()
        self._refuse_other_data(doubts.audit, corpus)
        place = doubts.audit.rows_of(rows["uid"])
        values = doubts.numbers_of(place)
        is_unseen = np.isnan(values)
        return doubts, values, np.where(is_unseen, self.unseen == "drop", doubts.is_dropped[place])

    def _doubts(self) -> "_Doubts":
        seen = stamp(self.file, mend=_MEND)
        return _read(self.file, seen, self.column, self.drop, self.least, self.most)

    def _refuse_other_data(self, audit: AuditTable, corpus: Corpus) -> None:
        """Most often the first rows that are looked at settle it."""
        if corpus in self._known:
            return
        looked_at = 0
        for rows in corpus.survivors():
            looked_at += rows.num_rows
            if (audit.rows_of(rows["uid"]) >= 0).any():
                self._known.add(corpus)
                return
        if looked_at:
            raise InputError(
                f"{self.file} is the audit of a run on other data: none of its {len(audit):,} "
                "pairs is among those curated here. Give the audit of a run on these"
            )

    def _reason(self, value: float, doubts: "_Doubts") -> str:
        if math.isnan(value):
            return f"{UNSEEN}: no {self.column}"
        end = "lowest" if doubts.most is None else "highest"
        limit = doubts.least if doubts.most is None else doubts.most
        if self.drop is not None:
            share = f"the {end} {100 * self.drop:.6g} %, as others begin at {limit:.6g}"
            return f"audit: {self.column} {value:.6g} is among {share}"
        side = "below" if doubts.most is None else "above"
        return f"audit: {self.column} {value:.6g} is {side} {limit:.6g}"

    @cached_property
    def _known(self) -> "WeakSet[Corpus]":
        """The corpora that have pairs of the audit."""
        return WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        # A corpus of this process is of no use in another.
        return {name: value for name, value in vars(self).items() if name != "_known"}


class _Doubts(NamedTuple):
    """An audit, and what is to be dropped of it."""

    audit: AuditTable
    values: np.ndarray
    """float32: the number of each of its rows, NaN for none."""
    is_dropped: np.ndarray
    """bool, alike."""
    least: float | None
    most: float | None
    """The first numbers that are kept."""

    def numbers_of(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of `rows` of the audit; NaN for -1."""
        return np.where(rows >= 0, self.values[rows], np.float32(np.nan))


# Rules travel to workers afresh with every shard, and an audit is read once in a process.
@lru_cache(maxsize=4)
def _read(
    path: Path,
    _: tuple[int, int],
    column: str,
    drop: float | None,
    least: float | None,
    most: float | None,
) -> _Doubts:
    audit = AuditTable.open(path, columns=("uid", column))
    values = audit.column(column)
    if np.isnan(values).all():
        raise InputError(
            f"{path} has no {column} of any pair, as its run was too short or its objective knows "
            "none: take another column, own_probability say"
        )
    if drop is None:
        # A Python number is compared in the column's own precision.
        is_dropped = values < least if most is None else values > most
        return _Doubts(audit, values, is_dropped, least, most)
    sign = -1 if column in _HIGH_IS_DOUBT else 1
    by_uid = audit.rows_by_uid
    order = by_uid[np.argsort(sign * values[by_uid], kind="stable")]  # with NaN last
    # As the number is written: in binary, 7 % of 100 pairs would be more than 7.
    count = math.floor(Fraction(str(drop)) * int(np.count_nonzero(~np.isnan(values))))
    is_dropped = np.zeros(len(values), dtype=bool)
    is_dropped[order[:count]] = True
    limit = float(values[order[count]])
    return _Doubts(audit, values, is_dropped, *((limit, None) if sign > 0 else (None, limit)))
