"""The order of training: which row of the selection stands at which position, for ever.

A pure function of the counts per shard and the seed; it knows nothing of workers, ranks or batches.
Positions count on through the epochs. In each epoch

 1. rows are cut into runs of `run_length` neighbours that never cross a shard;
 2. the runs are permuted, all of them;
 3. each `window_runs` consecutive runs make a window, and rows are permuted within it.

So one window of runs is in use at a time, whole runs are read from disk, and a batch still mixes
rows of `window_runs` places of the data set. A permutation sorts by hashes (splitmix64), which do
not change with the version of any library. Memory is O(runs + one window).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from winnow.types import InputError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Places(NamedTuple):
    """What stands at some positions: int64, each of the positions' shape."""

    rows: np.ndarray
    epochs: np.ndarray
    """How often the row's source had been through before."""
    sources: np.ndarray
    """Which of a mixture's sources the row is of; 0 where there is but one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """The endless sequence of rows; its length is that of one epoch."""

    shard_counts: np.ndarray
    """int64 (shards,): rows of each shard, in the order in which rows are numbered."""
    seed: int
    """Another seed is another order."""
    run_length: int = 256
    """Rows that are read together: at 50 KB a picture, 13 MB at once."""
    window_runs: int = 64
    """Runs that are mixed: how wide the shuffle is."""
    _recent: "Recent" = field(default_factory=lambda: Recent(), init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise InputError("the selection holds no rows, so there is nothing to train on")
        if self.run_length < 1 or self.window_runs < 1:
            raise InputError("run_length and window_runs of an order must be at least 1")

    def __len__(self) -> int:
        return int(self.shard_counts.sum())

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The rows at `positions`: both int64 of one shape. Positions are 0 or more."""
        epochs, offsets = np.divmod(positions, len(self))
        rows = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = self._rows_of_epoch(int(epoch), offsets[here])
        return rows

    def places(self, positions: np.ndarray) -> Places:
        """What stands at `positions` (int64, 0 or more)."""
        epochs = positions // len(self)
        return Places(self.rows(positions), epochs, np.zeros_like(epochs))

    def counts(self, position: int) -> list[int]:
        """How many of the positions before `position` are each source's: there is one."""
        return [position]

    def next_runs(self, first_position: int, last_position: int) -> np.ndarray:
        """The runs to announce while positions [first, last) are read, as `runs` gives them.

        Their turn comes one window later.
        """
        return self.runs(first_position + self.window, last_position + self.window)

    def first_runs(self, first_position: int, last_position: int) -> np.ndarray:
        """The same where reading begins at `first_position`.

        The window begun is needed at once, with runs whose turn was before.
        """
        return self.runs(max(0, first_position - self.window), last_position + self.window)

    def runs(self, first_position: int, last_position: int) -> np.ndarray:
        """The runs whose turn comes at positions [first, last): int64 (runs, 2), rows [from, to).

        A run's turn is where it would be read without step 3. What is announced `window` positions
        ahead is thus announced evenly, and before the window that needs it begins.
        """
        found = [np.empty((0, 2), dtype=np.int64)]
        for epoch in range(first_position // len(self), -(-last_position // len(self))):
            start = epoch * len(self)
            turns = self._turns(epoch)
            first, last = np.searchsorted(turns, (first_position - start, last_position - start))
            found.append(
                self._bounds[self._permuted_runs(epoch)[first : min(last, len(turns) - 1)]]
            )
        return np.concatenate(found)

    @property
    def window(self) -> int:
        """Positions that one window spans at most."""
        return min(self.run_length * self.window_runs, len(self))

    @cached_property
    def _bounds(self) -> np.ndarray:
        """First row of each run, and the row after its last: int64 (runs, 2)."""
        counts = self.shard_counts.astype(np.int64)
        shard_ends = np.cumsum(counts)
        runs_per_shard = -(-counts // self.run_length)
        shard_of_run = np.repeat(np.arange(len(counts)), runs_per_shard)
        first_run = np.cumsum(runs_per_shard) - runs_per_shard
        run_in_shard = np.arange(len(shard_of_run)) - first_run[shard_of_run]
        starts = (shard_ends - counts)[shard_of_run] + run_in_shard * self.run_length
        ends = np.minimum(starts + self.run_length, shard_ends[shard_of_run])
        return np.stack([starts, ends], axis=1)

    def _rows_of_epoch(self, epoch: int, offsets: np.ndarray) -> np.ndarray:
        window_starts = self._turns(epoch)[: -1 : self.window_runs]
        windows = np.searchsorted(window_starts, offsets, side="right") - 1
        rows = np.empty_like(offsets)
        for window in np.unique(windows):
            here = windows == window
            rows[here] = self._window_rows(epoch, int(window))[
                offsets[here] - window_starts[window]
            ]
        return rows

    def _permuted_runs(self, epoch: int) -> np.ndarray:
        """The runs, int64 (runs,), in the order of the epoch."""
        return self._recent.get(
            ("runs", epoch, 0),
            lambda: permuted(np.arange(len(self._bounds)), (self.seed, epoch, 0)),
        )

    def _turns(self, epoch: int) -> np.ndarray:
        """Offset in the epoch of the first place of each permuted run, and at last its length."""
        return self._recent.get(
            ("turns", epoch, 0),
            lambda: np.concatenate(
                [[0], np.cumsum(np.diff(self._bounds[self._permuted_runs(epoch)])[:, 0])]
            ),
        )

    def _window_rows(self, epoch: int, window: int) -> np.ndarray:
        """The rows of one window in their order, int64."""
        return self._recent.get(
            ("rows", epoch, window), lambda: self._permute_window(epoch, window)
        )

    def _permute_window(self, epoch: int, window: int) -> np.ndarray:
        first = window * self.window_runs
        runs = self._permuted_runs(epoch)[first : first + self.window_runs]
        rows = np.concatenate([np.arange(start, end) for start, end in self._bounds[runs]])
        return permuted(rows, (self.seed, epoch, 1))


class Recent:
    """The results last asked for: what makes a pure function quick without making it impure."""

    _KEPT = 8  # two epochs' runs and turns, as at their border, and some windows

    def __init__(self) -> None:
        self._results: dict[tuple[str, int, int], np.ndarray] = {}

    def get(self, key: tuple[str, int, int], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` gave for this key, if that was lately, or gives now."""
        result = self._results.pop(key, None)
        if result is None:
            result = compute()
        self._results[key] = result
        if len(self._results) > self._KEPT:
            del self._results[next(iter(self._results))]
        return result


def permuted(values: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """`values` (distinct, 0 or more) in an order that `key` alone decides."""
    hashes = values.astype(np.uint64)
    for word in key:
        hashes = mixed(hashes ^ mixed(np.array([word % 2**64], dtype=np.uint64)))
    return values[np.argsort(hashes, kind="stable")]


def mixed(words: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea & Flood 2014): a bijection of uint64 that scatters its bits."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
