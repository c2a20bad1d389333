"""A teacher's features of every kept picture, computed once: what the store has is not done again.

Pictures are read in the selection's order by one thread, one shard at a time, decoded by others and
given to the model in batches; some batches are always ahead of it. What was computed is written
every 16,384 pictures or every minute, and when the work is stopped: the same command goes on after
the last part that is whole. Remote shards are read a request a picture, which keeps a GPU waiting;
`filecache::` before their URLs reads each shard once.
"""

import hashlib
import itertools
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from winnow.concepts import KeptRows
from winnow.concepts.feature_store import (
    PART_ROWS,
    TEACHER_FILE,
    FeatureStore,
    PartFacts,
    TeacherFacts,
    damaged_parts,
    indexed,
    part_name,
    picture_keys,
    read_parts,
    remove_part,
    write_part,
)
from winnow.concepts.teacher import Teacher
from winnow.config import as_dict, load, write_json
from winnow.data.folder import Folder, claimed
from winnow.data.images import ImageError, View, evaluation_view
from winnow.data.keyed import KEY_DTYPE, find, keys_of, write_sorted
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import Reader, open_reader
from winnow.progress import track
from winnow.types import InputError

_BATCHES_AHEAD = 2
_SECONDS_A_PART = 60.0
_SCRATCH = ".scratch"
_MOST_DECODERS = 16
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def compute_features(
    teacher: Teacher,
    selection: Selection,
    rows: KeptRows,
    folder: Path,
    *,
    batch_size: int = 64,
    workers: int | None = None,
) -> FeatureStore:
    """The features of the selection's pictures in the store at `folder`, made or completed.

    `workers` threads decode, by default one a core. Copies of a picture are computed once. Raises
    InputError where the store is another teacher's, where a picture is no longer what it was when
    the ledger was made, and where a feature does not fit into float16.
    """
    if batch_size < 1 or (workers is not None and workers < 1):
        raise InputError(f"batch_size {batch_size} and workers {workers} must be at least 1")
    with _claimed(folder) as scratch:
        refuse_another_teachers(folder, teacher)
        write_json(folder / TEACHER_FILE, as_dict(_facts_of(teacher)))
        parts = _whole_parts(folder)
        store = indexed(folder, parts, scratch=scratch)
        missing = _find_missing(store, rows, scratch / "missing.npy")
        assert missing.num_rows == len(selection), "rows of this selection"
        if not len(missing.keys):
            return store
        bar = track(
            f"features of {teacher.name}",
            total=missing.num_found + len(missing.keys),
            unit="pictures",
            done=missing.num_found,
        )
        wanted = _batched(_wanted(rows, missing.keys), batch_size)
        views = _views(selection, wanted, size=teacher.image_size, decoders=_decoders(workers))
        # What was computed before a stop or an error is kept.
        with bar as advance, closing(views), closing(_Parts(folder, parts)) as writer:
            for pictures, image_BCHW in views:
                features_BF = teacher.features(torch.from_numpy(image_BCHW))
                writer.add(_keys(pictures), _as_float16(features_BF, teacher))
                advance(len(pictures))
        return indexed(folder, writer.parts, scratch=scratch)


class _Wanted(NamedTuple):
    """A picture to compute the feature of."""

    row: int
    """Of the selection."""
    sha256: str


class _Missing(NamedTuple):
    keys: np.ndarray
    """KEY_DTYPE, sorted, each once; memory-mapped."""
    num_rows: int
    """Rows of the selection."""
    num_found: int
    """Those of them whose pictures the store has."""


@contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """Within, this process alone adds to the store; a folder for scratch files."""
    with claimed(folder, doing="computing features into"):
        scratch = folder / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)  # a killed process's
        scratch.mkdir()
        Folder.at(folder).sweep()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch)


