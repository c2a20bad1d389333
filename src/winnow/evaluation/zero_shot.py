"""Zero-shot classification (Radford et al. 2021, 3.1): a picture's class is the one whose text
embedding is nearest. The text embedding of a class is its prompt ensemble (embed.py).
"""

from collections.abc import Sequence

import numpy as np

from winnow.evaluation.measures import Measure, bootstrapped, effective_samples, share_within
from winnow.evaluation.ranking import BLOCK_ELEMENTS, Ranking, one_each, rank
from winnow.resampling import bootstrap_groups


def zero_shot(
    image_ND: np.ndarray,
    class_KD: np.ndarray,
    label_N: np.ndarray,
    *,
    block_elements: int = BLOCK_ELEMENTS,
    device: str = "cpu",
) -> Ranking:
    """Rank all K classes for each of N pictures; `label_N` holds the true class of each."""
    right = one_each(label_N)
    return rank(image_ND, class_KD, right, block_elements=block_elements, device=device)


def first_of_a_name(ranking: Ranking, label_N: np.ndarray, classnames: Sequence[str]) -> Ranking:
    """The same where classes of one name are told apart by their order, as an argmax does.

    ImageNet's usual names have "missile" and "sunglasses" twice. No model can tell such classes
    apart; a tie with a later one of the name does not count against the first.
    """
    names = np.asarray(classnames, dtype=object)
    later_K = np.array([(names[k + 1 :] == name).sum() for k, name in enumerate(names)])
    return ranking._replace(rank_Q=ranking.rank_Q - later_K[label_N])


def zero_shot_measures(ranking: Ranking, label_N: np.ndarray, *, num_classes: int) -> list[Measure]:
    """Top-1, top-5 (only where there are more than 5 classes) and the mean over classes.

    Chance is k / K.
    """
    measures = [share_within(ranking.rank_Q, 1, metric="top1", chance=1 / num_classes)]
    if num_classes > 5:
        measures.append(share_within(ranking.rank_Q, 5, metric="top5", chance=5 / num_classes))
    return [*measures, mean_per_class(ranking.rank_Q == 1, label_N, num_classes=num_classes)]


def mean_per_class(hit_N: np.ndarray, label_N: np.ndarray, *, num_classes: int) -> Measure:
    """Top-1 of every class that occurs, averaged, each class weighing alike; n is their number.

    It is the mean over pictures that weigh 1 / (pictures of their class), and the bootstrap draws
    pictures with that weight. So a class of one picture is not lost from most resamples, and where
    all classes have equally many pictures the interval is that of top-1.
    """
    count_K = np.bincount(np.asarray(label_N), minlength=num_classes)
    hits_K = np.bincount(np.asarray(label_N), weights=hit_N, minlength=num_classes).astype(np.int64)
    occurs = count_K > 0
    count_K, hits_K = count_K[occurs], hits_K[occurs]
    weight_K = 1 / count_K
    # Pictures of one class that are both right, or both wrong, are the same to the metric.
    size_G = np.concatenate([hits_K, count_K - hits_K])

    def metric(drawn_BG: np.ndarray) -> np.ndarray:
        right_B = drawn_BG[:, : len(hits_K)] @ weight_K
        return right_B / (right_B + drawn_BG[:, len(hits_K) :] @ weight_K)

    return bootstrapped(
        "mean_per_class",
        float((hits_K / count_K).mean()),
        bootstrap_groups(metric, size_G),
        n=len(count_K),
        chance=1 / num_classes,
        samples=effective_samples(np.repeat(weight_K, count_K)),
        over="weighted pictures",
    )
