"""A measured number before anyone has said for which model and task: value, error, n, chance."""

from typing import NamedTuple

import numpy as np

from winnow.statistics import standard_error


class Measure(NamedTuple):
    """One metric; `value`, `standard_error` and `chance` lie in 0..1."""

    metric: str
    value: float
    standard_error: float
    n: int
    chance: float


def share_within(rank_Q: np.ndarray, k: int, *, metric: str, chance: float) -> Measure:
    """The share of queries whose right answer is among the first `k`."""
    value = float(np.mean(rank_Q <= k))
    return Measure(metric, value, standard_error(value, len(rank_Q)), len(rank_Q), chance)
