"""Controlled noise: a share of the pairs exchange their captions, and nobody keeps an equal one.

The pairs chosen at a lower share are chosen at a higher one too. Captions move by a random
permutation without points whose caption is their own: it is drawn, then each such point exchanges
its caption with a random one for which that helps both.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from winnow.types import InputError


def swapped(captions: Sequence[str], *, share: float, seed: int) -> tuple[list[str], np.ndarray]:
    """The captions after the swaps, and which ones are swapped (bool), `share` of all.

    Raises InputError where a caption is that of more than half of the chosen pairs: then no
    exchange could take it from all of them.
    """
    total = len(captions)
    order = np.random.default_rng(seed).permutation(total)
    chosen = np.sort(order[: round(share * total)])
    moved = list(captions)
    is_swapped = np.zeros(total, dtype=bool)
    is_swapped[chosen] = True
    own = [captions[index] for index in chosen]
    for index, caption in zip(chosen, _deranged(own, seed=seed + 1), strict=True):
        moved[index] = caption
    return moved, is_swapped


def _deranged(own: list[str], *, seed: int) -> list[str]:
    most, count = next(iter(Counter(own).most_common(1)), ("", 0))
    if 2 * count > len(own):
        raise InputError(
            f"{count:,} of {len(own):,} pairs to swap have the caption {most[:40]!r}: swapping "
            "cannot give each of them another"
        )
    random = np.random.default_rng(seed)
    given = [own[index] for index in random.permutation(len(own))]
    for index in range(len(own)):
        while given[index] == own[index]:
            other = int(random.integers(len(own)))
            if given[other] != own[index] and given[index] != own[other]:
                given[index], given[other] = given[other], given[index]
    return given
