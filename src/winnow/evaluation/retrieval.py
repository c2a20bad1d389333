"""Retrieval both ways: recall@k is the share of queries with a right answer among the k nearest,
the median rank the rank within which half of the queries have found one.

Pictures may have several captions and captions may repeat, so what is right goes by the words:

- candidates are all pictures, and the **distinct** captions (a repeated caption is one candidate);
- a picture and a caption belong together if the picture has a caption equal to it, so a caption of
  three pictures has three right answers and finding any one is a hit, and so has a picture with
  five captions;
- image to text asks once per picture, text to image once per distinct caption.

Where no caption repeats these are the usual numbers. Chance is computed for each query from its
number p of right answers among M: 1 - C(M - p, k) / C(M, k).

Captions of one picture are found, or not, together. Where a picture has several, intervals are
those of draws of whole pictures (by_picture.py), a caption of several pictures with its first.
"""

import math
from typing import NamedTuple

import numpy as np

from winnow.evaluation.by_picture import medians, share_pictures, shares
from winnow.evaluation.measures import Measure, share_within
from winnow.evaluation.ranking import (
    BLOCK_ELEMENTS,
    Positives,
    Ranking,
    from_pairs,
    rank_both_ways,
)
from winnow.resampling import percentile_interval
from winnow.statistics import standard_error, wilson_interval

RECALL_AT = (1, 5, 10)
RESAMPLES = 1000
OVER_PICTURES = "bootstrap over pictures"


class Direction(NamedTuple):
    """One of the two ways to ask."""

    ranking: Ranking
    positives: Positives
    num_candidates: int
    picture_Q: np.ndarray
    """int64: which picture a query is, or is the caption of; of several the first."""


class Retrieval(NamedTuple):
    """Both ways."""

    image_to_text: Direction
    text_to_image: Direction


def retrieval(
    image_ND: np.ndarray,
    caption_MD: np.ndarray,
    pair_P2: np.ndarray,
    *,
    block_elements: int = BLOCK_ELEMENTS,
    device: str = "cpu",
) -> Retrieval:
    """Rank captions for pictures and pictures for captions.

    `pair_P2` holds every (picture, distinct caption) that belong together, each once.
    """
    image_P, caption_P = pair_P2.T
    captions_of = from_pairs(image_P, caption_P, num_queries=len(image_ND))
    images_of = from_pairs(caption_P, image_P, num_queries=len(caption_MD))
    for_images, for_captions = rank_both_ways(
        image_ND, caption_MD, pair_P2, block_elements=block_elements, device=device
    )
    image_N, first_M = np.arange(len(image_ND)), images_of.candidates[images_of.starts[:-1]]
    return Retrieval(
        image_to_text=Direction(for_images, captions_of, len(caption_MD), image_N),
        text_to_image=Direction(for_captions, images_of, len(image_ND), first_M),
    )


def retrieval_measures(answer: Retrieval) -> list[Measure]:
    """Recall@1, 5 and 10 both ways, where k leaves some candidates out, and the median ranks."""
    measures = []
    for name, direction in answer._asdict().items():
        measures += [
            _recall(direction, k, metric=f"{name}_recall@{k}")
            for k in RECALL_AT
            if k < direction.num_candidates
        ]
        measures.append(median_rank(direction, metric=f"{name}_median_rank"))
    return measures


def _recall(direction: Direction, k: int, *, metric: str) -> Measure:
    chance = recall_chance(direction.positives, k, num_candidates=direction.num_candidates)
    rank_Q, picture_Q = direction.ranking.rank_Q, direction.picture_Q
    if not share_pictures(picture_Q):
        return share_within(rank_Q, k, metric=metric, chance=chance)
    found = shares(rank_Q[None] <= k, picture_Q)
    (value,) = found.values()
    value_B = found.draw(found.metrics[0], resamples=RESAMPLES, seed=0)
    if value_B.min() < value_B.max():
        return _drawn(metric, value, value_B, OVER_PICTURES, len(rank_Q), chance)
    # All captions are found, or none: draws have no width, and Wilson's interval still has.
    pictures = int(found.size_G.sum())
    error, ends = standard_error(value, pictures), wilson_interval(value, pictures)
    return Measure(metric, value, error, *ends, "wilson over pictures", len(rank_Q), chance)


def median_rank(direction: Direction, *, metric: str) -> Measure:
    """The smallest rank that at least half of the queries reach, with its bootstrap interval.

    Of independent queries that is the h-th of the Q ranks in order, h = ceil(Q / 2). A resample
    draws Q ranks by Q uniform numbers, and the h-th of those follows Beta(h, Q + 1 - h): so a
    resample's median is one draw, however many queries there are.
    """
    rank_Q = direction.ranking.rank_Q
    chance = float(_median_rank_chance(direction.positives, direction.num_candidates))
    if share_pictures(direction.picture_Q):
        found = medians(rank_Q[None], direction.picture_Q)
        (value,) = found.values()
        median_B = found.draw(found.metrics[0], resamples=RESAMPLES, seed=0)
        return _drawn(metric, value, median_B, OVER_PICTURES, len(rank_Q), chance)
    ordered_Q = np.sort(rank_Q)
    n = len(ordered_Q)
    half = (n + 1) // 2
    uniform_B = np.random.default_rng((0, n)).beta(half, n + 1 - half, size=RESAMPLES)
    median_B = ordered_Q[np.minimum((uniform_B * n).astype(np.int64), n - 1)]
    return _drawn(metric, float(ordered_Q[half - 1]), median_B, "bootstrap", n, chance)


def _drawn(
    metric: str, value: float, value_B: np.ndarray, interval: str, n: int, chance: float
) -> Measure:
    """With the error and the interval of draws."""
    error = float(value_B.std(ddof=1))
    return Measure(metric, value, error, *percentile_interval(value_B), interval, n, chance)


def recall_chance(positives: Positives, k: int, *, num_candidates: int) -> float:
    """Expected recall@k of candidates in random order, averaged over the queries."""
    return _chance(*_right_answers(positives), k, num_candidates)


def _right_answers(positives: Positives) -> tuple[np.ndarray, np.ndarray]:
    """(Numbers of right answers that occur, how many queries have each)."""
    return np.unique(np.diff(positives.starts), return_counts=True)


def _chance(right_U: np.ndarray, queries_U: np.ndarray, k: int, num_candidates: int) -> float:
    hit_U = [1 - _miss(right, k, num_candidates) for right in right_U.tolist()]
    return float(np.average(hit_U, weights=queries_U))


def _miss(right: int, k: int, num_candidates: int) -> float:
    """C(M - p, k) / C(M, k): none of p right answers is among the first k. Equal if p and k change
    places, so the product has as many factors as the smaller.
    """
    fewer, more = sorted((right, k))
    return math.prod((num_candidates - more - i) / (num_candidates - i) for i in range(fewer))


def _median_rank_chance(positives: Positives, num_candidates: int) -> int:
    """The smallest k whose expected recall is at least one half."""
    right_U, queries_U = _right_answers(positives)
    low, high = 1, num_candidates
    while low < high:
        middle = (low + high) // 2
        if _chance(right_U, queries_U, middle, num_candidates) >= 0.5:
            high = middle
        else:
            low = middle + 1
    return low
