"""Metrics of scores rather than ranks, for tasks where a picture may show several classes, or whose
two classes are not balanced.

A picture's score for a class is its cosine to the class. Per class, with P(t) and R(t) precision
and recall of the pictures that score at least t, for every score t that occurs, highest first:

    average precision   AP = sum over t of (R(t) - R(t before)) P(t)
    11-point AP         (1/11) sum over r in {0, 0.1, ..., 1} of max { P(t) : R(t) >= r }
    ROC-AUC             P(score of a positive > score of a negative) + P(equal) / 2

The first is scikit-learn's (no interpolation), the second that of PASCAL VOC up to 2009 (Everingham
et al. 2010, "The PASCAL Visual Object Classes Challenge", 4.2), which VOC2007 is reported in. Means
over classes leave out classes without a positive. Pictures of equal scores share a threshold, so
the order of a data set does not matter and a constant model has chance.

Intervals: bootstrap over pictures, each class's order being sorted once. Where all draws are alike,
as those of a model without a mistake, Wilson's over the positives, or of ROC-AUC over the rarer
class. N pictures, K classes, B resamples.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from winnow.evaluation.measures import Measure, bootstrapped, effective_samples
from winnow.evaluation.ranking import unit_rows
from winnow.resampling import Metric, bootstrap

BLOCK_PICTURES = 2**14
Points = Callable[["_Ordered", np.ndarray], np.ndarray]
"""From an order and how often each of its pictures is drawn (B, N) to B values; NaN where
undefined."""


class _Ordered(NamedTuple):
    """The pictures by falling score, and where the next threshold begins."""

    order_N: np.ndarray
    positive_N: np.ndarray  # bool, in that order
    starts_T: np.ndarray


def class_scores(image_ND: np.ndarray, class_KD: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """Cosines (N, K) float32 of every picture and class."""
    class_KD_unit = unit_rows(class_KD, device=device)
    starts = range(0, len(image_ND), BLOCK_PICTURES)
    blocks = (unit_rows(image_ND[s : s + BLOCK_PICTURES], device=device) for s in starts)
    return np.concatenate([(block @ class_KD_unit.T).cpu().numpy() for block in blocks])


def mean_average_precision(score_NK: np.ndarray, label_NK: np.ndarray) -> Measure:
    """ "map": the mean over classes with a positive, n their number; `label_NK` is bool.

    Chance is exact: the expected AP of R positives among N in random order is
    ((R - 1) (N - H_N) / (N - 1) + H_N) / N, H_N the N-th harmonic number (Bestgen 2015).
    """
    harmonic = float((1 / np.arange(1, len(label_NK) + 1)).sum())

    def chance(positives: int, n: int) -> float:
        rest = (positives - 1) * (n - harmonic) / (n - 1) if n > 1 else 0.0
        return (rest + harmonic) / n

    return _mean_over_classes(score_NK, label_NK, _average_precision, chance, metric="map")


def map_11_point(score_NK: np.ndarray, label_NK: np.ndarray) -> Measure:
    """ "map_11_point". Chance is the positives' share, which holds where they are many."""

    def chance(positives: int, n: int) -> float:
        return positives / n

    return _mean_over_classes(score_NK, label_NK, _eleven_points, chance, metric="map_11_point")


def roc_auc(score_N: np.ndarray, positive_N: np.ndarray) -> Measure:
    """ "roc_auc" of a score for being positive (bool); chance 1/2. For two prompted classes the
    score is the cosine to the positive class less that to the other.
    """
    if positive_N.all() or not positive_N.any():
        raise ValueError("ROC-AUC needs positives and negatives")
    n, metric = len(score_N), partial(_roc_auc, _ordered(score_N, positive_N))
    value = float(metric(np.ones((1, n)))[0])
    positives = int(positive_N.sum())
    return bootstrapped(
        "roc_auc",
        value,
        _defined(bootstrap(metric, n)),
        n=n,
        chance=0.5,
        samples=min(positives, n - positives),
        over="the rarer class",
    )


def of_draws(metric: str, score_NK: np.ndarray, label_NK: np.ndarray) -> Metric:
    """ "map", "map_11_point" or, of two classes, "roc_auc" as a function of how often each picture
    is drawn: what compares two models under the same draws. NaN where a draw leaves it undefined.
    """
    if metric == "roc_auc":
        return partial(_roc_auc, _ordered(score_NK[:, 1] - score_NK[:, 0], label_NK[:, 1]))
    points: dict[str, Points] = {"map": _average_precision, "map_11_point": _eleven_points}
    return _class_mean(score_NK, label_NK, points[metric])


