"""Zero-shot classification (Radford et al. 2021, 3.1): a picture's class is the one whose text
embedding is nearest. The text embedding of a class is its prompt ensemble (embed.py).
"""

import numpy as np

from winnow.evaluation.measures import Measure, share_within
from winnow.evaluation.ranking import Ranking, one_each, rank


def zero_shot(
    image_ND: np.ndarray,
    class_KD: np.ndarray,
    label_N: np.ndarray,
    *,
    block_elements: int = 2**24,
) -> Ranking:
    """Rank all K classes for each of N pictures; `label_N` holds the true class of each."""
    return rank(image_ND, class_KD, one_each(label_N), block_elements=block_elements)


def zero_shot_measures(ranking: Ranking, label_N: np.ndarray, *, num_classes: int) -> list[Measure]:
    """Top-1, top-5 (only where there are more than 5 classes) and the mean over classes.

    Chance is k / K. The mean over classes weighs every class that occurs alike; its standard
    error is that of a mean over classes, so it also says how much another choice of classes might
    change it. With one class there is no such error, and none is reported (0).
    """
    measures = [share_within(ranking.rank_Q, 1, metric="top1", chance=1 / num_classes)]
    if num_classes > 5:
        measures.append(share_within(ranking.rank_Q, 5, metric="top5", chance=5 / num_classes))
    return [*measures, _mean_per_class(ranking.rank_Q == 1, label_N, num_classes)]


def _mean_per_class(hit_N: np.ndarray, label_N: np.ndarray, num_classes: int) -> Measure:
    count_K = np.bincount(label_N, minlength=num_classes)
    hits_K = np.bincount(label_N, weights=hit_N, minlength=num_classes)
    recalls = hits_K[count_K > 0] / count_K[count_K > 0]
    n = len(recalls)
    error = float(recalls.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return Measure("mean_per_class", float(recalls.mean()), error, n, 1 / num_classes)
