"""A measured number before anyone has said for which model and task: value, interval, n, chance."""

from typing import NamedTuple

import numpy as np

from winnow.resampling import percentile_interval
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
    """How the interval was made: "wilson", "bootstrap", "t over subsets and pictures" or "delta
    method"; the first two with " over ..." where that is not over the samples."""
    n: int
    """What the metric averages over."""
    chance: float | None
    """Expected value of a model that orders the candidates at random; None where there is none."""


def proportion(hit_N: np.ndarray, *, metric: str, chance: float | None) -> Measure:
    """The share of samples that are hits, with its Wilson interval."""
    value, n = float(np.mean(hit_N)), len(hit_N)
    low, high = wilson_interval(value, n)
    return Measure(metric, value, standard_error(value, n), low, high, "wilson", n, chance)


def bootstrapped(
    metric: str,
    value: float,
    value_B: np.ndarray,
    *,
    n: int,
    chance: float,
    samples: int,
    over: str,
) -> Measure:
    """With the error and the interval of draws.

    Draws that are all alike, as where every sample is a hit, say nothing of other samples. Then it
    is Wilson's interval over as many `samples` as the value rests on; `over` says what they are.
    """
    if value_B.min() < value_B.max():
        error = float(value_B.std(ddof=1))
        return Measure(metric, value, error, *percentile_interval(value_B), "bootstrap", n, chance)
    error, ends = standard_error(value, samples), wilson_interval(value, samples)
    return Measure(metric, value, error, *ends, f"wilson over {over}", n, chance)


def effective_samples(weight_N: np.ndarray) -> int:
    """As many samples of one weight have the same variance of their mean (Kish 1965)."""
    return round(float(weight_N.sum() ** 2 / (weight_N**2).sum()))


def share_within(rank_Q: np.ndarray, k: int, *, metric: str, chance: float) -> Measure:
    """The share of queries whose right answer is among the first `k`."""
    return proportion(rank_Q <= k, metric=metric, chance=chance)
