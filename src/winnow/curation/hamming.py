"""Near neighbours among 64-bit hashes, exactly: all within a radius of so many different bits.

Pigeonholes: cut the 64 bits into `m` blocks. Two hashes at most `r` bits apart agree in at least
`m - r` blocks, so a table for every choice of `m - r` blocks, keyed by their bits, brings each such
pair together in at least one table (Manku, Jain and Das Sarma, "Detecting near-duplicates for web
crawling", 2007). Few tables have short keys and many chance candidates; many have long ones. How
many blocks cost least is estimated on a sample of the hashes themselves.

With `n` hashes that are spread as chance would have it, candidates are few and the cost is that of
sorting: O(T n log n) for T tables. Memory is 12 T bytes a hash in an index, at most 100 bytes a
hash while those are chosen that are kept, and 100 MB for candidates, which are made and compared in
pieces. A crowd of hashes near each other is thinned out as it is gone through, so it costs no
square. Where very many agree in most blocks and still are not near each other, time grows with
their square; nothing is skipped then.
"""

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from winnow.types import InputError

MAX_RADIUS = 10
"""Beyond it, tables are hundreds and pictures are not alike."""

_CANDIDATES = 1 << 21  # compared at a time
_MAX_TABLES = 128
_SAMPLE = 1 << 14
_FEW_PAIRS = 1 << 21  # that may be held at a time, whatever the number of hashes


def check_radius(radius: int, *, of: str) -> None:
    """Raise InputError where the radius that somebody gave is out of range."""
    if not 0 <= radius <= MAX_RADIUS:
        raise InputError(f"{of}(radius={radius}): a radius is 0 to {MAX_RADIUS} bits of 64")


class Neighbours(NamedTuple):
    """For each of the hashes that were asked for, the nearest one of the index."""

    place: np.ndarray
    """int64: its place in the index, the first of equally near ones; -1 where none is near."""
    distance: np.ndarray
    """int64: in how many bits it differs; -1 where none is near."""


class HammingIndex:
    """Hashes, in order, among which those near others can be found."""

    def __init__(self, hashes: np.ndarray, *, radius: int) -> None:
        assert 0 <= radius <= MAX_RADIUS, radius
        assert len(hashes) < 1 << 32, "places are held in 32 bits"
        self.hashes = np.ascontiguousarray(hashes, dtype=np.uint64)
        self.radius = radius
        self._tables = [_Table.of(self.hashes, mask) for mask in _choose_masks(hashes, radius)]

    def nearest(self, hashes: np.ndarray) -> Neighbours:
        """The nearest within the radius, of each of `hashes`."""
        distinct, back = np.unique(np.asarray(hashes, dtype=np.uint64), return_inverse=True)
        # Distance before place: the least of these numbers is the first of the nearest ones.
        nothing = np.int64((self.radius + 1) << 32)
        best = np.full(len(distinct), nothing)
        for table in self._tables:
            keys = distinct & table.mask
            start = np.searchsorted(table.keys, keys, side="left")
            stop = np.searchsorted(table.keys, keys, side="right")
            for asked, slots in _spread(start, stop):
                places = table.places[slots]
                distance = np.bitwise_count(distinct[asked] ^ self.hashes[places]).astype(np.int64)
                near = distance <= self.radius
                np.minimum.at(best, asked[near], (distance[near] << 32) | places[near])
        found = best[back]
        is_near = found < nothing
        return Neighbours(
            place=np.where(is_near, found & 0xFFFFFFFF, -1),
            distance=np.where(is_near, found >> 32, -1),
        )