def refuse_another_teachers(folder: Path, teacher: Teacher) -> None:
    """Raise InputError where the store at `folder` has the features of another than `teacher`."""
    facts = _facts_of(teacher)
    try:
        there = load(TeacherFacts, folder / TEACHER_FILE)
    except InputError as error:
        if not read_parts(folder):
            return
        raise InputError(
            f"{folder} has features and no readable {TEACHER_FILE}, so nobody knows whose they "
            f"are ({error.__cause__ or 'it is missing'}): delete the folder, or give another with "
            "--features"
        ) from error
    if there.identity != facts.identity:
        raise InputError(
            f"{folder} holds features of teacher {there.name} ({there.identity}, "
            f"{there.image_size} pixels), and this is {facts.name} ({facts.identity}, "
            f"{facts.image_size} pixels): give another folder with --features, or delete that one"
        )


def _facts_of(teacher: Teacher) -> TeacherFacts:
    return TeacherFacts(
        name=teacher.name,
        identity=teacher.identity(),
        width=teacher.width,
        image_size=teacher.image_size,
    )


def _whole_parts(folder: Path) -> dict[int, PartFacts]:
    """The parts that are what was written; others are removed, with a warning."""
    found = read_parts(folder)
    parts = {number: facts for number, facts in found.items() if facts is not None}
    damaged = {*(found.keys() - parts.keys()), *damaged_parts(folder, parts)}
    for number in sorted(damaged):
        warnings.warn(
            f"part {part_name(number)} of {folder} is damaged: its pictures are computed again",
            stacklevel=3,
        )
        remove_part(folder, number)
    return {number: facts for number, facts in parts.items() if number not in damaged}


def _find_missing(store: FeatureStore, rows: KeptRows, path: Path) -> _Missing:
    """Which pictures the store lacks, in memory that does not grow with their number."""
    num_rows = num_missing = 0

    def missing() -> Iterator[np.ndarray]:
        nonlocal num_rows, num_missing
        for batch in rows():
            keys = picture_keys(batch)
            lacking = keys[store.places(keys) < 0]
            num_rows, num_missing = num_rows + len(keys), num_missing + len(lacking)
            yield lacking

    write_sorted(path, missing(), dtype=KEY_DTYPE)
    keys = np.load(path, mmap_mode="r", allow_pickle=False)
    return _Missing(keys, num_rows=num_rows, num_found=num_rows - num_missing)


def _wanted(rows: KeptRows, missing: np.ndarray) -> Iterator[_Wanted]:
    """The first row of every missing picture, in the order of rows."""
    is_done = np.zeros(len(missing), dtype=bool)
    start = 0
    for batch in rows():
        place = find(missing, picture_keys(batch))
        here = np.flatnonzero(place >= 0)
        here = here[~is_done[place[here]]]
        _, first = np.unique(place[here], return_index=True)
        here = here[np.sort(first)]
        is_done[place[here]] = True
        digits = batch["sha256"].take(here).to_pylist()
        yield from map(_Wanted, (start + here).tolist(), digits)
        start += len(batch)


def _views(
    selection: Selection, batches: Iterator[list[_Wanted]], *, size: int, decoders: int
) -> Generator[tuple[list[_Wanted], np.ndarray], None, None]:
    """Each batch with its pictures, uint8 (B, 3, size, size)."""
    shard = _Shard(selection=selection)
    # Readers are for one thread; decoding releases the interpreter's lock.
    reading, decoding = ThreadPoolExecutor(1), ThreadPoolExecutor(decoders)

    def read(pictures: list[_Wanted]) -> list[Future[np.ndarray]]:
        samples = selection.samples(np.array([picture.row for picture in pictures]))
        datas = zip(pictures, samples, shard.read(pictures, samples), strict=True)
        return [decoding.submit(_view, *of_one, size=size) for of_one in datas]

    ahead: deque[tuple[list[_Wanted], Future[list[Future[np.ndarray]]]]] = deque()
    try:
        for pictures in batches:
            ahead.append((pictures, reading.submit(read, pictures)))
            if len(ahead) > _BATCHES_AHEAD:
                yield _ready(*ahead.popleft())
        while ahead:
            yield _ready(*ahead.popleft())
    finally:
        reading.shutdown(cancel_futures=True)
        decoding.shutdown(cancel_futures=True)
        shard.close()


