"""What a rule may know beyond the row: facts over all rows that no earlier rule drops.

A rule asks for a fact and the first to ask pays one pass over the ledger. That earlier rules come
first is what makes duplicates safe: of two copies of a picture, the one kept is the first whose
caption is worth keeping, not the first, which may be called IMG_2041.JPG.

Memory is up to 40 bytes a row for each fact asked for, a few times that while it is sorted; for
near pictures it is what `hamming` says, and 24 bytes. Contents are known here by 64 bits of their
hash: in a billion rows, the chance that any two are confused is 3 %.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import normalised
from winnow.curation.hamming import HammingIndex, choose_apart
from winnow.curation.ledger_files import PLACE


class Kept(NamedTuple):
    """Of each row, the survivor that is kept for all like it: the row itself, maybe."""

    places: np.ndarray
    """int64: its PLACE; -1 where there is none."""
    uids: pa.Array
    """string: its uid; null where there is none."""


class KeptNear(NamedTuple):
    """Of each row, the nearest survivor that is kept."""

    places: np.ndarray
    uids: pa.Array
    """As in Kept."""
    distances: np.ndarray
    """int64: in how many bits the two perceptual hashes differ; -1 where there is none."""


class Corpus:
    """The facts over the rows that `survivors()` goes through, afresh at every call."""

    def __init__(self, survivors: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        self._survivors = survivors
        self._apart: dict[int, _Apart] = {}

    def survivors(self) -> Iterable[pa.RecordBatch]:
        """All survivors, in ledger order; every call goes through the ledger again."""
        return self._survivors()

    def pictures_with_caption(self, rows: pa.RecordBatch) -> np.ndarray:
        """int64: how many distinct pictures carry the row's caption; 0 where no survivor does.

        Captions are compared normalised (see `captions.normalised`).
        """
        return self._pictures_per_caption.find(_caption_hashes(rows), absent=0)

    def first_with_picture(self, rows: pa.RecordBatch) -> Kept:
        """The first survivor with the row's picture."""
        return self._first_with_picture.find(_picture_hashes(rows))

    def first_with_pair(self, rows: pa.RecordBatch) -> Kept:
        """The first survivor with the row's picture and normalised caption."""
        return self._first_with_pair.find(_pair_hashes(rows))

    def first_with_caption(self, rows: pa.RecordBatch) -> Kept:
        """The first survivor with the row's normalised caption."""
        return self._first_with_caption.find(_caption_hashes(rows))

    def kept_near(self, rows: pa.RecordBatch, *, radius: int) -> KeptNear:
        """The nearest of the survivors that are kept, within `radius` bits of the row's picture.

        In ledger order, a survivor is kept unless one that is kept before is that near. Pictures
        without a perceptual hash are near nothing.
        """
        if radius not in self._apart:
            self._apart[radius] = self._choose_apart(radius)
        return self._apart[radius].find(rows)

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
    def _first_with_picture(self) -> "_First":
        return self._first_by(_picture_hashes)

    @cached_property
    def _first_with_pair(self) -> "_First":
        return self._first_by(_pair_hashes)

    @cached_property
    def _first_with_caption(self) -> "_First":
        return self._first_by(_caption_hashes)

    def _choose_apart(self, radius: int) -> "_Apart":
        hashes, places, uids = [], [], []
        for rows in self._survivors():
            rows = rows.filter(pc.is_valid(rows["picture_hash"]))
            hashes.append(rows["picture_hash"].to_numpy())
            places.append(rows[PLACE].to_numpy())
            uids.append(_as_bytes(rows["uid"]))
        together = _concatenate(hashes)
        kept = choose_apart(together, radius=radius)
        return _Apart(
            near=HammingIndex(together[kept], radius=radius),
            places=_concatenate(places)[kept],
            uids=pa.chunked_array(uids, type=_UID).filter(pa.array(kept)).combine_chunks(),
        )

    def _first_by(self, content: Callable[[pa.RecordBatch], np.ndarray]) -> "_First":
        found = [
            (content(rows), rows[PLACE].to_numpy(), _as_bytes(rows["uid"]))
            for rows in self._survivors()
        ]
        # return_index names the first occurrence, and survivors come in ledger order.
        hashes, first = np.unique(_concatenate([h for h, _, _ in found]), return_index=True)
        uids = pa.chunked_array([uid for _, _, uid in found], type=_UID).take(pa.array(first))
        return _First(
            found=_Table(hashes, np.arange(len(first))),
            places=_concatenate([place for _, place, _ in found])[first],
            uids=uids.combine_chunks(),
        )


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


_UID = pa.binary(16)


class _First(NamedTuple):
    """The first survivor of each content."""

    found: "_Table"
    """From the content to where it stands in the other two."""
    places: np.ndarray
    uids: pa.Array

    def find(self, hashes: np.ndarray) -> Kept:
        return _take(self.places, self.uids, self.found.find(hashes, absent=-1))


class _Apart(NamedTuple):
    """The survivors that are kept, no two of them near each other, in ledger order."""

    near: HammingIndex
    places: np.ndarray
    uids: pa.Array
    """_UID"""

    def find(self, rows: pa.RecordBatch) -> KeptNear:
        """The nearest one to each row."""
        has_hash = rows["picture_hash"].is_valid().to_numpy(zero_copy_only=False)
        asked = rows["picture_hash"].drop_null().to_numpy()
        index, distances = np.full((2, rows.num_rows), -1, dtype=np.int64)
        index[has_hash], distances[has_hash] = self.near.nearest(asked)
        return KeptNear(*_take(self.places, self.uids, index), distances)


def _take(places: np.ndarray, uids: pa.Array, index: np.ndarray) -> Kept:
    """What stands at each `index`, nothing at -1."""
    found = uids.take(pa.array(index, mask=index < 0))
    return Kept(np.append(places.astype(np.int64), -1)[index], _as_hex(found))


def _as_bytes(uids: pa.Array) -> pa.Array:
    digits = pa.py_buffer(bytes.fromhex("".join(uids.to_pylist())))
    return pa.FixedSizeBinaryArray.from_buffers(_UID, len(uids), [None, digits])


def _as_hex(uids: pa.Array) -> pa.Array:
    return pa.array([uid and uid.hex() for uid in uids.to_pylist()], type=pa.string())


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
