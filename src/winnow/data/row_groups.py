"""Decoded row groups of a parquet file: a picture of one has no address of its own.

Training reads from 64 places of a data set at once, so a reader that holds what it decoded last
decodes most row groups for every batch again. With a cache, a row group is decoded once for all
processes, laid there as an index and the pictures behind it, and read like a tar from then on.
"""

import struct
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa

from winnow.data.block_cache import BlockCache

_PART_OF_CACHE = 64  # larger row groups would push each other out
_PLACE = struct.Struct("<QQ")


class Pictures(Protocol):
    """The pictures of a file, by row group and row."""

    def picture(self, group: int, row: int) -> bytes | None:
        """The bytes of a row that there is; None where it has none. Raises what decoding does."""


class InMemory:
    """Holds the row group read last: more of them were measured to gain nothing in training."""

    def __init__(self, decode: Callable[[int], pa.ChunkedArray]) -> None:
        self._decode = decode
        self._group: int | None = None
        self._pictures = pa.chunked_array([], pa.binary())

    def picture(self, group: int, row: int) -> bytes | None:
        """See Pictures."""
        return self.decoded(group)[row].as_py() or None

    def decoded(self, group: int) -> pa.ChunkedArray:
        """The pictures of a row group."""
        if group != self._group:
            self._pictures, self._group = self._decode(group), group
        return self._pictures


class InCache:
    """Lays row groups in a cache, where every process of the machine finds their pictures."""

    def __init__(
        self, decode: Callable[[int], pa.ChunkedArray], *, cache: BlockCache, path: str
    ) -> None:
        self._cache, self._path = cache, path
        self._decoded = InMemory(decode)

    def picture(self, group: int, row: int) -> bytes | None:
        """See Pictures."""
        name = self._cache.name_of(self._path, group)
        for _ in range(2):
            place = self._cache.recall(name, _PLACE.size // 2 * row, _PLACE.size)
            if place is not None:
                start, end = _PLACE.unpack(place)
                data = self._cache.recall(name, start, end - start)
                if data is not None:
                    return data or None
            if not self._cache.remember(name, lambda: self._packed(group)):
                break
        return self._decoded.picture(group, row)

    def _packed(self, group: int) -> bytes | None:
        """Where each picture begins and the last one ends, 8 bytes each; then the pictures."""
        decoded = self._decoded.decoded(group)
        if decoded.nbytes > self._cache.limit_bytes // _PART_OF_CACHE:
            return None
        pictures = [data or b"" for data in decoded.to_pylist()]
        bounds = np.cumsum([8 * (len(pictures) + 1), *map(len, pictures)])
        return bounds.astype("<u8").tobytes() + b"".join(pictures)
