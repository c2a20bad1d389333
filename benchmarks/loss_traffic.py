"""What a rank sends, receives and multiplies for one step of a loss: computed, not measured.

Each of W ranks brings b pairs; N = W·b. In a ring every byte of another rank's share passes once in
and once out, for an all-gather and a reduce-scatter of N rows as for an all-to-all of b rows to
each rank. With p bytes per pair in all collectives of a step together, a rank therefore moves

    sent + received = 2 · (W - 1) · b · p
    p = D · (n_g · f + n_r · g) + statistics + own

n_g modalities are gathered (1: captions alone) with f bytes per number, and the gradients of n_r
reduce-scattered with g bytes per number. Statistics are float32 numbers per pair and direction,
exchanged all to all, joined and gathered again. `own` is what else is gathered of a pair: its own
logits and sample id. A unit of multiplication is b x N x D, 2·b·N·D FLOP.
"""

from dataclasses import dataclass, replace

from harness import Table

BATCH_PER_RANK = 1024
WIDTH = 512
WORLDS = tuple(2**k for k in range(11))
FLOAT32, BFLOAT16 = 4, 2
DIRECTIONS = 2
FACTS = 8
"""A pair's sample id; weights and mask ids travel where they are given."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What a loss moves and multiplies."""

    gathered: int
    """Modalities whose embeddings travel."""
    feature_bytes: int
    """Per number gathered, where the model gives bfloat16."""
    reduced: int
    """Modalities whose gradients travel."""
    gradient_bytes: int
    """Per number reduce-scattered."""
    statistics: int
    """Numbers per pair and direction."""
    own_bytes: int
    """Gathered of each pair beside its embeddings."""
    matmul_units: int


_INFONCE = Scheme(
    gathered=1,
    feature_bytes=BFLOAT16,
    reduced=1,
    gradient_bytes=FLOAT32,
    statistics=2,
    own_bytes=FACTS + FLOAT32,
    matmul_units=4,
)
_HN_NCE = replace(_INFONCE, statistics=5)
_PSD = replace(_INFONCE, gathered=2, reduced=2, statistics=5, own_bytes=FACTS + 2 * FLOAT32)
_CLIP_LOSS = Scheme(
    gathered=2,
    feature_bytes=BFLOAT16,
    reduced=2,
    gradient_bytes=BFLOAT16,
    statistics=0,
    own_bytes=0,
    matmul_units=6,
)
SCHEMES = {
    "InfoNCE": _INFONCE,
    "HN-NCE": _HN_NCE,
    "PSD (tiled)": _PSD,
    "PSD (triton)": replace(_PSD, reduced=1, matmul_units=6),
    "open_clip ClipLoss": _CLIP_LOSS,
}
"""Winnow's as in `objectives/two_pass.py`, `tiled.py` and `fused.py`, the model its own teacher;
open_clip's with local_loss and gather_with_grad, whose gradients travel in the features' dtype."""


def bytes_moved(scheme: Scheme, world: int, *, batch: int = BATCH_PER_RANK) -> int:
    """Bytes that a rank sends and receives in a step: the equation above."""
    features = scheme.gathered * scheme.feature_bytes * WIDTH
    gradients = scheme.reduced * scheme.gradient_bytes * WIDTH
    statistics = 2 * DIRECTIONS * FLOAT32 * scheme.statistics
    return 2 * (world - 1) * batch * (features + gradients + statistics + scheme.own_bytes)


def multiplications(scheme: Scheme, batch: int, count: int) -> int:
    """FLOP of `batch` pairs against `count`."""
    return scheme.matmul_units * 2 * batch * count * WIDTH


def traffic_table() -> Table:
    """Bytes and FLOP per rank over the world's size, with open_clip's beside them."""
    rows, data = [], []
    for world in WORLDS:
        cells = []
        for name, scheme in SCHEMES.items():
            moved = bytes_moved(scheme, world)
            flop = multiplications(scheme, BATCH_PER_RANK, world * BATCH_PER_RANK)
            cells.append(f"{moved / 1e6:,.0f} MB, {flop / 1e9:,.0f} GFLOP")
            data.append({"scheme": name, "ranks": world, "bytes": moved, "flop": flop})
        rows.append((str(world), f"{world * BATCH_PER_RANK:,}", *cells))
    return Table(
        title="Per rank and step over the number of ranks: computed, not measured",
        columns=("ranks", "N", *SCHEMES),
        rows=rows,
        data=data,
        notes={
            "cells": "10^6 bytes that a rank sends and receives; its matrix products",
            "for": f"{BATCH_PER_RANK} pairs per rank, width {WIDTH}, bfloat16 features",
        }
        | {name: _in_words(scheme) for name, scheme in SCHEMES.items()},
    )


def _in_words(scheme: Scheme) -> str:
    return (
        f"gathers {scheme.gathered} x {scheme.feature_bytes} bytes and reduces "
        f"{scheme.reduced} x {scheme.gradient_bytes} bytes per pair and dimension, "
        f"{scheme.statistics} statistics, {scheme.own_bytes} bytes more per pair; "
        f"{scheme.matmul_units} products"
    )
