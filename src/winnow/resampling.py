"""The bootstrap (Efron 1979): how far a metric would move if other samples had been drawn.

A resample draws n of the n samples with replacement, so all that is left of it is how often each
was drawn. A metric is therefore a function of those counts, for many resamples at once, and two
models are compared on the same samples by one metric that takes the difference under the same
counts.

    bootstrap(lambda counts_BN: counts_BN @ (second_N - first_N) / n, n)

Whether two models differ at all is also told by sign flips (Fisher 1935): had they been equally
good, the gain of every sample might as well have had the other sign.

The counts depend on (n, seed) alone: not on the model, the metric, or how many are held at once.
B resamples, N samples, G groups of samples that the metric cannot tell apart.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK_COUNTS = 2**21
"""Counts of draws held at once; what is made of them is a few times as much."""
Metric = Callable[[np.ndarray], np.ndarray]
"""From float64 counts (B, N), each row summing to n, to B values."""


def bootstrap(
    metric: Metric, n: int, *, resamples: int = 1000, seed: int = 0, block: int = BLOCK_COUNTS
) -> np.ndarray:
    """The metric of `resamples` resamples of n samples; `block` counts are held at once."""
    generator = np.random.default_rng((seed, n))

    def draw(rows: int) -> np.ndarray:
        counts_BN = np.empty((rows, n))
        for row in counts_BN:
            row[:] = np.bincount(generator.integers(n, size=n), minlength=n)
        return counts_BN

    return _collect(metric, draw, n, resamples=resamples, block=block)


def bootstrap_groups(
    metric: Metric,
    size_G: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    block: int = BLOCK_COUNTS,
) -> np.ndarray:
    """The same where samples fall into G groups of equal ones, the g-th of `size_G[g]` samples.

    The metric is given how many samples are drawn of every group (B, G). As the groups are often
    few (right or wrong of two models: four), this is cheap whatever n is.
    """
    n = int(size_G.sum())
    generator = np.random.default_rng((seed, n, len(size_G)))

    def draw(rows: int) -> np.ndarray:
        return generator.multinomial(n, size_G / n, size=rows).astype(np.float64)

    return _collect(metric, draw, len(size_G), resamples=resamples, block=block)


class Draws(NamedTuple):
    """What is drawn, and each model's metric from how often it was."""

    size_G: np.ndarray
    metrics: tuple[Metric, ...]
    block: int = BLOCK_COUNTS

    def draw(self, metric: Metric, *, resamples: int, seed: int) -> np.ndarray:
        """`metric` of that many resamples."""
        n = int(self.size_G.sum())
        if n == len(self.size_G):
            return bootstrap(metric, n, resamples=resamples, seed=seed, block=self.block)
        return bootstrap_groups(
            metric, self.size_G, resamples=resamples, seed=seed, block=self.block
        )

    def values(self) -> list[float]:
        """Every model's metric of the samples as they are."""
        size_1G = self.size_G[None].astype(np.float64)
        return [float(metric(size_1G)[0]) for metric in self.metrics]


def percentile_interval(value_B: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The ends between which the middle `level` of the resamples' values lie."""
    low, high = np.quantile(value_B, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_p_value(difference_B: np.ndarray) -> float:
    """Two-sided: twice the rarer of the shares of resamples at or below, and at or above, zero.

    The data themselves count as one resample more, so the least it can say is 2 / (B + 1).
    """
    at_most = int((difference_B <= 0).sum())
    at_least = int((difference_B >= 0).sum())
    return min(1.0, 2 * (1 + min(at_most, at_least)) / (len(difference_B) + 1))


def sign_flips_p_value(gain_N: np.ndarray, *, draws: int, seed: int = 0) -> float:
    """Two-sided: under how many draws of signs the sum of gains is as far from zero as it is.

    The data themselves count as one draw more, so the least it can say is 1 / (draws + 1).
    """
    size_G, count_G = np.unique(np.abs(gain_N[gain_N != 0]), return_counts=True)
    generator = np.random.default_rng((seed, len(gain_N), len(size_G)))
    # Of gains of one size, how many are positive is all that counts.
    positive_BG = generator.binomial(count_G, 0.5, size=(draws, len(size_G)))
    sum_B = (2 * positive_BG - count_G) @ size_G
    rounding = 1e-12 * np.abs(gain_N).sum()
    as_far = np.abs(sum_B) >= abs(gain_N.sum()) - rounding
    return (1 + int(as_far.sum())) / (draws + 1)


def _collect(
    metric: Metric,
    draw: Callable[[int], np.ndarray],
    width: int,
    *,
    resamples: int,
    block: int,
) -> np.ndarray:
    rows = max(1, block // width)
    blocks = (min(rows, resamples - start) for start in range(0, resamples, rows))
    return np.concatenate([metric(draw(size)) for size in blocks])
