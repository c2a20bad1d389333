"""Retrieval both ways: recall@k is the share of queries with a right answer among the k nearest.

Pictures may have several captions and captions may repeat, so what is right goes by the words:

- candidates are all pictures, and the **distinct** captions (a repeated caption is one candidate);
- a picture and a caption belong together if the picture has a caption equal to it, so a caption of
  three pictures has three right answers and finding any one is a hit, and so has a picture with
  five captions;
- image to text asks once per picture, text to image once per distinct caption.

Where no caption repeats these are the usual numbers. Chance is computed for each query from its
number p of right answers among M: 1 - C(M - p, k) / C(M, k).
"""

from typing import NamedTuple

import numpy as np

from winnow.evaluation.measures import Measure, share_within
from winnow.evaluation.ranking import Positives, Ranking, from_pairs, rank

RECALL_AT = (1, 5, 10)


class Direction(NamedTuple):
    """One of the two ways to ask."""

    ranking: Ranking
    positives: Positives
    num_candidates: int


class Retrieval(NamedTuple):
    """Both ways."""

    image_to_text: Direction
    text_to_image: Direction


def retrieval(
    image_ND: np.ndarray,
    caption_MD: np.ndarray,
    pair_P2: np.ndarray,
    *,
    block_elements: int = 2**24,
) -> Retrieval:
    """Rank captions for pictures and pictures for captions.

    `pair_P2` holds every (picture, distinct caption) that belong together, each once.
    """
    image_P, caption_P = pair_P2.T

    def ask(query_QD: np.ndarray, candidate_MD: np.ndarray, right: Positives) -> Direction:
        ranking = rank(query_QD, candidate_MD, right, block_elements=block_elements)
        return Direction(ranking, right, len(candidate_MD))

    captions_of = from_pairs(image_P, caption_P, num_queries=len(image_ND))
    images_of = from_pairs(caption_P, image_P, num_queries=len(caption_MD))
    return Retrieval(
        image_to_text=ask(image_ND, caption_MD, captions_of),
        text_to_image=ask(caption_MD, image_ND, images_of),
    )


def retrieval_measures(answer: Retrieval) -> list[Measure]:
    """Recall@1, 5 and 10 both ways; a k that covers all candidates says nothing and is left out."""
    return [
        share_within(
            direction.ranking.rank_Q,
            k,
            metric=f"{name}_recall@{k}",
            chance=recall_chance(direction.positives, k, num_candidates=direction.num_candidates),
        )
        for name, direction in answer._asdict().items()
        for k in RECALL_AT
        if k < direction.num_candidates
    ]


def recall_chance(positives: Positives, k: int, *, num_candidates: int) -> float:
    """Expected recall@k of candidates in random order, averaged over the queries."""
    right_Q = np.diff(positives.starts)
    # C(M - p, k) / C(M, k) = product over i < k of (M - p - i) / (M - i)
    i = np.arange(k)
    miss_Qk = np.maximum(num_candidates - right_Q[:, None] - i, 0) / (num_candidates - i)
    return float(np.mean(1 - miss_Qk.prod(axis=1)))
