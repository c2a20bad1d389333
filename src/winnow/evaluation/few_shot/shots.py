"""Which pictures are the shots: a function of data set, subset number and key, and of nothing else.

In each class the samples are ordered by sha256(fingerprint, seed, key). The first k are the shots,
the next min(k, 4) are the further shots, the only ones that may choose a hyper-parameter. So the
shots for k are among those for any larger k; another model, another order of the rows or another
number of drawn random numbers changes nothing.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FURTHER_SHOTS = 4
"""At most so many of a class choose hyper-parameters, as in Radford et al. 2021 and CoOp."""


class Subset(NamedTuple):
    """Rows of the training split, by class, in the order of their hashes."""

    shots: np.ndarray
    """int64: what a probe is fitted to."""
    further: np.ndarray
    """int64: what may choose its hyper-parameters; empty where the classes are used up."""
    short: int
    """Classes with fewer than k samples, but some: all of them are shots."""
    absent: int
    """Classes without any sample: what is known of them is their text."""


def class_orders(
    keys: Sequence[str], label_N: np.ndarray, *, num_classes: int, fingerprint: str, seed: int
) -> list[np.ndarray]:
    """For each class its rows in the order in which they become shots. Keys are unique."""
    assert len(keys) == len(label_N)
    prefix = f"{fingerprint}\0{seed}\0".encode()
    digests = b"".join(
        hashlib.sha256(prefix + key.encode("utf-8", "surrogateescape")).digest() for key in keys
    )
    word_N4 = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)
    row_N = np.lexsort((word_N4[:, 3], word_N4[:, 2], word_N4[:, 1], word_N4[:, 0], label_N))
    ends = np.cumsum(np.bincount(label_N, minlength=num_classes))
    return np.split(row_N, ends[:-1])


def take_shots(orders: Sequence[np.ndarray], k: int) -> Subset:
    """The first k rows of every class, and the further ones behind them."""
    further = k + min(k, FURTHER_SHOTS)
    sizes = np.array([len(order) for order in orders])
    return Subset(
        shots=np.concatenate([order[:k] for order in orders]),
        further=np.concatenate([order[k:further] for order in orders]),
        short=int(np.sum((sizes > 0) & (sizes < k))),
        absent=int(np.sum(sizes == 0)),
    )
