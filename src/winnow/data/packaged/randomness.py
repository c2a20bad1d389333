"""Randomness by name: every choice depends on the seed and on what it is for, on nothing else.

So a sample's caption does not change when another drawing is added, nor with the number of
processes that build.
"""

import hashlib

import numpy as np


def random_for(seed: int, *purpose: str) -> np.random.Generator:
    """The generator of one choice, e.g. `random_for(0, "caption", drawing.identity)`."""
    name = "\0".join((str(seed), *purpose)).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16], "little"))
