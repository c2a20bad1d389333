"""One number for a method at k shots: the mean over subsets, with Student's t interval.

The subsets are scored on the same test pictures, so the interval says how much the choice of shots
matters, not how much the choice of test pictures does. Where classes are small the subsets share
shots, and the interval is too narrow.
"""

from collections.abc import Sequence

import numpy as np

from winnow.evaluation.measures import Measure, proportion
from winnow.statistics import mean_and_error, t_interval

INTERVAL = "t over subsets"


def accuracy(hit_N: np.ndarray, *, num_classes: int) -> Measure:
    """Of one subset, or of zero-shot: the share of test pictures that it has right."""
    return proportion(hit_N, metric="top1", chance=1 / num_classes)


def accuracy_over_subsets(hits: Sequence[np.ndarray], *, num_classes: int) -> Measure:
    """The mean over subsets; `hits` holds for each which test pictures it has right.

    One subset has no spread: its own Wilson interval over the pictures is given then.
    """
    if len(hits) == 1:
        return accuracy(hits[0], num_classes=num_classes)
    values = [float(np.mean(hit_N)) for hit_N in hits]
    mean, error = mean_and_error(values)
    low, high = t_interval(values)
    low, high = max(0.0, low), min(1.0, high)
    return Measure("top1", mean, error, low, high, INTERVAL, len(hits[0]), 1 / num_classes)
