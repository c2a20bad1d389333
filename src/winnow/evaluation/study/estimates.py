"""A number with its 95 % interval, from what a few seeds gave, or seeds and pictures together.

    over S seeds                 d̄ ± t_{S-1} s / sqrt(S)
    over seeds and pictures      d̄ ± t_ν sqrt(V_S + V_N), see crossed.py
    of ratios r_s                exp(mean log r ± t_{S-1} s(log r) / sqrt(S))

One seed has no spread, and neither have equal ones: then there is no interval, and `how` says why.
Only equal models, whose differences are all exactly 0, have an interval of no width.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from winnow.evaluation.crossed import crossed_mean
from winnow.statistics import t_quantile, t_within

ROUNDING = 1e-12
"""A spread below it is one of rounding, and counts as none."""
ONE_SEED = "one seed: an interval needs 2 or more"
NO_SPREAD = "seeds do not differ: no interval"
SEEDS = "t over seeds"
BOTH = "t over seeds and pictures"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, and how sure it is."""

    value: float
    low: float | None = None
    """End of the 95 % interval, as is `high`; None where nothing says how sure the value is."""
    high: float | None = None
    p_value: float | None = None
    """Two-sided, of a true value of 0 (of a ratio: 1)."""
    seeds: int
    freedom: int | None = None
    """Degrees of freedom of t; None without an interval."""
    how: str
    """How the interval was made, or why there is none."""

    @property
    def is_above(self) -> bool:
        """Whether the interval lies wholly above 0."""
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        """Whether the interval lies wholly below 0."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Part:
    """One source of an estimate's variance."""

    variance: float
    """Of the mean."""
    freedom: float


def over_seeds(value_S: Sequence[float]) -> Estimate:
    """The mean of one number per seed, with Student's interval; at least one number."""
    value, n = statistics.fmean(value_S), len(value_S)
    if n == 1:
        return Estimate(value=value, seeds=1, how=ONE_SEED)
    error = statistics.stdev(value_S) / math.sqrt(n)
    return from_error(value, error, n - 1, seeds=n, how=SEEDS)


def over_seeds_and_pictures(gain_SN: np.ndarray) -> Estimate:
    """The mean of every seed's gain on every picture, both of which might have been others."""
    seeds, pictures = gain_SN.shape
    value = float(gain_SN.mean())
    if seeds == 1:
        return Estimate(value=value, seeds=1, how=ONE_SEED)
    if pictures == 1:
        return Estimate(value=value, seeds=seeds, how="one picture: an interval needs 2 or more")
    found = crossed_mean(gain_SN)
    return from_error(value, found.standard_error, found.freedom, seeds=seeds, how=BOTH)


def picture_part(gain_SN: np.ndarray) -> Part:
    """What other pictures, at least two, would change in the mean over all seeds and pictures."""
    by_picture = gain_SN.mean(axis=0)
    return Part(float(by_picture.var(ddof=1)) / len(by_picture), len(by_picture) - 1)


def over_seeds_and_parts(value_S: Sequence[float], parts: Sequence[Part]) -> Estimate:
    """The mean of one number per seed, where `parts` vary besides; freedom by Satterthwaite."""
    seeds = len(value_S)
    if seeds == 1:
        return over_seeds(value_S)
    every = [Part(statistics.variance(value_S) / seeds, seeds - 1), *parts]
    total = math.fsum(part.variance for part in every)
    spread = math.fsum(part.variance**2 / part.freedom for part in every)
    # A whole number below is on the careful side, as in crossed.py.
    freedom = max(1, int(total**2 / spread)) if spread > 0 else 1
    value = statistics.fmean(value_S)
    return from_error(value, math.sqrt(total), freedom, seeds=seeds, how=BOTH)


def ratio_over_seeds(ratio_S: Sequence[float]) -> Estimate:
    """The geometric mean of ratios above 0, one per seed, with Student's interval of logarithms."""
    found = over_seeds([math.log(ratio) for ratio in ratio_S])
    return Estimate(
        value=math.exp(found.value),
        low=None if found.low is None else math.exp(found.low),
        high=None if found.high is None else math.exp(found.high),
        p_value=found.p_value,
        seeds=found.seeds,
        freedom=found.freedom,
        how=found.how,
    )


def from_error(value: float, error: float, freedom: int, *, seeds: int, how: str) -> Estimate:
    """`value` with Student's interval and test; without where nothing varies but a true 0."""
    if error <= ROUNDING:
        if abs(value) <= ROUNDING:
            return Estimate(value=0.0, low=0.0, high=0.0, p_value=1.0, seeds=seeds, how=how)
        return Estimate(value=value, seeds=seeds, how=NO_SPREAD)
    half = t_quantile(0.95, freedom) * error
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        p_value=1 - t_within(abs(value) / error, freedom),
        seeds=seeds,
        freedom=freedom,
        how=how,
    )
