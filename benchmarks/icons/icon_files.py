"""Writes the benchmark's folders: training shards, evaluation sets, truth.

Members of a tar carry no time and no owner and stand in a fixed order: equal content, equal bytes.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

PAIRS_PER_TAR = 2_000


class Pair(NamedTuple):
    """One training pair."""

    uid: str
    png: bytes
    caption: str
    facts: dict[str, Any]
    """What truth says of it beyond uid, key and caption."""


class Shown(NamedTuple):
    """One picture of an evaluation set."""

    key: str
    png: bytes
    label: int | None = None
    caption: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """An evaluation set, in clip-benchmark's webdataset layout when it is written."""

    splits: Mapping[str, Sequence[Shown]]
    classnames: tuple[str, ...] = ()
    """In label order; none where it is for retrieval alone."""
    templates: tuple[str, ...] = ("{c}", "an icon of a {c}.")

    def write(self, folder: Path) -> dict[str, int]:
        """Write it; how many pictures each split has."""
        for split, pictures in self.splits.items():
            write_tar(folder / split / "0.tar", (m for one in pictures for m in _shown(one)))
            write_lines(folder / split / "nshards.txt", ("1",))
        if self.classnames:
            write_lines(folder / "classnames.txt", self.classnames)
            write_lines(folder / "zeroshot_classification_templates.txt", self.templates)
        else:
            write_lines(folder / "dataset_type.txt", ("retrieval",))
        return {split: len(pictures) for split, pictures in self.splits.items()}


def write_pairs(directory: Path, name: str, pairs: Sequence[Pair]) -> None:
    """Write the pairs in their order to `name/*.tar` and what is true of them to `truth/`."""
    truth = []
    for shard, first in enumerate(range(0, len(pairs), PAIRS_PER_TAR)):
        members: list[tuple[str, bytes]] = []
        for row, pair in enumerate(pairs[first : first + PAIRS_PER_TAR]):
            key = f"{shard:05d}{row:04d}"
            members += pair_members(key, pair.png, pair.caption, pair.uid)
            truth.append({"uid": pair.uid, "key": key, "caption": pair.caption, **pair.facts})
        write_tar(directory / name / f"{shard:05d}.tar", members)
    write_truth(directory / "truth" / f"{name}.parquet", truth)


def pair_members(key: str, png: bytes, caption: str, uid: str) -> list[tuple[str, bytes]]:
    """The members of one pair, as img2dataset names them."""
    return [
        (f"{key}.png", png),
        (f"{key}.txt", caption.encode()),
        (f"{key}.json", json.dumps({"uid": uid}).encode()),
    ]


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The members of a tar that `write_tar` wrote."""
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None, f"{path} has a member that is no file"
            yield member.name, file.read()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write the members in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


def write_truth(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table of truth, uncompressed: what packs the folder finds more in it then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shown(one: Shown) -> Iterator[tuple[str, bytes]]:
    yield f"{one.key}.png", one.png
    if one.label is not None:
        yield f"{one.key}.cls", str(one.label).encode()
    if one.caption is not None:
        yield f"{one.key}.txt", one.caption.encode()
