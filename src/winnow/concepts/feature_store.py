"""Features on disk: parts that are only ever added, and an index over the pictures in them.

    teacher.json            whose features these are
    00000.features.npy      float16 (rows, F), of at most 16,384 pictures
    00000.keys.npy          the pictures: the first 16 bytes of the sha256 of their files
    00000.json              how many rows, and the sha256 of both files; written last
    index.npy, index.json   every picture's place, sorted by key; written last of all

A feature is looked up by its picture's bytes, which is all that it depends on: a picture that was
replaced under its uid is another one, and copies are one whatever their captions. A place is
part * 16,384 + row. Opening the store reads all of it once, to compare the hashes: seconds where
the teacher took hours, and what trains on it reads as much.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.concepts import KeptRows
from winnow.config import as_dict, from_dict, load, read_json, write_json
from winnow.data.files import sha256_of
from winnow.data.folder import Folder
from winnow.data.keyed import KeyConflictError, find, keys_of, write_sorted
from winnow.types import InputError

PART_ROWS = 1 << 14
"""Most pictures of a part."""
TEACHER_FILE = "teacher.json"
INDEX_FILE = "index.npy"
INDEX_FACTS_FILE = "index.json"

_PART_FACTS = re.compile(r"(\d{5,})\.json")
_INDEX_DTYPE = np.dtype([("f0", "<u8"), ("f1", "<u8"), ("place", "<i8")])
_KEY_DIGITS = 32
_HASHING_THREADS = 4
# Each holds a file descriptor, of which a process may have as few as 256.
_OPEN_PARTS = 128
_AGAIN = "run `winnow concepts` again, which computes what is missing"


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """What stands in `teacher.json`."""

    name: str
    """As it was asked for."""
    identity: str
    """See Teacher.identity."""
    width: int
    """F."""
    image_size: int
    """Side of the pictures it saw, in pixels."""


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What stands in a part's json."""

    rows: int
    features: str
    """sha256 of the file, as `keys`."""
    keys: str


@dataclass(frozen=True, kw_only=True)
class _IndexFacts:
    parts: dict[str, PartFacts]
    """By number."""
    index: str
    """sha256 of the file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureStore:
    """The features of one teacher, of whatever pictures it has seen."""

    folder: Path
    teacher: TeacherFacts
    parts: dict[int, PartFacts]
    """By number; as the index has them."""
    index: np.ndarray
    """Key and place of every picture, by key; memory-mapped."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def width(self) -> int:
        """F."""
        return self.teacher.width

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """The store in `folder`, all of it compared with its hashes.

        Raises InputError where there is none, or where a file is damaged.
        """
        for name in (TEACHER_FILE, INDEX_FACTS_FILE):
            if not (folder / name).is_file():
                raise InputError(
                    f"{folder} holds no finished features ({name} is missing): make them with "
                    "`winnow concepts DIR`"
                )
        facts = load(_IndexFacts, folder / INDEX_FACTS_FILE)
        parts = {int(number): part for number, part in facts.parts.items()}
        damaged = damaged_parts(folder, parts)
        if damaged:
            names = ", ".join(part_name(number) for number in damaged)
            raise InputError(f"parts {names} of {folder} are missing or damaged: {_AGAIN}")
        if _sha256(folder / INDEX_FILE) != facts.index:
            raise InputError(f"{folder / INDEX_FILE} is missing or damaged: {_AGAIN}")
        return cls._of_checked(folder, parts)

    @classmethod
    def _of_checked(cls, folder: Path, parts: dict[int, PartFacts]) -> "FeatureStore":
        teacher = load(TeacherFacts, folder / TEACHER_FILE)
        index = np.load(folder / INDEX_FILE, mmap_mode="r", allow_pickle=False)
        return cls(folder=folder, teacher=teacher, parts=parts, index=index)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """int64: the place of each picture; -1 where the store has none."""
        found = find(self.index, keys)
        if not len(self.index):
            return found
        return np.where(found >= 0, self.index["place"][found], -1)

    def of(self, rows: KeptRows) -> "Features":
        """The features of a selection's pictures, row by row, at 8 bytes of memory a row.

        Raises InputError where one is missing.
        """
        places = [np.empty(0, dtype=np.int64)]
        places += [self.places(picture_keys(batch)) for batch in rows()]
        place_N = np.concatenate(places)
        lacking = np.count_nonzero(place_N < 0)
        if lacking:
            raise InputError(
                f"{self.folder} lacks the features of {lacking:,} of {len(place_N):,} kept "
                f"pictures: {_AGAIN}"
            )
        return Features(self, place_N)


