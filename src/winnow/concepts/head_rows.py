"""Which pairs a concept head learns from, how often, and in what order.

A pair whose rarest concept has the frequency f (the share of training pairs that name it) is drawn

    r = max(1, sqrt(t / f))

times an epoch: square-root up-sampling (Radenovic et al. 2023, section 3.2; the rule and t = 1e-3
are those of Gupta, Dollár and Girshick 2019, "LVIS"). r is rarely whole: a pair is drawn floor(r)
or ceil(r) times, so that r is its mean. All chance is a hash of (seed, epoch, row), as in
`objectives/hashing.py`.

B counts the rows of a part, P (row, concept of its caption), R draws, V the concepts of a head.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch

from winnow.concepts.labels import HeadLabels
from winnow.concepts.measures import Frequencies, Targets
from winnow.data.order import Order
from winnow.objectives.hashing import keyed_hash

RUN_LENGTH = 256
"""Neighbours that are read together."""


class FeatureRows(Protocol):
    """A teacher's features of a selection's pictures, by row; may be larger than memory."""

    @property
    def width(self) -> int:
        """F."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, /) -> np.ndarray:
        """(n, F) float16 or float32, of rows int64 (n,)."""
        ...


class Chance(IntEnum):
    """What a hash decides."""

    HELD_OUT = 0
    REPEATS = 1
    ORDER = 2


def targets_of(labels: HeadLabels, rows: np.ndarray) -> Targets:
    """The targets of `rows` (int64), in their order: uniform over the caption's concepts."""
    start_B, count_B = labels.offsets_N1[rows], counts_of(labels, rows)
    picture_P = np.repeat(np.arange(len(rows)), count_B)
    within_P = np.arange(len(picture_P)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
    return Targets(
        picture_P=picture_P,
        concept_P=labels.values[start_B[picture_P] + within_P].astype(np.int64),
        mass_P=1 / count_B[picture_P],
    )


def counts_of(labels: HeadLabels, rows: np.ndarray) -> np.ndarray:
    """int64: how many concepts the captions of `rows` name."""
    return labels.offsets_N1[rows + 1] - labels.offsets_N1[rows]


def held_out(picture_ids: np.ndarray, *, share: float, seed: int) -> np.ndarray:
    """bool (rows,): whether a row is held out. Rows of one picture (uint64) share the answer."""
    return _uniform(picture_ids.view(np.int64), seed, 0, Chance.HELD_OUT) < share


def blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """`rows` in parts of `size`, the last one shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def frequencies_of(
    labels: HeadLabels, rows: np.ndarray, *, size: int, block: int = 1 << 16
) -> Frequencies:
    """How often `rows` name each of the head's `size` concepts."""
    pairs, count_V, mass_V = 0, np.zeros(size, dtype=np.int64), np.zeros(size)
    for part in blocks(rows, block):
        targets = targets_of(labels, part)
        pairs += len(np.unique(targets.picture_P))
        count_V += np.bincount(targets.concept_P, minlength=size)
        mass_V += np.bincount(targets.concept_P, targets.mass_P, minlength=size)
    return Frequencies(pairs=pairs, count_V=count_V, mass_V=mass_V)


def repeats(
    targets: Targets, frequency_V: np.ndarray, *, rows: int, threshold: float
) -> np.ndarray:
    """float64 (rows,): how often each of the batch's rows is drawn in an epoch, on average."""
    repeats_B = np.ones(rows)
    wanted_P = np.sqrt(threshold / frequency_V[targets.concept_P])
    np.maximum.at(repeats_B, targets.picture_P, wanted_P)
    return repeats_B


def draws(rows: np.ndarray, repeats_B: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """int64: places in `rows` (int64) as often as they are drawn in this epoch, shuffled."""
    times_B = np.floor(repeats_B + _uniform(rows, seed, epoch, Chance.REPEATS)).astype(np.int64)
    place_R = np.repeat(np.arange(len(rows)), times_B)
    copy_R = np.arange(len(place_R)) - np.repeat(np.cumsum(times_B) - times_B, times_B)
    # A selection has fewer than 2^40 rows, so no two draws share an id.
    id_R = rows[place_R] + (copy_R << 40)
    return place_R[np.argsort(_uniform(id_R, seed, epoch, Chance.ORDER), kind="stable")]


def windows(num_rows: int, *, size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """All rows in parts of `size`, ascending within a part: int64.

    Each part mixes runs of neighbours from all over the selection, so it is read in long reads.
    """
    order = Order(
        shard_counts=np.array([num_rows]),
        seed=seed,
        run_length=RUN_LENGTH,
        window_runs=max(1, size // RUN_LENGTH),
    )
    end = (epoch + 1) * num_rows
    for start in range(epoch * num_rows, end, size):
        yield np.sort(order.rows(np.arange(start, min(start + size, end))))


def _uniform(ids: np.ndarray, seed: int, epoch: int, chance: Chance) -> np.ndarray:
    """float64 in [0, 1): one for each of `ids` (int64)."""
    step = epoch * len(Chance) + chance
    hashed = (
        keyed_hash(torch.from_numpy(np.array(ids)), seed=seed, step=step).numpy().view(np.uint64)
    )
    return (hashed >> np.uint64(11)) * 2.0**-53
