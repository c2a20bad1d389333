"""The words of parsed captions as numbers: which candidates for a vocabulary each pair has.

Objects are candidates without the words at their end that are said of the picture; one that is
nothing else ("stock photo") stands as it is, and its attributes, said of the picture too, are none.
Captions are gone through once; what is counted later, several times, is numbers on disk. Memory
grows with the distinct candidates (140 bytes each, 450 while `back_off.py` chooses from them) and
not with the pairs, whose numbers lie in an unnamed file that goes with the process.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.concepts import HEADS, KeptRows
from winnow.progress import track
from winnow.types import InputError

CHUNK = 65_536
"""Pairs that are looked at together."""

Rest = Callable[[str], str]
"""What of an object is in the picture, "" for nothing; see `StopList.rest`."""


class Mentions(NamedTuple):
    """What a batch of captions names for one head, in order; of M mentions."""

    row_M: np.ndarray
    """In which row each is."""
    text_M: np.ndarray
    """Which of `texts` each is."""
    texts: list[str]
    """Normalized; the empty one is no candidate."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What the captions name for one head, distinct in each pair."""

    texts: tuple[str, ...]
    """Distinct candidates by number; the first is the empty one, which no pair has."""
    offsets_N1: np.ndarray
    """int64 (pairs + 1,): where the numbers of each pair begin."""
    numbers: np.ndarray
    """int32, memory-mapped."""

    def __len__(self) -> int:
        return len(self.offsets_N1) - 1

    def chunks(self) -> Iterator[tuple[int, int]]:
        """The pairs in ranges [start, stop) of `CHUNK`, whatever batches they came in."""
        for start in range(0, len(self), CHUNK):
            yield start, min(start + CHUNK, len(self))

    def places(self, place: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """What stands in `place` for the candidates of pairs [start, stop), each once in a pair.

        `place` is an integer per candidate, below 0 for nothing. Gives the pairs, from 0, and the
        places, sorted by pair and then by place; both int64.
        """
        offsets = self.offsets_N1[start : stop + 1]
        found = place[self.numbers[offsets[0] : offsets[-1]]]
        pair = np.repeat(np.arange(stop - start), np.diff(offsets))
        return distinct(pair[found >= 0], found[found >= 0])

    def count(self, place: np.ndarray, *, size: int) -> np.ndarray:
        """int64 (size,): how many pairs have each place; see `places`."""
        count = np.zeros(size, dtype=np.int64)
        for start, stop in self.chunks():
            np.add.at(count, self.places(place, start, stop)[1], 1)
        return count


def read_candidates(
    rows: KeptRows, folder: Path, *, num_rows: int, rest: Rest
) -> dict[str, Candidates]:
    """The candidates of each head in all captions. `folder` has room for 20 bytes a pair or so.

    Raises InputError where there are not `num_rows` pairs.
    """
    writers = {head: _Writer(folder) for head in HEADS}
    seen = 0
    with track("captions", total=num_rows, unit="pairs") as advance:
        for batch in rows():
            for head, found in mentions(batch, rest).items():
                writers[head].add(found, num_pairs=batch.num_rows)
            seen += batch.num_rows
            advance(batch.num_rows)
    check_number(seen, num_rows)
    return {head: writer.candidates() for head, writer in writers.items()}


def check_number(seen: int, num_rows: int) -> None:
    """Raise InputError where the parsed captions are not as many as the selection has pairs."""
    if seen != num_rows:
        raise InputError(
            f"the selection has {num_rows:,} pairs, but {seen:,} parsed captions came: curate and "
            "select again"
        )


def mentions(batch: pa.RecordBatch, rest: Rest) -> dict[str, Mentions]:
    """The mentions of each head in a batch."""
    row, items = _flat(batch["objects"])
    item, attributes = _flat(pc.struct_field(items, "attributes"))
    lemma, lemmas = _texts(pc.struct_field(items, "lemma"))
    attribute, words = _texts(attributes)
    rests = [rest(text) for text in lemmas]
    # An empty lemma is no object, but nothing says that it is the picture.
    shown = [bool(left or not text) for left, text in zip(rests, lemmas, strict=True)]
    of_shown = np.array(shown, dtype=bool)[lemma][item]
    objects = [left or text for left, text in zip(rests, lemmas, strict=True)]
    return {
        "objects": Mentions(row, lemma, objects),
        "attributes": Mentions(row[item][of_shown], attribute[of_shown], words),
    }


def normalize(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def distinct(pair: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct combinations, sorted; both below 2^31."""
    keys = np.sort(pair.astype(np.int64) << 32 | value)
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    keys = keys[first]
    return keys >> 32, keys & 0xFFFF_FFFF


def _texts(texts: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Which of the distinct texts each is, and these, normalized; null is the empty one."""
    encoded = pc.dictionary_encode(pc.fill_null(texts, ""))
    numbers = encoded.indices.to_numpy(zero_copy_only=False)
    return numbers, [normalize(text) for text in encoded.dictionary.to_pylist()]


def _flat(lists: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The index of the list that each value is in, and the values; null is an empty list."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), lengths), pc.list_flatten(lists)


class _Writer:
    """Numbers candidates as they come and appends the numbers of each pair to a file."""

    def __init__(self, folder: Path) -> None:
        self._numbers = {"": 0}
        self._files = [tempfile.TemporaryFile(dir=folder) for _ in range(2)]  # noqa: SIM115
        self._end = np.zeros(1, dtype=np.int64)
        self._files[0].write(self._end.tobytes())

    def add(self, found: Mentions, *, num_pairs: int) -> None:
        """Append `num_pairs` pairs, which are the rows of the mentions."""
        numbers = np.array([self._number(text) for text in found.texts], int)
        number = numbers[found.text_M]
        pair, number = distinct(found.row_M[number > 0], number[number > 0])
        ends = self._end + np.cumsum(np.bincount(pair, minlength=num_pairs))
        self._files[0].write(ends.tobytes())
        self._files[1].write(number.astype(np.int32).tobytes())
        self._end = ends[-1:] if num_pairs else self._end

    def candidates(self) -> Candidates:
        """All that was added."""
        offsets, numbers = self._files
        return Candidates(
            texts=tuple(self._numbers),
            offsets_N1=_mapped(offsets, np.int64),
            numbers=_mapped(numbers, np.int32),
        )

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def _mapped(file: Any, dtype: type) -> np.ndarray:
    """What is in an open file, which may be closed then."""
    with file:
        file.flush()
        if not file.tell():
            return np.empty(0, dtype=dtype)  # no file of this size can be mapped
        return np.memmap(file, dtype=dtype, mode="r")
