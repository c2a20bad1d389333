"""Rows by a 128-bit key, sorted in one `.npy` file: made in bounded memory, read memory-mapped.

A key is a uid as DataComp's subset files have it: two unsigned 64-bit numbers, `f0` of the first 16
hex digits and `f1` of the other 16, so that the order of the keys is that of the digits. A row may
have more fields behind its key.

Sorting goes by the key's first byte: every row is appended to one of 256 files, and each is sorted
by itself. Keys that are hashes fill them evenly, so memory is a 256th of the rows. Processes that
look up keys in one file share its pages.
"""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.types import InputError

KEY_DTYPE = np.dtype("<u8,<u8")
"""A key alone; a row's fields begin with `f0` and `f1`."""


class KeyConflictError(Exception):
    """Two rows have one key (as hex digits, the message) and differ in the rest."""


def parse_uids(uids: pa.Array, *, where: str) -> np.ndarray:
    """KEY_DTYPE: the keys of uids of 32 hex digits, in either case, with space around or not.

    Raises InputError, which says `where`, for anything else.
    """
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(uids.cast(pa.string())))
    is_uid = pc.fill_null(pc.match_substring_regex(texts, "^[0-9a-f]{32}$"), False)
    bad = pc.index(is_uid, False).as_py()
    if bad >= 0:
        raise InputError(
            f"{where} has the uid {uids[bad].as_py()!r}: a uid is 32 hex digits, as in the ledger "
            "and in DataComp's metadata"
        )
    return keys_of(bytes.fromhex("".join(texts.to_pylist())))


def keys_of(octets: bytes) -> np.ndarray:
    """KEY_DTYPE: a key from every 16 bytes, the most significant first."""
    return np.frombuffer(octets, dtype=">u8").astype("<u8").view(KEY_DTYPE)


def hex_digits(keys: np.ndarray) -> list[str]:
    """The 32 hex digits of every key."""
    halves = zip(keys["f0"].tolist(), keys["f1"].tolist(), strict=True)
    return [f"{upper:016x}{lower:016x}" for upper, lower in halves]


def find(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """int64: where in the sorted `rows` each key stands; -1 where it does not."""
    # numpy's own searchsorted compares structured rows one field and one call at a time.
    upper, lower = rows["f0"], rows["f1"]
    wanted_upper, wanted_lower = keys["f0"].copy(), keys["f1"].copy()
    first, last = np.zeros(len(keys), dtype=np.int64), np.full(len(keys), len(rows))
    while (is_open := first < last).any():
        middle = (first + last) // 2
        probe = np.where(is_open, middle, 0)
        here = upper[probe]
        is_less = here < wanted_upper
        is_less |= (here == wanted_upper) & (lower[probe] < wanted_lower)
        first = np.where(is_open & is_less, middle + 1, first)
        last = np.where(is_open & ~is_less, middle, last)
    if not len(rows):
        return np.full(len(keys), -1, dtype=np.int64)
    place = first.clip(max=len(rows) - 1)
    is_there = (upper[place] == wanted_upper) & (lower[place] == wanted_lower)
    return np.where(is_there, place, -1)


def write_sorted(path: Path, batches: Iterable[np.ndarray], *, dtype: np.dtype) -> int:
    """Write rows of `dtype` to the `.npy` file at `path`, by key, equal rows once; their number.

    The file appears whole or not at all. Raises KeyConflictError.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        parts = _scatter(batches, Path(scratch))
        num_rows = sum(_sort(part, dtype) for part in parts)
        whole = Path(scratch, "whole")
        with whole.open("wb") as file:
            descr = np.lib.format.dtype_to_descr(dtype)
            header = {"descr": descr, "fortran_order": False, "shape": (num_rows,)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                with part.open("rb") as rows:
                    shutil.copyfileobj(rows, file, 1 << 20)
        whole.replace(path)
    return num_rows


def _scatter(batches: Iterable[np.ndarray], folder: Path) -> list[Path]:
    """The files of `folder`, in the order of their keys, over which all rows are spread."""
    with ExitStack() as stack:
        files: dict[int, BinaryIO] = {}
        for rows in batches:
            first_byte = (rows["f0"] >> np.uint64(56)).astype(np.uint8)
            order = np.argsort(first_byte, kind="stable")
            found, starts = np.unique(first_byte[order], return_index=True)
            bounds = np.append(starts, len(rows))
            for index, byte in enumerate(found.tolist()):
                if byte not in files:
                    files[byte] = stack.enter_context(Path(folder, f"{byte:02x}").open("wb"))
                files[byte].write(rows[order[bounds[index] : bounds[index + 1]]].tobytes())
    return [Path(folder, f"{byte:02x}") for byte in sorted(files)]


def _sort(part: Path, dtype: np.dtype) -> int:
    """Sort the rows of a file in place, equal ones once; how many there are then."""
    rows = np.fromfile(part, dtype=dtype)
    rows = rows[np.lexsort((rows["f1"], rows["f0"]))]
    is_repeated = (rows["f0"][1:] == rows["f0"][:-1]) & (rows["f1"][1:] == rows["f1"][:-1])
    octets = rows.view(np.uint8).reshape(len(rows), dtype.itemsize)
    again = np.flatnonzero(is_repeated) + 1
    differs = (octets[again] != octets[again - 1]).any(axis=1)
    if differs.any():
        raise KeyConflictError(hex_digits(rows[again[differs][:1]])[0])
    rows = np.delete(rows, again)
    rows.tofile(part)
    return len(rows)
