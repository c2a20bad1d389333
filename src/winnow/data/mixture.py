"""The mixture: several selections trained on as one, each with its share of the positions.

Positions are cut into blocks of L. With the weights' cumulative sums W_k (exact fractions, the last
one 1), source k has in the first b blocks

    n_k(b) = floor(b L W_k) - floor(b L W_{k-1})

positions: within 1 of its weight of them, whatever b. Within a block chance keyed by (seed, block)
says which positions are whose. Each source walks through an endless order of its own: a small one
begins its next epoch while a large one is still in its first. All of it is a function of counts,
weights and seed; memory is that of the sources' orders and of one block.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from winnow.data.order import Order, Places, Recent, mixed, permuted
from winnow.data.selection import KeptSample, Selection
from winnow.types import InputError

BLOCK = 4096
"""Positions of a block."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedOrder:
    """The endless sequence of the rows of several sources; its length is all of their rows once."""

    orders: tuple[Order, ...]
    """Of each source by itself; rows of the mixture are numbered through them."""
    weights: tuple[Fraction, ...]
    """What part of the positions is each source's; they sum to 1."""
    seed: int
    """Another seed is another order."""
    block: int = BLOCK
    """Positions after which every source has had its share."""
    _recent: Recent = field(default_factory=Recent, init=False, repr=False)

    def __post_init__(self) -> None:
        assert sum(self.weights) == 1 and len(self.weights) == len(self.orders)
        assert min(self.weights) * self.block >= 1, "a share of a block would be less than nothing"

    def __len__(self) -> int:
        return sum(map(len, self.orders))

    def places(self, positions: np.ndarray) -> Places:
        """What stands at `positions` (int64, 0 or more)."""
        blocks, offsets = np.divmod(positions, self.block)
        sources, own = np.empty_like(offsets), np.empty_like(offsets)
        for block in np.unique(blocks):
            here = blocks == block
            sources[here], own[here] = self._dealt(int(block))[:, offsets[here]]
        rows, epochs = np.empty_like(offsets), np.empty_like(offsets)
        for source in np.unique(sources):
            here = sources == source
            found = self.orders[source].places(own[here])
            rows[here], epochs[here] = found.rows + self._first_rows[source], found.epochs
        return Places(rows, epochs, sources)

    def next_runs(self, first_position: int, last_position: int) -> np.ndarray:
        """The runs to announce while positions [first, last) are read: see `Order.next_runs`.

        Each source is announced one window of its own ahead.
        """
        spans = self._spans(first_position, last_position)
        return self._numbered([order.next_runs(*span) for order, span in spans])

    def first_runs(self, first_position: int, last_position: int) -> np.ndarray:
        """The same where reading begins at `first_position`: see `Order.first_runs`."""
        spans = self._spans(first_position, last_position)
        return self._numbered([order.first_runs(*span) for order, span in spans])

    def counts(self, position: int) -> list[int]:
        """How many of the positions before `position` are each source's."""
        block, offset = divmod(position, self.block)
        sources = self._dealt(block)[0, :offset]
        inside = np.bincount(sources, minlength=len(self.orders)).tolist()
        return [n + own for n, own in zip(self._counts_of_blocks(block), inside, strict=True)]

    def _spans(self, first: int, last: int) -> Iterator[tuple[Order, tuple[int, int]]]:
        """Each source's order with the positions in it that lie in [first, last) of the mixture."""
        counts = zip(self.counts(first), self.counts(last), strict=True)
        return zip(self.orders, counts, strict=True)

    @cached_property
    def _first_rows(self) -> list[int]:
        return [sum(map(len, self.orders[:source])) for source in range(len(self.orders))]

    def _numbered(self, runs: list[np.ndarray]) -> np.ndarray:
        pairs = zip(runs, self._first_rows, strict=True)
        return np.concatenate([own + first for own, first in pairs])

    def _counts_of_blocks(self, blocks: int) -> list[int]:
        """n_k of the module's equation, for each source k."""
        sums = [sum(self.weights[: k + 1], Fraction()) for k in range(len(self.weights))]
        ends = [math.floor(blocks * self.block * end) for end in sums]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def _dealt(self, block: int) -> np.ndarray:
        """Of each position of a block its source and the position in that source's own order.

        int64 (2, positions).
        """
        return self._recent.get(("block", block, 0), lambda: self._deal(block))

    def _deal(self, block: int) -> np.ndarray:
        before, after = self._counts_of_blocks(block), self._counts_of_blocks(block + 1)
        counts = np.subtract(after, before)
        in_turn = np.repeat(np.arange(len(counts)), counts)
        own = np.concatenate([np.arange(*span) for span in zip(before, after, strict=True)])
        seats = permuted(np.arange(self.block), (self.seed, block, 2))
        sources, positions = np.empty_like(in_turn), np.empty_like(own)
        sources[seats] = in_turn
        # A source's seats in their order, so that its own positions ascend as those do.
        positions[np.argsort(sources, kind="stable")] = own
        return np.stack([sources, positions])


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Several selections as one, each with its part of what is seen."""

    names: tuple[str, ...]
    """What each source is called."""
    selections: tuple[Selection, ...]
    weights: tuple[Fraction, ...]
    """What part of the pairs is of each; they sum to 1."""

    def __len__(self) -> int:
        return sum(map(len, self.selections))

    @classmethod
    def of(
        cls, sources: Mapping[str, Selection], weights: Mapping[str, float] | None = None
    ) -> "Mixture":
        """The mixture of `sources`, by name; `weights` in any unit, or else by their sizes.

        Raises InputError where a source is empty, or weights name other sources, are not above 0,
        or leave a source less than one pair in a block.
        """
        for name, selection in sources.items():
            if not len(selection):
                raise InputError(f"the source {name!r} holds no pairs: {selection.description}")
        shares = _by_size(sources) if weights is None else _by_weight(sources, weights)
        total = sum(shares.values())
        for name, share in shares.items():
            if share / total * BLOCK < 1:
                raise InputError(
                    f"the source {name!r} would have {float(share / total):.2g} of the pairs, less "
                    f"than one in {BLOCK:,}: give it a larger weight, or leave it out"
                )
        return cls(
            names=tuple(sources),
            selections=tuple(sources.values()),
            weights=tuple(share / total for share in shares.values()),
        )

    @property
    def fingerprint(self) -> str:
        """sha256 over the selections' fingerprints and their weights: what a resumed run compares.

        What they are called is not in it.
        """
        parts = [[selection.fingerprint for selection in self.selections]]
        parts.append([str(weight) for weight in self.weights])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def description(self) -> str:
        """What messages call it."""
        parts = zip(self.names, self.weights, self.selections, strict=True)
        listed = (f"{float(w):.1%} {name} ({part.directory})" for name, w, part in parts)
        return f"the mixture of {', '.join(listed)}"

    @property
    def is_weighted(self) -> bool:
        """Whether some pairs of a source count less in the loss than others."""
        return any(selection.is_weighted for selection in self.selections)

    @property
    def largest_batch(self) -> int:
        """The most pairs a batch may have: with more, it would hold a source more than once.

        At the border of a source's epochs a pair may be in one batch twice with fewer, too; with
        `mask.same_image` it is then no negative of itself.
        """
        parts = zip(self.selections, self.weights, strict=True)
        return min(math.floor(len(part) / weight) for part, weight in parts)

    def order(self, seed: int) -> MixedOrder:
        """The order in which training with `seed` sees its rows."""
        orders = [
            selection.order(_seed_of(seed, source))
            for source, selection in enumerate(self.selections)
        ]
        return MixedOrder(orders=tuple(orders), weights=self.weights, seed=seed)

    def samples(self, rows: np.ndarray) -> list[KeptSample]:
        """The samples of `rows` (int64, numbered through the sources), in their order."""
        ends = np.cumsum([len(selection) for selection in self.selections])
        sources = np.searchsorted(ends, rows, side="right")
        found: list[KeptSample] = [None] * len(rows)  # type: ignore[list-item]
        for source in np.unique(sources):
            here, selection = np.flatnonzero(sources == source), self.selections[source]
            own = rows[here] - (ends[source] - len(selection))
            for place, sample in zip(here, selection.samples(own), strict=True):
                found[place] = sample
        return found


def _by_size(sources: Mapping[str, Selection]) -> dict[str, Fraction]:
    return {name: Fraction(len(selection)) for name, selection in sources.items()}


def refuse_odd_weights(sources: Iterable[str], weights: Mapping[str, float]) -> None:
    """Raise InputError for a weight of no source, a source without one, or one not above 0."""
    if unknown := sorted(weights.keys() - set(sources)):
        raise InputError(
            f"there is a weight for {unknown[0]!r}, which is no source: they are "
            f"{', '.join(sources)}"
        )
    if missing := [name for name in sources if name not in weights]:
        raise InputError(f"the source {missing[0]!r} has no weight: give all of them one, or none")
    for name, weight in weights.items():
        if not 0 < weight < math.inf:
            raise InputError(f"the weight of the source {name!r} is {weight}: it must be above 0")


def _by_weight(
    sources: Mapping[str, Selection], weights: Mapping[str, float]
) -> dict[str, Fraction]:
    refuse_odd_weights(sources, weights)
    # As it is written: a tenth is a tenth, not the binary number next to it.
    return {name: Fraction(str(weights[name])) for name in sources}


def _seed_of(seed: int, source: int) -> int:
    """Of each source its own, so that two of one size are not walked through side by side."""
    if source == 0:
        return seed
    key = np.array([source], dtype=np.uint64)
    return int(mixed(mixed(key) ^ np.uint64(seed % 2**64))[0])
