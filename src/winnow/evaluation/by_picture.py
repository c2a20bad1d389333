"""Queries of one picture are not independent: a resample draws pictures, each with all its queries.

Of C pictures, the c-th drawn m_c times, with q_c queries of which h_c are hits (Field and Welsh
2007, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69):

    recall = Σ_c m_c h_c / Σ_c m_c q_c
    median = the smallest r with Σ_c m_c #{queries of c: rank <= r} >= ½ Σ_c m_c q_c

Two models are told apart by sign flips: had they been equally good, the gain g_c = h_c' - h_c of
every picture might as well have had the other sign (Fisher 1935), so p is the share of all signs
under which |Σ_c ± g_c| is at least what it is. It is exact: the sum's distribution is a convolution
of binomials, one for each |g|. With one query a picture it is McNemar's test.

M models, Q queries, G groups of pictures that no metric here can tell apart, B resamples.
"""

import numpy as np

from winnow.resampling import BLOCK_COUNTS, Draws, Metric


def share_pictures(picture_Q: np.ndarray) -> bool:
    """Whether some picture has more than one query."""
    return len(np.unique(picture_Q)) < len(picture_Q)


def shares(hit_MQ: np.ndarray, picture_Q: np.ndarray) -> Draws:
    """The share of queries that are hits; pictures of as many queries and hits are one group."""
    asked_C, hit_MC = _by_picture(hit_MQ, picture_Q)
    row_GX, size_G = np.unique(np.stack([asked_C, *hit_MC]).T, axis=0, return_counts=True)
    asked_G, *hit_MG = row_GX.T

    def share(hit_G: np.ndarray) -> Metric:
        return lambda counts_BG: counts_BG @ hit_G / (counts_BG @ asked_G)

    return Draws(size_G, tuple(map(share, hit_MG)))


def medians(rank_MQ: np.ndarray, picture_Q: np.ndarray) -> Draws:
    """The smallest rank that at least half of the queries reach."""
    if not share_pictures(picture_Q):
        rank_MG, size_G = np.unique(rank_MQ, axis=1, return_counts=True)
        place_G = np.arange(len(size_G))
        return Draws(size_G, tuple(_median(rank_G, place_G) for rank_G in rank_MG))
    names_C, place_Q = np.unique(picture_Q, return_inverse=True)
    metrics = tuple(_median(rank_Q, place_Q) for rank_Q in rank_MQ)
    # A draw of pictures becomes one of queries, of which there are more.
    block = BLOCK_COUNTS * len(names_C) // len(picture_Q)
    return Draws(np.ones(len(names_C), dtype=np.int64), metrics, block)


def sign_flip_p_value(hit_2Q: np.ndarray, picture_Q: np.ndarray) -> float:
    """Two-sided exact p of two models that have equally many hits in the long run."""
    _, hit_2C = _by_picture(hit_2Q, picture_Q)
    gain_C = hit_2C[1] - hit_2C[0]
    sizes, counts = np.unique(np.abs(gain_C[gain_C != 0]), return_counts=True)
    # Of gains of one size, X of n are positive: ΣgX is spread over 0 ... Σgn, and the sum is
    # twice that less Σgn.
    chance = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = _coin_flips(count)
        chance = np.convolve(chance, spread)
    total = np.abs(2 * np.arange(len(chance)) - (len(chance) - 1))
    return min(1.0, float(chance[total >= abs(gain_C.sum())].sum()))


def _coin_flips(n: int) -> np.ndarray:
    """Chances of 0 ... n heads; by logarithms, as the coefficients are beyond float64's range."""
    log_factorial = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    return np.exp(log_factorial[-1] - log_factorial - log_factorial[::-1] - n * np.log(2))


def _by_picture(hit_MQ: np.ndarray, picture_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Queries of each picture, each model's hits of each picture), whole numbers."""
    _, place_Q, asked_C = np.unique(picture_Q, return_inverse=True, return_counts=True)
    hits = [np.bincount(place_Q[hit_Q], minlength=len(asked_C)) for hit_Q in hit_MQ]
    return asked_C, np.stack(hits)


def _median(rank_Q: np.ndarray, place_Q: np.ndarray) -> Metric:
    """Of queries that were drawn as often as `place_Q` says of each."""
    order_Q = np.argsort(rank_Q, kind="stable")
    sorted_Q, place_Q = rank_Q[order_Q], place_Q[order_Q]

    def median(counts_BG: np.ndarray) -> np.ndarray:
        up_to_BQ = counts_BG[:, place_Q].cumsum(axis=1)
        return sorted_Q[(2 * up_to_BQ >= up_to_BQ[:, -1:]).argmax(axis=1)]

    return median
