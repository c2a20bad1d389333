"""Doubts: the pairs that a model believes least, and what it would rather say of them.

Which pairs these are is what training said (`data/audit.py`); what the model would rather say is
asked of the trained model, among all distinct captions and among all pictures of the selection:

    rather_q = the 3 candidates m != own(q) with the highest cos(q, m)
    rank_q   = 1 + #{ m != own(q) : cos(q, m) >= cos(q, own(q)) - 1e-6 }

A model that would give the pair as it is has rank 1, and then what stands beside is merely next.

Q queries, M candidates, D the width of the joint space.
"""

from typing import NamedTuple

import numpy as np

from winnow.evaluation.ranking import normalised, one_each, rank

OTHERS = 3
"""How many other candidates are told of."""


class Rather(NamedTuple):
    """What a model would rather give each query than its own; nearest first."""

    own_Q: np.ndarray
    """float32: cosine to its own."""
    rank_Q: np.ndarray
    """int64: of its own among all M, 1 is best; a tie counts against it."""
    other_QO: np.ndarray
    """int64: the nearest others, OTHERS of them or all M - 1 if there are fewer."""
    cosine_QO: np.ndarray
    """float32: their cosines."""


def least_believed(
    late_N: np.ndarray, margin_N: np.ndarray, mean_N: np.ndarray, *, count: int
) -> np.ndarray:
    """int64: the `count` pairs believed least, in order.

    By the own pair's probability over the run's second half, then by margin, then by the
    probability over all of it; what is not known (NaN) comes last.
    """
    keys = [np.nan_to_num(key, nan=np.inf) for key in (mean_N, margin_N, late_N)]
    return np.lexsort(keys)[:count].astype(np.int64)


def rather(
    query_QD: np.ndarray, candidate_MD: np.ndarray, own_Q: np.ndarray, *, device: str = "cpu"
) -> Rather:
    """The candidates nearest to each query beside its own one, `own_Q` (int64).

    Features need not be normalised, but must be finite; those that are memory-mapped stay on disk.
    """
    ranking = rank(query_QD, candidate_MD, one_each(own_Q), device=device)
    is_own_QK = ranking.top_QK == own_Q[:, None]
    # Stable: the others keep their order, and the own one goes to the end.
    others_QO = np.argsort(is_own_QK, axis=1, kind="stable")
    others_QO = others_QO[:, : min(OTHERS, len(candidate_MD) - 1)]
    own_QD = normalised(candidate_MD[own_Q])
    return Rather(
        own_Q=np.einsum("qd,qd->q", normalised(query_QD), own_QD),
        rank_Q=ranking.rank_Q,
        other_QO=np.take_along_axis(ranking.top_QK, others_QO, axis=1),
        cosine_QO=np.take_along_axis(ranking.score_QK, others_QO, axis=1),
    )
