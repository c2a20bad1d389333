"""The rank of the right answer among all candidates, by cosine: what every protocol here rests on.

    rank_q = 1 + #{ wrong candidates m : cos(q, m) >= max over right candidates of cos(q, ·) }

**A tie counts against the model.** Where a wrong candidate is as close as the right one, the model
has not told them apart, so a model that maps everything to one point scores 0, not 100 %. Cosines
within `TIE` of each other are equal: that is the rounding of a float32 dot product, which differs
between the columns of one matrix product. Right candidates never count against each other.

Q queries, M candidates, D embedding width. Queries are walked in blocks, so memory is bounded by
`block_elements` similarities however large Q and M are.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

TIE = 1e-6
TOP = 5


class Positives(NamedTuple):
    """The right candidates of every query, packed: those of query q are
    `candidates[starts[q]:starts[q + 1]]`; each query has at least one.
    """

    starts: np.ndarray  # int64 (Q + 1,)
    candidates: np.ndarray  # int64


class Ranking(NamedTuple):
    """What a query's answer was."""

    rank_Q: np.ndarray  # int64, 1 is best
    top_QK: np.ndarray  # int64: the K = min(TOP, M) nearest candidates, nearest first
    score_QK: np.ndarray  # float32: their cosines


def one_each(candidate_Q: np.ndarray) -> Positives:
    """Every query has exactly one right candidate."""
    return Positives(np.arange(len(candidate_Q) + 1), np.asarray(candidate_Q, dtype=np.int64))


def from_pairs(query_P: np.ndarray, candidate_P: np.ndarray, *, num_queries: int) -> Positives:
    """From P (query, right candidate) pairs in any order, without repeats."""
    order = np.lexsort((candidate_P, query_P))
    counts = np.bincount(query_P, minlength=num_queries)
    if (counts == 0).any():
        raise ValueError(f"query {int(np.argmin(counts))} has no right candidate")
    return Positives(np.concatenate([[0], np.cumsum(counts)]), candidate_P[order])


def rank(
    query_QD: np.ndarray,
    candidate_MD: np.ndarray,
    positives: Positives,
    *,
    block_elements: int = 2**24,
) -> Ranking:
    """Rank the candidates of every query. Features need not be normalised, but must be finite."""
    candidate_MD = normalised(candidate_MD)
    num_queries, num_candidates = len(query_QD), len(candidate_MD)
    rank_Q = np.empty(num_queries, dtype=np.int64)
    top_QK = np.empty((num_queries, min(TOP, num_candidates)), dtype=np.int64)
    score_QK = np.empty(top_QK.shape, dtype=np.float32)
    for block in _blocks(num_queries, max(1, block_elements // num_candidates)):
        cosine_CM = normalised(query_QD[block]) @ candidate_MD.T
        rank_Q[block] = _ranks(cosine_CM, positives, block)
        top_QK[block], score_QK[block] = _nearest(cosine_CM, top_QK.shape[1])
    return Ranking(rank_Q, top_QK, score_QK)


def normalised(features_QD: np.ndarray) -> np.ndarray:
    """Each row at length 1 (a zero row stays zero), float32. Raises ValueError if not finite."""
    features_QD = np.asarray(features_QD, dtype=np.float32)
    if not np.isfinite(features_QD).all():
        raise ValueError("features are not finite, so nothing can be ranked")
    length_Q1 = np.linalg.norm(features_QD, axis=1, keepdims=True)
    return features_QD / np.maximum(length_Q1, np.finfo(np.float32).tiny)


def _blocks(num_queries: int, size: int) -> Iterator[slice]:
    for start in range(0, num_queries, size):
        yield slice(start, min(start + size, num_queries))


def _ranks(cosine_CM: np.ndarray, positives: Positives, block: slice) -> np.ndarray:
    starts = positives.starts[block.start : block.stop + 1]
    columns = positives.candidates[starts[0] : starts[-1]]
    rows = np.repeat(np.arange(len(cosine_CM)), np.diff(starts))
    right_P, first = cosine_CM[rows, columns], starts[:-1] - starts[0]
    floor_C = np.maximum.reduceat(right_P, first) - np.float32(TIE)
    reached_C = (cosine_CM >= floor_C[:, None]).sum(axis=1)
    right_reached_C = np.add.reduceat((right_P >= floor_C[rows]).astype(np.int64), first)
    return 1 + reached_C - right_reached_C


def _nearest(cosine_CM: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    nearest_CK = np.argpartition(-cosine_CM, count - 1, axis=1)[:, :count]
    # Equal cosines stand in the candidates' order, so that the list depends on nothing else.
    nearest_CK.sort(axis=1)
    score_CK = np.take_along_axis(cosine_CM, nearest_CK, axis=1)
    order_CK = np.argsort(-score_CK, axis=1, kind="stable")
    sort = np.take_along_axis
    return sort(nearest_CK, order_CK, axis=1), sort(score_CK, order_CK, axis=1)
