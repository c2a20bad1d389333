"""Rows of features, computed once, part by part, by any number of processes, and kept by a key.

    CACHE/KEY/00000.npz ...   some rows of every array, while not all are there
    CACHE/KEY/NAME.npy        all rows of one array; memory-mapped
    CACHE/KEY/facts.json      what the key is made of, and the shapes; written last

The key is a hash of all that the rows depend on, so whatever changes makes another key and nothing
stale can be read. A part appears whole or not at all: a killed computation goes on after it, on as
many ranks as there are then. Part i is of rank i modulo their number; the first one joins them.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from torch import distributed

from winnow.config import read_json, write_json
from winnow.data.folder import claimed
from winnow.distributed import barrier, stopping_together, world
from winnow.types import InputError

FACTS_FILE = "facts.json"


class Part(NamedTuple):
    """Rows from `start` up to `stop`."""

    number: int
    start: int
    stop: int


Compute = Callable[[Sequence[Part]], Iterable[tuple[Part, Mapping[str, np.ndarray]]]]
"""Gives the named arrays of every part asked for; the same names for each."""


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """A folder of computed rows."""

    folder: Path

    def rows(
        self,
        depends: Mapping[str, Any],
        compute: Compute,
        *,
        num_rows: int,
        part_rows: int,
        before_facts: Callable[[Path], None] = lambda _: None,
    ) -> tuple[Path, dict[str, np.ndarray]]:
        """The folder of what `depends` describes and its arrays, computed as far as they lack.

        `before_facts` may put further files beside them; one rank calls it. Raises InputError where
        another process computes the same, or where what is there is damaged.
        """
        key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]
        folder = self.folder / key
        if not _is_whole(folder):
            with _claimed_by_first(folder):
                # Another process may have finished between the look and the claim.
                if not _is_whole(folder):
                    parts = list(parts_of(num_rows, part_rows))
                    with stopping_together():
                        _compute_missing(folder, compute, parts)
                    if world().rank == 0:
                        shapes = _join(folder, parts)
                        before_facts(folder)
                        write_json(folder / FACTS_FILE, {"depends": depends, "shapes": shapes})
                        _sweep(folder)
                    barrier()
        return folder, _load(folder)


def parts_of(num_rows: int, part_rows: int) -> Iterator[Part]:
    """The parts of so many rows."""
    for number, start in enumerate(range(0, num_rows, part_rows)):
        yield Part(number, start, min(start + part_rows, num_rows))


def _is_whole(folder: Path) -> bool:
    """Whether all is there. The first rank looks for all of them, so that they stay together."""
    seen = [(folder / FACTS_FILE).is_file()]
    if world().size > 1:
        distributed.broadcast_object_list(seen)
    return seen[0]


@contextlib.contextmanager
def _claimed_by_first(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if world().rank == 0:
            stack.enter_context(claimed(folder, doing="computing features into"))
        barrier()
        yield


def _compute_missing(folder: Path, compute: Compute, parts: Sequence[Part]) -> None:
    own = parts[world().rank :: world().size]
    missing = [part for part in own if not _part_file(folder, part.number).is_file()]
    for part, arrays in compute(missing):
        path = _part_file(folder, part.number)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)


def _part_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npz"


def _join(folder: Path, parts: Sequence[Part]) -> dict[str, list[int]]:
    """Put the parts of every array one behind the other; their shapes.

    Each is renamed when it is whole: who has the former one mapped keeps it.
    """
    shapes: dict[str, list[int]] = {}
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for part in parts:
            arrays = _read_part(_part_file(folder, part.number), num_rows=part.stop - part.start)
            for name, rows in arrays.items():
                if name not in files:
                    # Written, not mapped: a disk that is full says so.
                    files[name] = stack.enter_context(_partial_array(folder, name).open("wb"))
                    shapes[name] = [parts[-1].stop, *rows.shape[1:]]
                    header = np.lib.format.header_data_from_array_1_0(rows)
                    header["shape"] = tuple(shapes[name])
                    np.lib.format.write_array_header_1_0(files[name], header)
                files[name].write(np.ascontiguousarray(rows).data)
    for name in shapes:
        _partial_array(folder, name).replace(folder / f"{name}.npy")
    return shapes


def _partial_array(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy.partial"


def _read_part(path: Path, *, num_rows: int) -> dict[str, np.ndarray]:
    with _told(path.parent), np.load(path, allow_pickle=False) as part:
        arrays = {name: part[name] for name in part.files}
        if any(len(rows) != num_rows for rows in arrays.values()):
            raise ValueError(f"{path.name} has not {num_rows} rows")
    return arrays


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Whatever numpy says of a file becomes a sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the features in {folder} are damaged ({error}): delete the folder, and the same "
            "command computes them again"
        ) from error


def _sweep(folder: Path) -> None:
    for path in [*folder.glob("*.npz"), *folder.glob("*.partial")]:
        path.unlink()


def _load(folder: Path) -> dict[str, np.ndarray]:
    facts = read_json(folder / FACTS_FILE)
    with _told(folder):
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in facts["shapes"]
        }
        if any(list(array.shape) != facts["shapes"][name] for name, array in arrays.items()):
            raise ValueError("an array has another shape than facts.json says")
    return arrays
