"""A measured number before anyone has said for which model and task: value, interval, n, chance."""

from typing import NamedTuple

import numpy as np

from winnow.statistics import standard_error, wilson_interval


class Measure(NamedTuple):
    """One metric, with what of it is chance and how sure it is."""

    metric: str
    value: float
    standard_error: float
    low: float
    """End of the 95 % interval, as is `high`."""
    high: float
    interval: str
    """How the interval was made: "wilson" or "bootstrap" over the samples."""
    n: int
    """What the metric averages over."""
    chance: float | None
    """Expected value of a model that orders the candidates at random; None where there is none."""


def proportion(hit_N: np.ndarray, *, metric: str, chance: float | None) -> Measure:
    """The share of samples that are hits, with its Wilson interval."""
    value, n = float(np.mean(hit_N)), len(hit_N)
    low, high = wilson_interval(value, n)
    return Measure(metric, value, standard_error(value, n), low, high, "wilson", n, chance)


def share_within(rank_Q: np.ndarray, k: int, *, metric: str, chance: float) -> Measure:
    """The share of queries whose right answer is among the first `k`."""
    return proportion(rank_Q <= k, metric=metric, chance=chance)
