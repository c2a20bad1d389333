"""How far two models differ on the same samples, from what each answered to every one.

Every difference is the second model's metric minus the first's. Its 95 % interval is a paired
bootstrap: samples are drawn, and both models are measured on the same draw. p is by the exact
McNemar test where the metric is a share of samples (statistics.py), else by the bootstrap.

Few-shot probes are fitted on S subsets of shots and tested on the same N samples. Both the shots
and the samples might have been others, so with d_sn the difference in hits on subset s, sample n

    Var d̄ = s²(d̄_s·) / S + s²(d̄_·n) / N

and the interval is Student's, its degrees of freedom by Welch and Satterthwaite. What shots and
samples do only together is counted in both terms, so it errs on the careful side.

G groups of samples that no metric here can tell apart, B resamples, K classes.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.evaluation.scores import of_draws
from winnow.predictions import cutoff, ranks, split_direction
from winnow.resampling import (
    Metric,
    bootstrap,
    bootstrap_groups,
    bootstrap_p_value,
    percentile_interval,
)
from winnow.statistics import paired_difference, t_quantile, t_within

SCORES = ("map", "map_11_point", "roc_auc")
BLOCK_COUNTS = 2**21
"""Counts of draws held at once; what is made of them is a few times as much."""


class NotComparableError(ValueError):
    """Two sets of predictions do not allow what was asked; the words end a sentence."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two models on the same samples, second against first."""

    first: float
    """The metric of the first model."""
    second: float
    difference: float
    low: float
    """End of the 95 % interval of the difference, as is `high`."""
    high: float
    interval: str
    """How the interval was made."""
    p_value: float
    """Two-sided: how often equally good models would differ at least so much."""
    test: str
    """How p was made."""
    n: int
    """Samples."""
    only_first: int | None = None
    """Samples that only the first model has right; None where the metric is no share of samples."""
    only_second: int | None = None
    subsets: int | None = None
    """Of shots, for few-shot probes."""


class _Groups(NamedTuple):
    """Samples by what both models made of them, and both models' metric from counts of them."""

    size_G: np.ndarray
    first: Metric
    second: Metric


def paired(
    first: pa.Table, second: pa.Table, metric: str, *, resamples: int, seed: int = 0
) -> Difference:
    """From the predictions of two models for one set and any protocol but few-shot.

    Raises NotComparableError where the samples differ or the tables do not hold the metric.
    """
    _, name = split_direction(metric)
    within = cutoff(metric)
    if within is not None or name == "median_rank":
        rank_2Q = _paired_ranks(first, second, metric)
        if within is None:
            return _difference(_median_ranks(rank_2Q), resamples=resamples, seed=seed)
        return _share_difference(rank_2Q <= within, resamples=resamples, seed=seed)
    if metric == "mean_per_class" and {"label", "rank"} <= set(first.column_names):
        rank_2Q = _paired_ranks(first, second, metric)
        groups = _class_means(first.column("label").to_numpy(), rank_2Q == 1)
        return _difference(groups, resamples=resamples, seed=seed)
    if metric in SCORES and "class_scores" in first.column_names:
        return _difference(_scores(first, second, metric), resamples=resamples, seed=seed)
    raise NotComparableError(f"the predictions do not hold what {metric} is made of")


def paired_few_shot(
    first: pa.Table, second: pa.Table, metric: str, *, resamples: int, seed: int = 0
) -> Difference:
    """From the few-shot predictions of one method and number of shots; the metric is top1 or
    mean_per_class.

    Raises NotComparableError where subsets or samples differ, or for another metric.
    """
    if metric not in ("top1", "mean_per_class"):
        raise NotComparableError(f"few-shot predictions do not hold what {metric} is made of")
    subsets, label_N, hit_2SN = _paired_subsets(first, second)
    if subsets == 1:
        hit_2N = hit_2SN[:, 0]
        if metric == "top1":
            return _share_difference(hit_2N, resamples=resamples, seed=seed)
        return _difference(_class_means(label_N, hit_2N), resamples=resamples, seed=seed)
    weight_N = np.ones(len(label_N))
    if metric == "mean_per_class":
        _, class_N, count_K = np.unique(label_N, return_inverse=True, return_counts=True)
        weight_N = len(label_N) / (len(count_K) * count_K[class_N])
    return _crossed(hit_2SN * weight_N)


