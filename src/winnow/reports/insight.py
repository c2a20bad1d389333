"""What a page is told of rules: their numbers and marks, which no file has.

Rules are of another room (`winnow.curation.insight` is what answers); this says what is asked.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class RuleMeasure(Protocol):
    """What a rule compares with its thresholds, over a sample."""

    @property
    def rule(self) -> str:
        """The rule's name."""
        ...

    @property
    def name(self) -> str:
        """Of the number, for people."""
        ...

    @property
    def values(self) -> np.ndarray:
        """float64, one per pair that it is known of; NaN where there is none."""
        ...

    @property
    def least(self) -> float | None:
        """A pair is kept from here, inclusive."""
        ...

    @property
    def most(self) -> float | None:
        """A pair is kept to here, inclusive."""
        ...


class Survey(Protocol):
    """What rules say of a sample."""

    @property
    def measures(self) -> Sequence[RuleMeasure]:
        """In the order of the rules."""
        ...

    @property
    def unmeasured(self) -> Mapping[str, str]:
        """Rules that have no such number here, and why."""
        ...

    @property
    def near_matches(self) -> tuple[int, int] | None:
        """Pairs whose picture almost spells out the caption, of so many; None where unknown."""
        ...


class PairMarks(Protocol):
    """What in a pair makes a rule drop it."""

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """Starts and ends in the caption, in characters."""
        ...

    @property
    def boxes(self) -> Sequence[tuple[int, ...]]:
        """Four corners each, in pixels of the picture."""
        ...


class Insight(Protocol):
    """The rules of a selection, put to a few of its pairs again.

    Pairs are named by their place: the number of the shard << 32 | the row within it. What cannot
    be read raises InputError or OSError.
    """

    def survey(self, places: Sequence[int]) -> Survey:
        """What the rules measure of the pairs at `places`."""
        ...

    def marks(self, reasons: Mapping[int, str]) -> Mapping[int, PairMarks]:
        """What made the rule with that reason drop the pair, by place; where that can be said."""
        ...
