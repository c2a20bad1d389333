"""Ledger rows, corpora and shards to curate, small enough to be read in the test."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE
from winnow.curation.rules.rule import Rule
from winnow.data.ledger import LEDGER_SCHEMA, make_uid


def ledger_rows(*samples: dict, number: int = 0) -> pa.RecordBatch:
    """Rows of the ledger with their places: what a sample does not say is made up."""
    rows = []
    for index, sample in enumerate(samples):
        picture = str(sample.get("picture", f"picture {number} {index}")).encode()
        caption = sample.get("caption", "a red apple")
        rows.append(
            {
                "uid": make_uid(picture, caption or "", {}),
                "key": f"{number}-{index}",
                "offset": 512 * index,
                "size": 100,
                "sha256": hashlib.sha256(picture).hexdigest(),
                "caption": caption,
                "width": sample.get("width", 640),
                "height": sample.get("height", 480),
                "format": "jpeg",
                "error": sample.get("error"),
            }
        )
    batch = pa.RecordBatch.from_pylist(rows, schema=LEDGER_SCHEMA)
    places = (number << 32) + np.arange(len(rows), dtype=np.int64)
    return batch.append_column(PLACE, pa.array(places))


def verdicts(rule: Rule, *samples: dict) -> list[str | None]:
    """The rule's verdicts on samples that are the whole corpus."""
    rows = ledger_rows(*samples)
    return rule.verdicts(rows, Corpus(lambda: [rows])).to_pylist()


def caption_verdicts(rule: Rule, *captions: str) -> list[str | None]:
    """The rule's verdicts on captions of distinct pictures."""
    return verdicts(rule, *({"caption": caption} for caption in captions))


def picture(seed: int, *, width: int = 48, height: int = 40, format: str = "png") -> bytes:
    """A picture of noise: other seeds, other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=format)
    return file.getvalue()


def write_shard(path: Path, pairs: list[tuple[bytes, str]]) -> Path:
    """A webdataset shard of `(picture, caption)`, its keys counted on from the shard's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for index, (image, caption) in enumerate(pairs):
            key = f"{path.stem}{index:04d}"
            for name, content in ((f"{key}.png", image), (f"{key}.txt", caption.encode())):
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path