def choose_apart(hashes: np.ndarray, *, radius: int) -> np.ndarray:
    """bool: which hashes are kept if each, in order, is dropped when a kept one is near it.

    Being near is not transitive, so the order decides. What is dropped is near something that is
    kept, and no two that are kept are near each other.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    _, first = np.unique(hashes, return_index=True)
    kept = np.zeros(len(hashes), dtype=bool)
    kept[_settle(hashes, np.sort(first), radius)] = True
    return kept


def _settle(hashes: np.ndarray, rows: np.ndarray, radius: int) -> np.ndarray:
    """Those of `rows`, which ascend and differ in their hashes, that are kept among themselves."""
    if radius == 0 or len(rows) < 2:
        return rows
    pairs = _near_pairs(hashes[rows], radius)
    if pairs is not None:
        return rows[_keep_first(pairs, len(rows))]
    # A crowd: the few that are kept of its first half sweep most of its second half away.
    half = len(rows) // 2
    before = _settle(hashes, rows[:half], radius)
    index = HammingIndex(hashes[before], radius=radius)
    after = rows[half:]
    free = index.nearest(hashes[after]).place < 0
    return np.concatenate([before, _settle(hashes, after[free], radius)])


def _near_pairs(hashes: np.ndarray, radius: int) -> np.ndarray | None:
    """int64 (P, 2): the places of all near pairs, earlier first; None where they are too many.

    Of a few hashes they are never too many.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    total = 0
    most = max(_FEW_PAIRS, 4 * len(hashes))
    are_few = len(hashes) * (len(hashes) - 1) // 2 <= _FEW_PAIRS
    for mask in _choose_masks(hashes, radius):
        table = _Table.of(hashes, mask)
        slot = np.arange(len(hashes))
        stop = np.searchsorted(table.keys, table.keys, side="right")
        for one, other in _spread(slot + 1, stop):
            places = np.stack([table.places[one], table.places[other]], axis=1).astype(np.int64)
            near = np.bitwise_count(hashes[places[:, 0]] ^ hashes[places[:, 1]]) <= radius
            # Equal keys are sorted by place, so the earlier one stands first.
            found.append(places[near])
            total += len(found[-1])
            if total > most and not are_few:
                return None
            if total > 2 * most:
                found, total = [np.unique(np.concatenate(found), axis=0)], 0
    return np.unique(np.concatenate(found), axis=0)


def _keep_first(pairs: np.ndarray, count: int) -> np.ndarray:
    """bool: what is kept, going through sorted `pairs` in order."""
    kept = np.ones(count, dtype=bool)
    firsts, starts = np.unique(pairs[:, 0], return_index=True)
    for first, later in zip(firsts.tolist(), np.split(pairs[:, 1], starts[1:]), strict=False):
        if kept[first]:
            kept[later] = False
    return kept


class _Table(NamedTuple):
    """Hashes sorted by the bits of a mask, and by place where these agree."""

    mask: np.uint64
    keys: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, mask: np.uint64) -> "_Table":
        keys = hashes & mask
        places = np.argsort(keys, kind="stable").astype(np.uint32)
        return cls(mask, keys[places], places)


def _spread(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All (i, slot) with start[i] <= slot < stop[i], in pieces of bounded length."""
    ends = np.cumsum(stop - start)
    total = int(ends[-1]) if len(ends) else 0
    for first in range(0, total, _CANDIDATES):
        number = np.arange(first, min(first + _CANDIDATES, total))
        i = np.searchsorted(ends, number, side="right")
        yield i, stop[i] - ends[i] + number


def _choose_masks(hashes: np.ndarray, radius: int) -> list[np.uint64]:
    """The masks of the cheapest number of blocks."""
    if radius == 0:
        return [np.uint64(0xFFFFFFFFFFFFFFFF)]
    # Strided, not drawn: the choice is a function of the hashes, and it decides the cost alone.
    sample = np.asarray(hashes[:: max(1, len(hashes) // _SAMPLE)], dtype=np.uint64)
    plans = [
        _masks(blocks, radius)
        for blocks in range(radius + 1, radius + 6)
        if comb(blocks, radius) <= _MAX_TABLES or blocks == radius + 1
    ]
    return min(plans, key=lambda masks: _cost(masks, sample, len(hashes)))


def _masks(blocks: int, radius: int) -> list[np.uint64]:
    """A mask for every choice of blocks in which two near hashes might agree."""
    # Bits are dealt out in turn: neighbours (all those of colour, say) often agree by themselves.
    block = [sum(1 << bit for bit in range(start, 64, blocks)) for start in range(blocks)]
    return [np.uint64(sum(chosen)) for chosen in combinations(block, blocks - radius)]


def _cost(masks: list[np.uint64], sample: np.ndarray, count: int) -> float:
    """About how many steps `count` hashes like those of the sample take."""
    candidates = 0.0
    for mask in masks[:: max(1, len(masks) // 8)]:
        _, sizes = np.unique(sample & mask, return_counts=True)
        bits = int(mask).bit_count()
        # What chance adds beyond the sample's resolution, and what the sample shows.
        agree = (float((sizes.astype(np.float64) ** 2).sum()) - len(sample)) / max(
            1, len(sample) * (len(sample) - 1)
        )
        candidates += count / 2 * max(agree, 0.5**bits)
    candidates *= len(masks) / len(masks[:: max(1, len(masks) // 8)])
    return count * (candidates + len(masks) * max(1.0, np.log2(max(2, count))))
