"""What a rule may know beyond the row: facts over all rows that no earlier rule drops.

A rule asks for a fact and the first to ask pays one pass over the ledger. That earlier rules come
first is what makes duplicates safe: of two copies of a picture, the one kept is the first whose
caption is worth keeping, not the first, which may be called IMG_2041.JPG.

Memory is 16 bytes a row for each fact asked for, a few times that while it is sorted. Contents are
known here by 64 bits of their hash: in a billion rows, the chance that any two are confused is 3 %.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import normalised
from winnow.curation.ledger_files import PLACE


class Corpus:
    """The facts over the rows that `survivors()` goes through, afresh at every call."""

    def __init__(self, survivors: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        self._survivors = survivors

    def pictures_with_caption(self, rows: pa.RecordBatch) -> np.ndarray:
        """int64: how many distinct pictures carry the row's caption; 0 where no survivor does.

        Captions are compared normalised (see `captions.normalised`).
        """
        return self._pictures_per_caption.find(_caption_hashes(rows), absent=0)

    def first_with_picture(self, rows: pa.RecordBatch) -> np.ndarray:
        """int64: the PLACE of the first survivor with the row's picture; -1 where none has it."""
        return self._first_with_picture.find(_picture_hashes(rows), absent=-1)

    def first_with_pair(self, rows: pa.RecordBatch) -> np.ndarray:
        """int64: the PLACE of the first survivor with the row's picture and normalised caption."""
        return self._first_with_pair.find(_pair_hashes(rows), absent=-1)

    @cached_property
    def _pictures_per_caption(self) -> "_Table":
        hashes = [(_caption_hashes(rows), _picture_hashes(rows)) for rows in self._survivors()]
        captions = _concatenate([caption for caption, _ in hashes])
        pictures = _concatenate([picture for _, picture in hashes])
        order = np.lexsort((pictures, captions))
        captions, pictures = captions[order], pictures[order]
        repeated = (captions[1:] == captions[:-1]) & (pictures[1:] == pictures[:-1])
        distinct = captions[np.concatenate(([True], ~repeated))[: len(captions)]]
        return _Table(*np.unique(distinct, return_counts=True))

    @cached_property
    def _first_with_picture(self) -> "_Table":
        return self._first_by(_picture_hashes)

    @cached_property
    def _first_with_pair(self) -> "_Table":
        return self._first_by(_pair_hashes)

    def _first_by(self, content: Callable[[pa.RecordBatch], np.ndarray]) -> "_Table":
        found = [(content(rows), rows[PLACE].to_numpy()) for rows in self._survivors()]
        # return_index names the first occurrence, and survivors come in ledger order.
        hashes, first = np.unique(_concatenate([h for h, _ in found]), return_index=True)
        return _Table(hashes, _concatenate([place for _, place in found])[first])


class _Table(NamedTuple):
    """A map from 64-bit hashes, sorted, to int64 values."""

    hashes: np.ndarray
    values: np.ndarray

    def find(self, hashes: np.ndarray, *, absent: int) -> np.ndarray:
        """int64: the value of every hash."""
        if not len(self.hashes):
            return np.full(len(hashes), absent, dtype=np.int64)
        index = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        return np.where(self.hashes[index] == hashes, self.values[index], absent).astype(np.int64)


def _picture_hashes(rows: pa.RecordBatch) -> np.ndarray:
    """uint64: the head of each picture's sha256."""
    heads = pc.utf8_slice_codeunits(rows["sha256"], 0, 16)
    return np.frombuffer(bytes.fromhex("".join(heads.to_pylist())), dtype=">u8").astype(np.uint64)


def _caption_hashes(rows: pa.RecordBatch) -> np.ndarray:
    """uint64: a hash of each normalised caption."""
    captions = normalised(rows["caption"]).to_pylist()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in captions]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _pair_hashes(rows: pa.RecordBatch) -> np.ndarray:
    """uint64: both hashes in one; the odd factor keeps picture and caption from changing places."""
    return _picture_hashes(rows) * np.uint64(0x9E3779B97F4A7C15) + _caption_hashes(rows)


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.uint64)
