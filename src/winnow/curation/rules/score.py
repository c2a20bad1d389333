"""Thresholds on any number that is known of a pair: a similarity, an aesthetic score, a risk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule
from winnow.types import InputError

MISSING = "score-missing"
"""Code of rows that have no score; they never pass."""


@dataclass(frozen=True, kw_only=True)
class Score(Rule):
    """Keeps the rows whose score is from `least` to `most`, inclusive.

    A row without a score (null or NaN) is dropped by a code of its own, also where neither limit is
    given. DataComp's CLIP filters (arXiv 2304.14108) are `least` on the similarity.
    """

    column: str
    """Which number: a column of an annotator, such as `clip_score`, or of a file of scores."""
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        check_column(self.column)
        least = -math.inf if self.least is None else self.least
        most = math.inf if self.most is None else self.most
        if not least <= most:
            raise InputError(
                f"Score(column={self.column!r}): least {self.least} to most {self.most} holds no "
                "number, so every pair would be dropped"
            )

    @property
    def codes(self) -> tuple[str, ...]:
        """See Rule."""
        return (f"score-{self.column}", MISSING)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return (self.column,)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        values = scores(rows, self.column)
        drop = np.isnan(values)
        # A Python number is compared in the column's own precision: a float32 of 0.7 passes 0.7.
        if self.least is not None:
            drop |= values < self.least
        if self.most is not None:
            drop |= values > self.most
        reasons = [self._reason(float(value)) for value in values[drop]]
        return scatter(reasons, drop)

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure(self.column, rows[self.column], self.least, self.most),)

    def _reason(self, value: float) -> str:
        if math.isnan(value):
            return missing(self.column)
        if self.least is not None and value < self.least:
            return f"score-{self.column}: {value:.6g} is below {self.least:.6g}"
        return f"score-{self.column}: {value:.6g} is above {self.most:.6g}"


def scores(rows: pa.RecordBatch, column: str) -> np.ndarray:
    """float32 or float64: the numbers in a column, NaN where there is none."""
    values = rows[column]
    if not pa.types.is_floating(values.type):
        values = pc.cast(values, pa.float64())
    return values.to_numpy(zero_copy_only=False)


def scatter(reasons: Sequence[str], drop: np.ndarray) -> pa.Array:
    """One string per row: the next of `reasons` where `drop` is true, null elsewhere."""
    where = pa.array(drop)
    return pc.replace_with_mask(
        pa.nulls(len(drop), pa.string()), where, pa.array(reasons, pa.string())
    )


def missing(column: str) -> str:
    """The reason for rows that have no score."""
    return f"{MISSING}: no {column}"


def check_column(column: str) -> None:
    """Raise InputError for a name that a code cannot carry."""
    if ":" in column or not column:
        raise InputError(f"a rule cannot be about the column {column!r}: rename it, without ':'")
