"""The mean of S subsets of shots x N pictures, where both might have been others.

    Var v̄ = s²(v̄_s·) / S + s²(v̄_·n) / N

The interval is Student's, its degrees of freedom by Welch and Satterthwaite. What subsets and
pictures do only together is in both terms, so it errs on the careful side.
"""

import math
from typing import NamedTuple

import numpy as np

from winnow.statistics import t_quantile, t_within

INTERVAL = "t over subsets and pictures"


class CrossedMean(NamedTuple):
    """A mean over subsets and pictures, and how sure it is."""

    value: float
    standard_error: float
    freedom: int

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
            return float(self.value == 0)
        return 1 - t_within(abs(self.value) / self.standard_error, self.freedom)


def crossed_mean(value_SN: np.ndarray) -> CrossedMean:
    """Of at least two subsets and two pictures."""
    by_subset, by_picture = value_SN.mean(axis=1), value_SN.mean(axis=0)
    parts = [float(values.var(ddof=1)) / len(values) for values in (by_subset, by_picture)]
    spread = sum(part**2 / (n - 1) for part, n in zip(parts, value_SN.shape, strict=True))
    # A whole number below is on the careful side.
    freedom = int(sum(parts) ** 2 / spread) if spread > 0 else 1
    return CrossedMean(float(value_SN.mean()), math.sqrt(sum(parts)), max(1, freedom))