def _mean_over_classes(
    score_NK: np.ndarray,
    label_NK: np.ndarray,
    points: Points,
    chance: Callable[[int, int], float],
    *,
    metric: str,
) -> Measure:
    occurs_K = label_NK.any(axis=0)
    score_NK, label_NK = score_NK[:, occurs_K], label_NK[:, occurs_K]
    n, positives_K = len(label_NK), label_NK.sum(axis=0)
    if not len(positives_K):
        raise ValueError("no class has a positive, so there is no average precision")
    mean = _class_mean(score_NK, label_NK, points)
    value = float(mean(np.ones((1, n)))[0])
    expected = float(np.mean([chance(int(positives), n) for positives in positives_K]))
    return bootstrapped(
        metric,
        value,
        _defined(bootstrap(mean, n)),
        n=len(positives_K),
        chance=expected,
        # What a picture counts: its share of the positives of every class that it shows.
        samples=effective_samples((label_NK / positives_K).sum(axis=1)),
        over="positives",
    )


def _class_mean(score_NK: np.ndarray, label_NK: np.ndarray, points: Points) -> Metric:
    classes = np.flatnonzero(label_NK.any(axis=0))
    ordered = [_where_recall_grows(_ordered(score_NK[:, k], label_NK[:, k])) for k in classes]

    def mean(counts_BN: np.ndarray) -> np.ndarray:
        value_BK = np.stack([points(one, counts_BN) for one in ordered], axis=1)
        # A resample may miss all positives of a rare class: it is left out there.
        defined_BK = ~np.isnan(value_BK)
        with np.errstate(invalid="ignore"):
            return np.where(defined_BK, value_BK, 0).sum(axis=1) / defined_BK.sum(axis=1)

    return mean


def _defined(value_B: np.ndarray) -> np.ndarray:
    """Of few positives some resamples hold none at all: those have no value."""
    return value_B[np.isfinite(value_B)]


def _ordered(score_N: np.ndarray, positive_N: np.ndarray) -> _Ordered:
    """One threshold for every score that occurs."""
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    starts_T = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    return _Ordered(order_N, np.asarray(positive_N[order_N], dtype=bool), starts_T)


def _where_recall_grows(ordered: _Ordered) -> _Ordered:
    """Only thresholds that reach another positive: elsewhere precision just falls. Positives are
    few, and every threshold costs.
    """
    order_N, positive_N, starts_T = ordered
    grows_T = np.logical_or.reduceat(positive_N, starts_T)
    ends_T = np.append(starts_T[1:], len(order_N))[grows_T]
    kept = slice(ends_T[-1])
    return _Ordered(order_N[kept], positive_N[kept], np.append(0, ends_T[:-1]))


def _at_thresholds(ordered: _Ordered, counts_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Positives, all pictures) drawn at or above each threshold T, highest first: (B, T) twice."""
    drawn_BN = counts_BN[:, ordered.order_N]
    all_BT = np.add.reduceat(drawn_BN, ordered.starts_T, axis=1).cumsum(axis=1)
    drawn_BN *= ordered.positive_N
    return np.add.reduceat(drawn_BN, ordered.starts_T, axis=1).cumsum(axis=1), all_BT


def _average_precision(ordered: _Ordered, counts_BN: np.ndarray) -> np.ndarray:
    positive_BT, all_BT = _at_thresholds(ordered, counts_BN)
    with np.errstate(invalid="ignore"):
        # Nothing may be drawn at the first thresholds, or no positive at all.
        precision_BT = np.where(all_BT > 0, positive_BT / all_BT, 0)
        gain_BT = np.diff(positive_BT, axis=1, prepend=0)
        return (gain_BT * precision_BT).sum(axis=1) / positive_BT[:, -1]


def _eleven_points(ordered: _Ordered, counts_BN: np.ndarray) -> np.ndarray:
    positive_BT, all_BT = _at_thresholds(ordered, counts_BN)
    total_B1 = positive_BT[:, -1:]
    with np.errstate(invalid="ignore"):
        precision_BT = np.where(all_BT > 0, positive_BT / all_BT, 0)
    # Recall is compared as whole numbers: 0.3 is not 3 / 10.
    highest = [
        np.where(10 * positive_BT >= tenth * total_B1, precision_BT, 0).max(axis=1)
        for tenth in range(11)
    ]
    return np.where(total_B1[:, 0] > 0, np.mean(highest, axis=0), np.nan)


def _roc_auc(ordered: _Ordered, counts_BN: np.ndarray) -> np.ndarray:
    positive_BT, all_BT = _at_thresholds(ordered, counts_BN)
    negative_BT = all_BT - positive_BT
    gain_BT = np.diff(positive_BT, axis=1, prepend=0)
    tied_BT = np.diff(negative_BT, axis=1, prepend=0)
    below_BT = negative_BT[:, -1:] - negative_BT
    pairs_B = positive_BT[:, -1] * negative_BT[:, -1]
    with np.errstate(invalid="ignore"):
        return (gain_BT * (below_BT + tied_BT / 2)).sum(axis=1) / pairs_B
