"""Writes the packaged data: training shards as img2dataset does, tasks as clip-benchmark does.

Tar members carry no time and no owner and stand in a fixed order, so equal content gives equal
bytes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.ledger import make_uid
from winnow.data.packaged.captions import TEMPLATES, caption
from winnow.data.packaged.concepts import concepts
from winnow.data.packaged.contents import TaskContents
from winnow.data.packaged.noise import Sample
from winnow.data.packaged.raster import Encoding, Raster, encode
from winnow.data.packaged.vendors import Drawing

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),  # as the ledger computes it
        pa.field("vendor", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("drawing", pa.string(), nullable=False),  # its identity; copies share it
        pa.field("concept", pa.string()),  # its name; null for icons that are no emoji
        pa.field("planted", pa.string()),  # a noise.Noise; null where the pair is sound
        pa.field("caption", pa.string(), nullable=False),  # as it stands in the shard
        pa.field("original_caption", pa.string(), nullable=False),
    ]
)
_SAMPLES_PER_SHARD = 2_000
_SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp"}

EncodeAll = Callable[[Callable[[tuple[bytes, Encoding]], tuple[bytes, int]], Sequence], list]


class _Member(NamedTuple):
    name: str
    content: bytes


def write_training(
    directory: Path, samples: Sequence[Sample], rasters: dict[str, Raster], map_all: EncodeAll
) -> None:
    """Write `train/` and `truth.parquet`; `map_all(function, items)` applies `encode`."""
    jobs = [(rasters[sample.drawing.identity].png, sample.encoding) for sample in samples]
    pictures = map_all(encode, jobs)
    truth = []
    pairs = list(zip(samples, pictures, strict=True))
    for shard, first in enumerate(range(0, len(pairs), _SAMPLES_PER_SHARD)):
        members: list[_Member] = []
        for row, (sample, (picture, side)) in enumerate(pairs[first : first + _SAMPLES_PER_SHARD]):
            key = f"{shard:05d}{row:04d}"
            metadata = _metadata(key, picture, sample.caption, side)
            members += _sample_members(sample, picture, metadata)
            truth.append(_truth(key, sample, make_uid(picture, sample.caption, metadata)))
        _write_tar(directory / "train" / f"{shard:05d}.tar", members)
    pq.write_table(pa.Table.from_pylist(truth, TRUTH_SCHEMA), directory / "truth.parquet")


def write_task(folder: Path, task: TaskContents, rasters: dict[str, Raster], *, seed: int) -> None:
    """Write an evaluation set in clip-benchmark's webdataset layout."""
    for split, drawings in task.splits.items():
        members = [m for d in drawings for m in _task_members(d, task, rasters, seed=seed)]
        _write_tar(folder / split / "0.tar", members)
        _write_lines(folder / split / "nshards.txt", ["1"])
    _write_lines(folder / "classnames.txt", task.classnames)
    _write_lines(folder / "zeroshot_classification_templates.txt", TEMPLATES)


def _task_members(
    drawing: Drawing, task: TaskContents, rasters: dict[str, Raster], *, seed: int
) -> Iterator[_Member]:
    if drawing.concept is None:
        raise ValueError(f"{drawing.identity} shows no concept and cannot be a test")
    yield _Member(f"{drawing.identity}.png", rasters[drawing.identity].png)
    yield _Member(f"{drawing.identity}.cls", str(task.label_of[drawing.concept]).encode())
    if task.with_captions:
        yield _Member(f"{drawing.identity}.txt", caption(drawing, seed=seed).encode())


def _metadata(key: str, picture: bytes, words: str, side: int) -> dict:
    """The fields that img2dataset writes."""
    return {
        "caption": words,
        "key": key,
        "status": "success",
        "error_message": None,
        "width": side,
        "height": side,
        "original_width": side,
        "original_height": side,
        "sha256": hashlib.sha256(picture).hexdigest(),
    }


def _sample_members(sample: Sample, picture: bytes, metadata: dict) -> list[_Member]:
    key = metadata["key"]
    return [
        _Member(f"{key}.{_SUFFIX[sample.encoding.format]}", picture),
        _Member(f"{key}.txt", sample.caption.encode()),
        _Member(f"{key}.json", json.dumps(metadata).encode()),
    ]


def _truth(key: str, sample: Sample, uid: str) -> dict:
    drawing = sample.drawing
    return {
        "key": key,
        "uid": uid,
        "vendor": drawing.vendor,
        "style": drawing.style,
        "drawing": drawing.identity,
        "concept": concepts()[drawing.concept].name if drawing.concept else None,
        "planted": sample.planted,
        "caption": sample.caption,
        "original_caption": sample.original_caption,
    }


def _write_tar(path: Path, members: Iterable[_Member]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            header = tarfile.TarInfo(member.name)
            header.size = len(member.content)
            tar.addfile(header, io.BytesIO(member.content))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