class Features:
    """The features of a selection's pictures by row number."""

    def __init__(self, store: FeatureStore, place_N: np.ndarray) -> None:
        self._store = store
        self._place_N = place_N
        self._part = lru_cache(maxsize=_OPEN_PARTS)(self._open_part)

    def __len__(self) -> int:
        return len(self._place_N)

    @property
    def width(self) -> int:
        """F."""
        return self._store.width

    def take(self, rows: np.ndarray) -> np.ndarray:
        """float16 (n, F): the features of `rows` (int64), in their order."""
        number_n, inside_n = np.divmod(self._place_N[rows], PART_ROWS)
        features_nF = np.empty((len(rows), self.width), dtype=np.float16)
        order = np.lexsort((inside_n, number_n))
        numbers, starts = np.unique(number_n[order], return_index=True)
        for number, here in zip(numbers.tolist(), np.split(order, starts[1:]), strict=False):
            features_nF[here] = self._part(number)[inside_n[here]]
        return features_nF

    def _open_part(self, number: int) -> np.ndarray:
        path = self._store.folder / f"{part_name(number)}.features.npy"
        return np.load(path, mmap_mode="r", allow_pickle=False)


def picture_keys(batch: pa.RecordBatch) -> np.ndarray:
    """KEY_DTYPE: the key of every row's picture."""
    digits = pc.utf8_slice_codeunits(batch["sha256"], 0, _KEY_DIGITS).to_pylist()
    return keys_of(bytes.fromhex("".join(digits)))


def part_name(number: int) -> str:
    """What the names of a part's files begin with."""
    return f"{number:05d}"


def write_part(folder: Path, number: int, keys: np.ndarray, features_NF: np.ndarray) -> PartFacts:
    """Write a part; it is there, whole, when its json is."""
    hashes = {}
    for kind, array in (("features", features_NF), ("keys", keys)):
        with Folder.at(folder).writing(f"{part_name(number)}.{kind}.npy") as path:
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            hashes[kind] = _sha256(path)
    facts = PartFacts(rows=len(keys), **hashes)
    write_json(folder / f"{part_name(number)}.json", as_dict(facts))
    return facts


def read_parts(folder: Path) -> dict[int, PartFacts | None]:
    """Every part in the folder by number; None where its json is damaged."""
    found: dict[int, PartFacts | None] = {}
    for name in Folder.at(folder).names():
        named = _PART_FACTS.fullmatch(name)
        if named is not None:
            found[int(named[1])] = _read_facts(folder / name)
    return found


def damaged_parts(folder: Path, parts: dict[int, PartFacts]) -> list[int]:
    """The numbers of those whose files are missing or not what was written."""

    def is_whole(number: int) -> bool:
        stem, facts = str(folder / part_name(number)), parts[number]
        return (
            _sha256(Path(f"{stem}.features.npy")) == facts.features
            and _sha256(Path(f"{stem}.keys.npy")) == facts.keys
        )

    # Hashing releases the interpreter's lock.
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        whole = pool.map(is_whole, parts)
        return [number for number, is_good in zip(parts, whole, strict=True) if not is_good]


def remove_part(folder: Path, number: int) -> None:
    """Remove the files of a part, its json first."""
    for suffix in ("json", "features.npy", "keys.npy"):
        Folder.at(folder).remove(f"{part_name(number)}.{suffix}")


def indexed(folder: Path, parts: dict[int, PartFacts], *, scratch: Path) -> FeatureStore:
    """The store of these parts, known to be whole; its index is made anew if it is of others."""
    path, facts_path = folder / INDEX_FILE, folder / INDEX_FACTS_FILE
    named = {part_name(number): facts for number, facts in sorted(parts.items())}
    facts = _read_index_facts(facts_path)
    if facts is None or facts.parts != named or _sha256(path) != facts.index:
        made = scratch / INDEX_FILE
        try:
            write_sorted(made, _key_places(folder, parts), dtype=_INDEX_DTYPE)
        except KeyConflictError as error:
            raise InputError(
                f"{folder} has two features of one picture ({error}), as parts that were copied "
                "into it would: delete it and run again"
            ) from error
        digest = _sha256(made)
        made.replace(path)
        write_json(facts_path, as_dict(_IndexFacts(parts=named, index=digest)))
    return FeatureStore._of_checked(folder, parts)


def _key_places(folder: Path, parts: dict[int, PartFacts]) -> Iterator[np.ndarray]:
    for number in parts:
        keys = np.load(folder / f"{part_name(number)}.keys.npy", allow_pickle=False)
        rows = np.empty(len(keys), dtype=_INDEX_DTYPE)
        rows["f0"], rows["f1"] = keys["f0"], keys["f1"]
        rows["place"] = number * PART_ROWS + np.arange(len(keys))
        yield rows


def _read_facts(path: Path) -> PartFacts | None:
    try:
        return from_dict(PartFacts, read_json(path), where=str(path))
    except InputError:
        return None


def _read_index_facts(path: Path) -> _IndexFacts | None:
    try:
        return from_dict(_IndexFacts, read_json(path), where=str(path))
    except InputError:
        return None


def _sha256(path: Path) -> str:
    """Of the file; empty where there is none."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return ""
