"""Shards and ledgers for the benchmark of curation: made at once, the same at every run."""

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.config import as_dict
from winnow.curation.ledger_files import ROWS_PER_GROUP, ShardStats
from winnow.curation.numbered import record_name, rows_name, sign
from winnow.data.ledger import LEDGER_SCHEMA

PICTURE_SIDES = (256, 512)
"""Pixels, as web pictures are stored for training."""
SMALL_SIDE = 64
"""Pixels of the pictures whose number matters, not their size."""
DISTINCT = 32
"""JPEGs that are made; shards repeat them."""
ROWS_PER_SHARD = 10_000
"""As img2dataset writes them."""
WORDS = tuple(f"{a}{b}" for a in ("ba", "co", "di", "fu", "gle", "ma") for b in "lmnprstvwxz")


def jpegs(count: int, *, sides: tuple[int, int]) -> list[bytes]:
    """The loader benchmark's pictures, their shorter sides drawn from `sides`, at quality 90."""
    from loader import photograph_like

    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        height, width = random.integers(sides[0], sides[1], size=2, endpoint=True)
        picture = Image.fromarray(photograph_like(random)).resize((width, height))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def write_tars(
    folder: Path, pictures: Sequence[bytes], captions: Sequence[str], *, shards: int, samples: int
) -> Path:
    """`shards` tars of `samples` pairs each; pictures and captions are repeated as need be.

    Every caption that comes again ends in a number of its own, so that none is repeated.
    """
    folder.mkdir(parents=True)
    pairs = zip(itertools.cycle(pictures), _endless(captions), strict=False)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for index, (picture, caption) in enumerate(itertools.islice(pairs, samples)):
                key = f"{shard:05d}{index:06d}"
                members = {
                    "jpg": picture,
                    "txt": caption.encode(),
                    "json": json.dumps({"key": key}).encode(),
                }
                for extension, payload in members.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(payload)
                    archive.addfile(member, io.BytesIO(payload))
    return folder


def write_ledger(out: Path, rows: int) -> Path:
    """A ledger of `rows` pairs that no shard is behind, in shards of `ROWS_PER_SHARD`.

    Of a hundred pairs about 3 have the picture of another one, 3 one that is nearly another's, 2
    one of 50 captions, 1 a file's name for a caption; one in two hundred cannot be read.
    """
    folder = out / "ledger"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = []
    for number, first in enumerate(range(0, rows, ROWS_PER_SHARD)):
        count = min(ROWS_PER_SHARD, rows - first)
        table = _ledger_rows(first, count, random)
        content = str(number)
        with pq.ParquetWriter(folder / rows_name(number), table.schema) as file:
            file.write_table(table, row_group_size=ROWS_PER_GROUP)
            sign(file, content)
        names.append(f"/shards/{number:05d}.tar")
        errors = {"truncated picture": table["error"].length() - table["error"].null_count}
        stats = ShardStats(
            shard=names[-1],
            bytes=1,
            modified="1",
            annotation="",
            rows=count,
            content=content,
            errors=errors,
        )
        (folder / record_name(number)).write_text(json.dumps(as_dict(stats)))
    (folder / "shards.json").write_text(json.dumps(names))
    return out


def _endless(captions: Iterable[str]) -> Iterator[str]:
    known = list(captions)
    yield from known
    for round_number in itertools.count(2):
        yield from (f"{caption} {round_number}" for caption in known)


def _ledger_rows(first: int, count: int, random: np.random.Generator) -> pa.Table:
    place = first + np.arange(count)
    is_copy = random.random(count) < 0.03
    picture = np.where(is_copy, random.integers(0, place + 1), place)
    # A picture's hash is drawn by its number; what is nearly another's differs from it in one bit.
    is_near = random.random(count) < 0.03
    original = np.where(is_near, random.integers(0, place + 1), picture).astype(np.uint64)
    mixed = (original + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    picture_hash = mixed ^ (is_near.astype(np.uint64) << np.uint64(7))
    words = random.integers(0, len(WORDS), size=(count, 9))
    lengths = random.integers(2, 10, size=count)
    captions = [
        " ".join(WORDS[word] for word in row[:length])
        for row, length in zip(words.tolist(), lengths.tolist(), strict=True)
    ]
    kinds = random.random(count)
    for index in np.flatnonzero(kinds < 0.03).tolist():
        shared = f"stock picture of kind {index % 50}"
        captions[index] = shared if kinds[index] < 0.02 else f"IMG_{place[index]:07d}.JPG"
    errors = np.where(random.random(count) < 0.005, "truncated picture: cut", None)
    digests = [hashlib.sha256(b"%d" % number).hexdigest() for number in picture.tolist()]
    width = random.integers(100, 1_200, size=count)
    columns: dict[str, Any] = {
        "uid": [f"{number:032x}" for number in place.tolist()],
        "key": [f"{number:09d}" for number in place.tolist()],
        "offset": place * 65_536,
        "size": random.integers(5_000, 60_000, size=count),
        "sha256": digests,
        "caption": captions,
        "url": [f"https://example.org/{number}.jpg" for number in place.tolist()],
        "width": width,
        "height": (width * 2 ** random.uniform(-1.7, 1.7, size=count)).astype(int),
        "format": ["jpeg"] * count,
        "picture_hash": picture_hash,
        "error": errors,
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in LEDGER_SCHEMA], LEDGER_SCHEMA)
