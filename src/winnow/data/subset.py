"""DataComp's `subset.npy`: a selection as nothing but the uids of its pairs.

A sorted array of `np.dtype("u8,u8")`, both halves of the 128-bit uid, the upper one first (Gadre et
al., "DataComp", arXiv 2304.14108; github.com/mlfoundations/datacomp, `baselines/apply_filter.py`).
What is written here goes into DataComp's resharder, and subsets that others publish select here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from winnow.data.keyed import KEY_DTYPE, find, parse_uids, write_sorted
from winnow.data.selection import Selection
from winnow.types import InputError

_ROWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """A set of uids on disk; opening it reads it once, to see that it is sorted."""

    path: Path
    uids: np.ndarray
    """KEY_DTYPE, sorted, memory-mapped."""

    def __len__(self) -> int:
        return len(self.uids)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process opens the file again instead of being sent what is in it.
        return type(self).open, (self.path,)

    def contains(self, uids: pa.Array) -> np.ndarray:
        """bool: whether each uid (32 hex digits) is in the set."""
        return find(self.uids, parse_uids(uids, where="the ledger")) >= 0

    @classmethod
    def open(cls, path: Path) -> "Subset":
        """The subset at `path`. Raises InputError where it is missing, of another form or unsorted.

        A uid that comes twice, by which DataComp gives a pair more weight, is in the set like any.
        """
        try:
            uids = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} cannot be read as a subset's .npy file: {error}") from error
        if not isinstance(uids, np.ndarray) or uids.dtype != KEY_DTYPE or uids.ndim != 1:
            form = f"{uids.dtype} of {uids.ndim} axes" if isinstance(uids, np.ndarray) else "an npz"
            raise InputError(
                f"{path} holds {form}, and a subset is one axis of np.dtype('u8,u8'): both halves "
                "of each uid, as DataComp writes them"
            )
        for start in range(0, len(uids), _ROWS_AT_ONCE):
            _check_sorted(uids[start : start + _ROWS_AT_ONCE + 1], path)
        return cls(path=path, uids=uids)


def write_subset(selection: Selection, path: Path) -> int:
    """Write the uids of a selection as a subset to `path`; how many there are.

    Pairs that share a uid, as exact copies do, are one. The bytes depend on the uids alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_sorted(path, _uids(selection), dtype=KEY_DTYPE)


def _uids(selection: Selection) -> Iterator[np.ndarray]:
    for uids in selection.table["uid"].chunks:
        yield parse_uids(uids, where=str(selection.directory))


def _check_sorted(uids: np.ndarray, path: Path) -> None:
    upper, lower = uids["f0"], uids["f1"]
    is_later = upper[1:] > upper[:-1]
    is_later |= (upper[1:] == upper[:-1]) & (lower[1:] >= lower[:-1])
    if not is_later.all():
        raise InputError(
            f"{path} is not sorted, so its uids cannot be found: sort it with "
            "`a = np.load(FILE); a.sort(); np.save(FILE, a)`"
        )
