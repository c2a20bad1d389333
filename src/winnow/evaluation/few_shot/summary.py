"""One number for a method at k shots: the mean over subsets, with Student's t interval.

Other shots and other test pictures might both have been drawn, so both are in the interval
(crossed.py). Where classes are small the subsets share shots, and what shots change is understated.
"""

from collections.abc import Sequence

import numpy as np

from winnow.evaluation.crossed import INTERVAL, crossed_mean
from winnow.evaluation.measures import Measure, proportion
from winnow.statistics import NORMAL_95, wilson_interval


def accuracy(hit_N: np.ndarray, *, num_classes: int) -> Measure:
    """Of one subset, or of zero-shot: the share of test pictures that it has right."""
    return proportion(hit_N, metric="top1", chance=1 / num_classes)


def accuracy_over_subsets(hits: Sequence[np.ndarray], *, num_classes: int) -> Measure:
    """The mean over subsets; `hits` holds for each which test pictures it has right.

    One subset has no spread: its own Wilson interval over the pictures is given then. So it is
    where every subset has every picture right, or none, and the error is then what it implies.
    """
    if len(hits) == 1:
        return accuracy(hits[0], num_classes=num_classes)
    hit_SN = np.stack(hits).astype(np.float64)
    value, n, chance = float(hit_SN.mean()), hit_SN.shape[1], 1 / num_classes
    if n == 1 or hit_SN.min() == hit_SN.max():
        low, high = wilson_interval(value, n)
        error = (high - low) / (2 * NORMAL_95)
        return Measure("top1", value, error, low, high, "wilson", n, chance)
    found = crossed_mean(hit_SN)
    low, high = max(0.0, value - found.half_width), min(1.0, value + found.half_width)
    return Measure("top1", value, found.standard_error, low, high, INTERVAL, n, chance)
