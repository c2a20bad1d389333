"""Slices: no engine at all. `i/n` is every n-th shard from the i-th on, for the jobs of an array.

Slices share nothing but the folder, write different files of it, and may run at the same time, one
after the other, or again; all n together have done every shard.
"""

import re
from dataclasses import dataclass

from winnow.types import InputError

_SLICE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The numbers that leave `index` when they are divided by `count`."""

    index: int
    """0 to count - 1."""
    count: int

    def __contains__(self, number: int) -> bool:
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Slice(index=0, count=1)
"""Every number."""


def parse_slice(text: str) -> Slice:
    """The slice `i/n`, with 0 <= i < n. Raises InputError for anything else."""
    found = _SLICE.fullmatch(text)
    if found is None or not int(found[1]) < int(found[2]):
        raise InputError(
            f"{text!r} is no slice of the shards: give i/n with i from 0 to n - 1, as in 0/8 to 7/8"
        )
    return Slice(index=int(found[1]), count=int(found[2]))