def _difference(groups: _Groups, *, resamples: int, seed: int) -> Difference:
    def gain(counts_BG: np.ndarray) -> np.ndarray:
        return groups.second(counts_BG) - groups.first(counts_BG)

    size_1G = groups.size_G[None].astype(np.float64)
    first, second = (float(metric(size_1G)[0]) for metric in (groups.first, groups.second))
    gain_B = _draw(gain, groups.size_G, resamples=resamples, seed=seed)
    # Of few positives some draws hold none at all: those have no average precision.
    gain_B = gain_B[np.isfinite(gain_B)]
    low, high = percentile_interval(gain_B)
    return Difference(
        first=first,
        second=second,
        difference=second - first,
        low=low,
        high=high,
        interval="paired bootstrap",
        p_value=bootstrap_p_value(gain_B),
        test="paired bootstrap",
        n=int(groups.size_G.sum()),
    )


def _draw(gain: Metric, size_G: np.ndarray, *, resamples: int, seed: int) -> np.ndarray:
    n = int(size_G.sum())
    if n == len(size_G):
        return bootstrap(gain, n, resamples=resamples, seed=seed, block=BLOCK_COUNTS)
    return bootstrap_groups(gain, size_G, resamples=resamples, seed=seed, block=BLOCK_COUNTS)


def _share_difference(hit_2N: np.ndarray, *, resamples: int, seed: int) -> Difference:
    """The same, with the exact test that a share of samples allows."""
    exact = paired_difference(*hit_2N.tolist())
    return dataclasses.replace(
        _difference(_shares(hit_2N), resamples=resamples, seed=seed),
        p_value=exact.p_value,
        test="exact McNemar",
        only_first=exact.only_first,
        only_second=exact.only_second,
    )


def _shares(hit_2N: np.ndarray) -> _Groups:
    hit_G2, size_G = np.unique(hit_2N.T, axis=0, return_counts=True)
    share_G2 = hit_G2 / hit_2N.shape[1]
    return _Groups(
        size_G, lambda drawn: drawn @ share_G2[:, 0], lambda drawn: drawn @ share_G2[:, 1]
    )


def _class_means(label_N: np.ndarray, hit_2N: np.ndarray) -> _Groups:
    """The mean over classes as zero_shot.py has it: a sample weighs 1 / (those of its class)."""
    _, class_N, count_K = np.unique(label_N, return_inverse=True, return_counts=True)
    rows_N3 = np.stack([count_K[class_N], *hit_2N], axis=1)
    row_G3, size_G = np.unique(rows_N3, axis=0, return_counts=True)
    weight_G = 1 / row_G3[:, 0]

    def metric(hit_G: np.ndarray) -> Metric:
        def mean(counts_BG: np.ndarray) -> np.ndarray:
            return counts_BG @ (weight_G * hit_G) / (counts_BG @ weight_G)

        return mean

    return _Groups(size_G, metric(row_G3[:, 1]), metric(row_G3[:, 2]))


