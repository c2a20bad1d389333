"""Real files in the real formats, small: pictures, tars, and selections of them."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from winnow.data.ledger import make_uid
from winnow.data.selection import KEPT_SCHEMA, Selection, write_selection
from winnow.data.sources import open_source


def pixels(seed: int, width: int, height: int) -> np.ndarray:
    """Smooth colours with some grain: uint8 (height, width, 3), as photographs compress."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    grain = random.normal(0, 3, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int = 0, width: int = 64, height: int = 48, kind: str = "JPEG") -> bytes:
    return encode(pixels(seed, width, height), kind)


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], *, format: int | None = None
) -> str:
    """A tar of `members`, in their order; path as a string."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if format is None else format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def sample_members(key: str, seed: int = 0, **metadata) -> list[tuple[str, bytes]]:
    """The members of a good sample, as img2dataset writes them."""
    return [
        (f"{key}.jpg", picture(seed)),
        (f"{key}.txt", f"caption of {key}".encode()),
        (
            f"{key}.json",
            json.dumps({"key": key, "caption": f"caption of {key}"} | metadata).encode(),
        ),
    ]


def select_all(shards: Sequence[str], directory: Path) -> Selection:
    """A selection of every readable sample of the shards."""
    source = open_source(shards)
    tables = []
    for shard in source.shards:
        rows = [
            {
                "key": sample.key,
                "offset": sample.offset,
                "size": sample.size,
                "uid": make_uid(sample.image, sample.caption, sample.metadata),
                "caption": sample.caption,
            }
            for sample in source.scan(shard)
            if sample.error is None
        ]
        schema = pa.schema(list(KEPT_SCHEMA)[1:])
        tables.append(pa.Table.from_pylist(rows, schema=schema))
    write_selection(directory, list(source.shards), tables)
    return Selection.open(directory)