def _ready(
    pictures: list[_Wanted], views: Future[list[Future[np.ndarray]]]
) -> tuple[list[_Wanted], np.ndarray]:
    return pictures, np.stack([view.result() for view in views.result()])


def _view(picture: _Wanted, sample: KeptSample, data: bytes, *, size: int) -> np.ndarray:
    where = f"{sample.shard}: {sample.address.key}"
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise InputError(
            f"{where} is another picture than when the ledger was made: curate the shard again"
        )
    try:
        return evaluation_view(data, view=View(size))
    except ImageError as error:
        raise InputError(
            f"{where} could be read when the ledger was made and cannot now ({error}): curate the "
            "shard again"
        ) from error


@dataclass(kw_only=True)
class _Shard:
    """The shard that is open: rows stand shard by shard, so one is enough."""

    selection: Selection
    name: str = ""
    reader: Reader | None = None

    def read(self, pictures: list[_Wanted], samples: list[KeptSample]) -> Iterator[bytes]:
        """The bytes of each picture; those of one shard are announced together."""
        pairs = zip(pictures, samples, strict=True)
        for name, group in itertools.groupby(pairs, key=lambda pair: pair[1].shard):
            together = list(group)
            reader = self._open(name)
            (first, head), (last, tail) = together[0], together[-1]
            # Far apart, most of what lies between them is not wanted.
            if last.row - first.row < 2 * len(together):
                reader.will_need(head.address, tail.address)
            for _, sample in together:
                yield reader.read(sample.address)

    def close(self) -> None:
        """Give the shard back."""
        if self.reader is not None:
            self.reader.__exit__(None, None, None)
        self.reader = None

    def _open(self, name: str) -> Reader:
        if self.reader is None or name != self.name:
            self.close()
            self.reader = open_reader(name, columns=self.selection.columns).__enter__()
            self.name = name
        return self.reader


@dataclass
class _Parts:
    """Writes features as parts, in the order in which they come."""

    folder: Path
    parts: dict[int, PartFacts]
    """All parts of the store by number, those that are written here too."""
    keys: list[np.ndarray] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    waiting: int = 0
    """Pictures that are not written yet."""
    since: float = field(default_factory=time.monotonic)

    def add(self, keys: np.ndarray, features_BF: np.ndarray) -> None:
        """Take a batch; write a part where there are enough, or enough time has passed."""
        self.keys.append(keys)
        self.features.append(features_BF)
        self.waiting += len(keys)
        is_late = time.monotonic() - self.since > _SECONDS_A_PART
        if self.waiting >= PART_ROWS or is_late:
            self.close()

    def close(self) -> None:
        """Write what is waiting."""
        if not self.waiting:
            return
        keys, features_NF = np.concatenate(self.keys), np.concatenate(self.features)
        self.keys, self.features, self.waiting = [], [], 0
        for start in range(0, len(keys), PART_ROWS):
            here = slice(start, start + PART_ROWS)
            number = max(self.parts, default=-1) + 1
            self.parts[number] = write_part(self.folder, number, keys[here], features_NF[here])
        self.since = time.monotonic()


def _keys(pictures: list[_Wanted]) -> np.ndarray:
    return keys_of(bytes.fromhex("".join(picture.sha256[:32] for picture in pictures)))


def _as_float16(features_BF: torch.Tensor, teacher: Teacher) -> np.ndarray:
    largest = features_BF.abs().max().item()
    if largest > _FLOAT16_MAX:
        raise InputError(
            f"teacher {teacher.name} gives a feature of {largest:.4g}, which float16 does not hold "
            f"(at most {_FLOAT16_MAX:,.0f}): scale its features down"
        )
    return features_BF.numpy().astype(np.float16)


def _decoders(workers: int | None) -> int:
    return workers or min(_MOST_DECODERS, os.cpu_count() or 1)


def _batched(pictures: Iterator[_Wanted], size: int) -> Iterator[list[_Wanted]]:
    while batch := list(itertools.islice(pictures, size)):
        yield batch