def _median_ranks(rank_2Q: np.ndarray) -> _Groups:
    rank_G2, size_G = np.unique(rank_2Q.T, axis=0, return_counts=True)

    def metric(rank_G: np.ndarray) -> Metric:
        order_G = np.argsort(rank_G, kind="stable")

        def median(counts_BG: np.ndarray) -> np.ndarray:
            up_to_BG = counts_BG[:, order_G].cumsum(axis=1)
            n = up_to_BG[0, -1]
            middle = ((n - 1) // 2, n // 2)
            # The two middle ones of an even number; of an odd one, the middle one twice.
            two_2B = [rank_G[order_G[(up_to_BG > place).argmax(axis=1)]] for place in middle]
            return np.mean(two_2B, axis=0)

        return median

    return _Groups(size_G, metric(rank_G2[:, 0]), metric(rank_G2[:, 1]))


def _scores(first: pa.Table, second: pa.Table, metric: str) -> _Groups:
    """No two samples are equal here: every one is its own group."""
    order_N = _order(first.column("key").to_pylist(), second.column("key").to_pylist())
    second = second.take(order_N)
    if not first.column("labels").equals(second.column("labels")):
        raise NotComparableError("the labels in the predictions differ")
    score_2NK = [
        np.array(table.column("class_scores").to_pylist(), dtype=np.float32)
        for table in (first, second)
    ]
    label_NK = np.zeros(score_2NK[0].shape, dtype=bool)
    for sample, labels in enumerate(first.column("labels").to_pylist()):
        label_NK[sample, labels] = True
    metrics = (of_draws(metric, score_NK, label_NK) for score_NK in score_2NK)
    return _Groups(np.ones(len(label_NK), dtype=np.int64), *metrics)


def _crossed(value_2SN: np.ndarray) -> Difference:
    """Over subsets and samples, both drawn: Student's interval, Welch's degrees of freedom."""
    first, second = (float(value_SN.mean()) for value_SN in value_2SN)
    gain_SN = value_2SN[1] - value_2SN[0]
    gain = second - first
    by_subset, by_sample = gain_SN.mean(axis=1), gain_SN.mean(axis=0)
    parts = [float(values.var(ddof=1)) / len(values) for values in (by_subset, by_sample)]
    error = math.sqrt(sum(parts))
    half_width, p_value = 0.0, float(gain == 0)
    if error > 0:
        spread = zip(parts, gain_SN.shape, strict=True)
        freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in spread)
        # A whole number below is on the careful side.
        half_width = t_quantile(0.95, int(freedom)) * error
        p_value = 1 - t_within(abs(gain) / error, int(freedom))
    return Difference(
        first=first,
        second=second,
        difference=gain,
        low=gain - half_width,
        high=gain + half_width,
        interval="t over subsets and samples",
        p_value=p_value,
        test="t over subsets and samples",
        n=gain_SN.shape[1],
        subsets=gain_SN.shape[0],
    )


def _paired_ranks(first: pa.Table, second: pa.Table, metric: str) -> np.ndarray:
    """Both models' ranks of the same queries, in the first's order: (2, Q)."""
    one, other = ranks(first, metric), ranks(second, metric)
    order_Q = _order(one.query_Q, other.query_Q)
    return np.stack([one.rank_Q, other.rank_Q[order_Q]])


def _order(first: list[str], second: list[str]) -> np.ndarray:
    """Where in the second's samples those of the first are."""
    place = {key: index for index, key in enumerate(second)}
    if place.keys() != set(first):
        raise NotComparableError("the predictions are not of the same samples")
    return np.array([place[key] for key in first], dtype=np.int64)


def _paired_subsets(first: pa.Table, second: pa.Table) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of subsets S, label_N, and both models' hits (2, S, N)."""
    by = [("subset", "ascending"), ("key", "ascending")]
    both = [table.sort_by(by) for table in (first, second)]
    same = ("subset", "key", "label")
    if any(not both[0].column(name).equals(both[1].column(name)) for name in same):
        raise NotComparableError("the predictions are not of the same subsets and samples")
    subsets = len(both[0].column("subset").unique())
    label_SN = both[0].column("label").to_numpy().reshape(subsets, -1)
    hits = [pc.equal(table.column("predicted"), table.column("label")) for table in both]
    hit_2SN = np.stack([hit.to_numpy().reshape(subsets, -1) for hit in hits])
    return subsets, label_SN[0], hit_2SN
