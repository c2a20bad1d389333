"""The rank of the right answer among all candidates, by cosine: what every protocol here rests on.

    rank_q = 1 + #{ wrong candidates m : cos(q, m) >= max over right candidates of cos(q, ·) }

**A tie counts against the model.** Where a wrong candidate is as close as the right one, the model
has not told them apart, so a model that maps everything to one point scores 0, not 100 %. Cosines
within `TIE` of each other are equal: that is the rounding of a float32 dot product, which differs
between the columns of one matrix product. Right candidates never count against each other.

Q queries, M candidates, D embedding width; in a tile R rows and C columns. The best right cosine of
every query comes first, from the right pairs alone; then each tile of cosines is made once, counted
and forgotten. Where both sides ask (retrieval), the same tile is counted along its rows and along
its columns. Memory beside the features is a few tiles, however large Q and M are; features are
normalised block by block, so those that are memory-mapped stay on disk.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TIE = 1e-6
TOP = 5
BLOCK_ELEMENTS = 2**22
"""Cosines in a tile: 16 MiB."""
GROUP = 32
"""Candidates that share a maximum when the nearest are looked for; its value changes no result."""


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
    block_elements: int = BLOCK_ELEMENTS,
    device: str = "cpu",
) -> Ranking:
    """Rank the candidates of every query. Features need not be normalised, but must be finite."""
    query_P = np.repeat(np.arange(len(query_QD)), np.diff(positives.starts))
    walk = _Walk(query_QD, candidate_MD, query_P, positives.candidates, block_elements, device)
    tally = _Tally(walk.best_rows(), num_candidates=len(candidate_MD), dim=1)
    for tile in walk.tiles():
        tally.add(tile, tile.rows, tile.right_row_P, first_candidate=tile.columns.start)
    return tally.ranking()


def rank_both_ways(
    left_ND: np.ndarray,
    right_MD: np.ndarray,
    pair_P2: np.ndarray,
    *,
    block_elements: int = BLOCK_ELEMENTS,
    device: str = "cpu",
) -> tuple[Ranking, Ranking]:
    """(Ranking of the right for each left, of the left for each right), every cosine made once.

    `pair_P2` holds every (left, right) that belong together, each once, in any order.
    """
    by_left = from_pairs(pair_P2[:, 0], pair_P2[:, 1], num_queries=len(left_ND))
    left_P = np.repeat(np.arange(len(left_ND)), np.diff(by_left.starts))
    walk = _Walk(left_ND, right_MD, left_P, by_left.candidates, block_elements, device)
    for_left = _Tally(walk.best_rows(), num_candidates=len(right_MD), dim=1)
    for_right = _Tally(walk.best_columns(), num_candidates=len(left_ND), dim=0)
    for tile in walk.tiles():
        for_left.add(tile, tile.rows, tile.right_row_P, first_candidate=tile.columns.start)
        for_right.add(tile, tile.columns, tile.right_column_P, first_candidate=tile.rows.start)
    return for_left.ranking(), for_right.ranking()


def rank_scores(score_NK: np.ndarray, label_N: np.ndarray) -> Ranking:
    """The same of scores that are there already, such as a classifier's logits, float32.

    They have no common scale, so only equal ones tie; a tie counts against the classifier here too.
    """
    own_N1 = np.take_along_axis(score_NK, label_N[:, None], axis=1)
    # The true class reaches its own score, and so counts as the 1 of the rank.
    rank_N = (score_NK >= own_N1).sum(axis=1)
    # Equal scores stand in the classes' order.
    top_NT = np.argsort(-score_NK, axis=1, kind="stable")[:, :TOP]
    return Ranking(rank_N, top_NT, np.take_along_axis(score_NK, top_NT, axis=1))


def normalised(features_QD: np.ndarray) -> np.ndarray:
    """Each row at length 1 (a zero row stays zero), float32. Raises ValueError if not finite."""
    return unit_rows(features_QD).numpy()


def unit_rows(features_QD: np.ndarray, *, device: str = "cpu") -> Tensor:
    """The same as a tensor of its own on `device`."""
    features = torch.tensor(np.asarray(features_QD), dtype=torch.float32, device=device)
    length_Q1 = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    # What is not finite in a row is not finite in its length.
    if not torch.isfinite(length_Q1).all():
        raise ValueError("features (or their lengths) are not finite, so nothing can be ranked")
    return features.div_(length_Q1.clamp_min_(torch.finfo(torch.float32).tiny))


class _Tile(NamedTuple):
    """A block of rows against a block of columns, and which of its cosines are right ones."""

    rows: slice
    columns: slice
    cosine_RC: Tensor
    right_row_P: Tensor  # counted from the tile's first row, as are columns
    right_column_P: Tensor
    scratch_RC: Tensor


class _Walk:
    """All tiles of left x right. Pairs are sorted by their left."""

    def __init__(
        self,
        left_ND: np.ndarray,
        right_MD: np.ndarray,
        left_P: np.ndarray,
        right_P: np.ndarray,
        block_elements: int,
        device: str,
    ) -> None:
        self._left_ND, self._right_MD = left_ND, right_MD
        self._left_P, self._right_P = left_P, right_P
        self._block_elements, self._device = block_elements, device
        self._cosine_P = torch.cat([self._pair_cosines(block) for block in self._pair_blocks()])

    def best_rows(self) -> Tensor:
        """Per left, the highest cosine of its pairs."""
        return self._best(self._left_P, len(self._left_ND))

    def best_columns(self) -> Tensor:
        """Per right, the highest cosine of its pairs."""
        return self._best(self._right_P, len(self._right_MD))

    def tiles(self) -> Iterator[_Tile]:
        """Every tile once, row block by row block."""
        num_rows, num_columns = len(self._left_ND), len(self._right_MD)
        width = self._left_ND.shape[1]
        # Neither the tile nor a block of features exceeds the given number of elements.
        most = max(1, self._block_elements // max(width, 1))
        size_C = max(1, min(num_columns, math.isqrt(self._block_elements), most))
        size_R = max(1, min(num_rows, self._block_elements // size_C, most))
        scratch = torch.empty(size_R * size_C, device=self._device)
        for rows in _blocks(num_rows, size_R):
            left_RD = unit_rows(self._left_ND[rows], device=self._device)
            pairs = slice(*np.searchsorted(self._left_P, (rows.start, rows.stop)))
            order = pairs.start + np.argsort(self._right_P[pairs], kind="stable")
            left_P, right_P = self._left_P[order] - rows.start, self._right_P[order]
            for columns in _blocks(num_columns, size_C):
                right_CD = unit_rows(self._right_MD[columns], device=self._device)
                inside = slice(*np.searchsorted(right_P, (columns.start, columns.stop)))
                cosine_RC = left_RD @ right_CD.T
                yield _Tile(
                    rows,
                    columns,
                    cosine_RC,
                    self._index(left_P[inside]),
                    self._index(right_P[inside] - columns.start),
                    scratch[: cosine_RC.numel()].view_as(cosine_RC),
                )

    def _pair_blocks(self) -> Iterator[slice]:
        width = self._left_ND.shape[1]
        return _blocks(len(self._left_P), max(1, self._block_elements // max(width, 1)))

    def _pair_cosines(self, pairs: slice) -> Tensor:
        left_PD = unit_rows(self._left_ND[self._left_P[pairs]], device=self._device)
        right_PD = unit_rows(self._right_MD[self._right_P[pairs]], device=self._device)
        return left_PD.mul_(right_PD).sum(dim=1)

    def _best(self, query_P: np.ndarray, num_queries: int) -> Tensor:
        best_Q = torch.full((num_queries,), -torch.inf, device=self._device)
        return best_Q.scatter_reduce_(0, self._index(query_P), self._cosine_P, "amax")

    def _index(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(self._device)


class _Tally:
    """What the tiles say so far about the queries that stand along their rows (candidates along
    `dim` 1) or along their columns (`dim` 0). Lists lie as the tiles do.
    """

    def __init__(self, best_Q: Tensor, *, num_candidates: int, dim: int) -> None:
        self._dim, self._count = dim, min(TOP, num_candidates)
        self._floor_Q = best_Q - TIE
        self._reached_Q = torch.zeros_like(best_Q, dtype=torch.int64)
        # (Q, K) or (K, Q)
        shape = (len(best_Q), self._count) if dim == 1 else (self._count, len(best_Q))
        self._score = torch.full(shape, -torch.inf, device=best_Q.device)
        self._top = torch.full(shape, -1, device=best_Q.device)

    def add(self, tile: _Tile, queries: slice, right_P: Tensor, *, first_candidate: int) -> None:
        """Count a tile; `right_P` says which of its queries each right cosine belongs to."""
        dim, floor_Q = self._dim, self._floor_Q[queries]
        # As floats, for a sum of booleans takes ten times as long; below 2^24 they are exact.
        torch.ge(tile.cosine_RC, floor_Q.unsqueeze(dim), out=tile.scratch_RC)
        reached_Q = self._reached_Q[queries]
        reached_Q += tile.scratch_RC.sum(dim).long()
        # Right cosines are judged as the tile has them, or rounding would leave some counted.
        right_reached_P = tile.scratch_RC[tile.right_row_P, tile.right_column_P].long()
        reached_Q.index_add_(0, right_P, right_reached_P, alpha=-1)
        score, top = _nearest(tile.cosine_RC, self._count, dim=dim)
        narrow = (queries,) if dim == 1 else (slice(None), queries)
        score = torch.cat([self._score[narrow], score], dim)
        top = torch.cat([self._top[narrow], top + first_candidate], dim)
        self._score[narrow], place = score.topk(self._count, dim=dim)
        self._top[narrow] = top.gather(dim, place)

    def ranking(self) -> Ranking:
        """The result, once every tile was added."""
        top_QK, score_QK = self._top, self._score
        if self._dim == 0:
            top_QK, score_QK = top_QK.T, score_QK.T
        # Equal cosines stand in the candidates' order.
        top_QK, place = top_QK.sort(dim=1)
        score_QK, order = score_QK.gather(1, place).sort(dim=1, descending=True, stable=True)
        return Ranking(
            (1 + self._reached_Q).cpu().numpy(),
            top_QK.gather(1, order).cpu().numpy(),
            score_QK.cpu().numpy(),
        )


def _nearest(cosine_RC: Tensor, count: int, *, dim: int) -> tuple[Tensor, Tensor]:
    """(Cosines, positions) of the `count` highest along `dim`, or of all if there are fewer.

    They lie in the `count` groups of the highest maxima, so only those, a fraction of the
    candidates, are sorted: a third of the time that topk takes along rows, a tenth along columns.
    """
    size = cosine_RC.shape[dim]
    num_groups = size // GROUP
    if num_groups <= 4 * count:
        return cosine_RC.topk(min(count, size), dim=dim)
    # Member j of group g stands at j * num_groups + g; what is over is looked at in any case.
    grouped = cosine_RC.narrow(dim, 0, GROUP * num_groups).unflatten(dim, (GROUP, num_groups))
    group = grouped.amax(dim).topk(count, dim=dim).indices
    member = torch.arange(GROUP, device=cosine_RC.device) * num_groups
    rest = torch.arange(GROUP * num_groups, size, device=cosine_RC.device)
    if dim == 1:
        places = (group[:, :, None] + member).flatten(1)
        rest = rest.expand(len(cosine_RC), -1)
    else:
        places = (group[:, None, :] + member[:, None]).flatten(0, 1)
        rest = rest[:, None].expand(-1, cosine_RC.shape[1])
    position = torch.cat([places, rest], dim)
    score, place = cosine_RC.gather(dim, position).topk(count, dim=dim)
    return score, position.gather(dim, place)


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
