"""A keyed hash of sample ids: random choices that survive permutation, resume and world size."""

import torch
from torch import Tensor

_INCREMENT = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: splitmix64's increment
_MULTIPLIERS = (
    -4658895280553007687,
    -7723592293110705685,
)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SHIFTS = (30, 27)


def keyed_hash(id_N: Tensor, *, seed: int, step: int) -> Tensor:
    """(N,) int64, uniform over all of int64, a pure function of (seed, step, id).

    splitmix64's finaliser (Steele, Lea, Flood 2014), applied to each part of the key in turn; the
    arithmetic wraps modulo 2^64.
    """
    hashed_N = _mix(torch.full_like(id_N, seed))
    hashed_N = _mix(hashed_N ^ step)
    return _mix(hashed_N ^ id_N)


def _mix(value_N: Tensor) -> Tensor:
    value_N = value_N + _INCREMENT
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=True):
        value_N = (value_N ^ _logical_shift(value_N, shift)) * multiplier
    return value_N ^ _logical_shift(value_N, 31)


def _logical_shift(value_N: Tensor, bits: int) -> Tensor:
    """Shift right filling with zeros, which int64's own shift does not."""
    return (value_N >> bits) & ((1 << (64 - bits)) - 1)
