"""The mean of S subsets of shots x N pictures, where both might have been others.

    Var v̄ = s²(v̄_s·) / S + s²(v̄_·n) / N

The interval is Student's, its degrees of freedom by Welch and Satterthwaite. What subsets and
pictures do only together is in both terms, so it errs on the careful side.

Where neither varies, t has no scale, and p is by sign flips over pictures: of N equal gains, two of
2^N signs are as far from 0.
"""

import math
from typing import NamedTuple

import numpy as np

from winnow.statistics import mcnemar_p_value, t_quantile, t_within

INTERVAL = "t over subsets and pictures"
ROUNDING = 1e-12
"""A standard error below it is one of rounding, and counts as 0."""


class CrossedMean(NamedTuple):
    """A mean over subsets and pictures, and how sure it is."""

    value: float
    standard_error: float
    freedom: int
    pictures: int

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        if self.standard_error == 0:
            return 0.0
        return t_quantile(0.95, self.freedom) * self.standard_error

    @property
    def p_value(self) -> float:
        """Two-sided, of a true mean of 0."""
        if self.standard_error == 0:
            return mcnemar_p_value(0, self.pictures) if self.value else 1.0
        return 1 - t_within(abs(self.value) / self.standard_error, self.freedom)


def crossed_mean(value_SN: np.ndarray) -> CrossedMean:
    """Of at least two subsets and two pictures."""
    by_subset, by_picture = value_SN.mean(axis=1), value_SN.mean(axis=0)
    parts = [float(values.var(ddof=1)) / len(values) for values in (by_subset, by_picture)]
    spread = sum(part**2 / (n - 1) for part, n in zip(parts, value_SN.shape, strict=True))
    # A whole number below is on the careful side.
    freedom = int(sum(parts) ** 2 / spread) if spread > 0 else 1
    error = math.sqrt(sum(parts))
    return CrossedMean(
        float(value_SN.mean()),
        error if error > ROUNDING else 0.0,
        max(1, freedom),
        value_SN.shape[1],
    )
