"""A small real selection with its kept rows, and a teacher that counts what it is shown."""

import io
import json
import tarfile
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from winnow.concepts.teacher import Teacher
from winnow.curation.selections import none
from winnow.data.selection import Selection
from winnow.recipes.data import curate

ROWS_AT_ONCE = 7  # no divisor of anything: batches of rows end anywhere


class Kept(NamedTuple):
    """A selection and the rows that go with it."""

    selection: Selection
    rows: object


def picture(seed, *, width=40, height=32):
    """A picture file of soft random shapes, another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def write_pairs(path, pairs):
    """A webdataset shard of (picture file, caption, uid)."""
    with tarfile.open(path, "w") as archive:
        for index, (image, caption, uid) in enumerate(pairs):
            key = f"{path.stem}{index:04d}"
            members = {"png": image, "txt": caption.encode(), "json": json.dumps({"uid": uid})}
            for extension, data in members.items():
                data = data if isinstance(data, bytes) else data.encode()
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def uid(number):
    return f"{number:032x}"


def keep_everything(shards, out):
    """Curate the folder `shards` without a rule."""
    result = curate(str(shards), out, rules=none(), name="none", workers=1)
    ledger = pa.concat_tables(pq.read_table(p) for p in sorted((out / "ledger").glob("*.parquet")))
    table = ledger.filter(pa.compute.is_null(ledger["error"])).select(["uid", "sha256", "caption"])
    nothing = pa.nulls(len(table), pa.list_(pa.struct([("lemma", pa.string())])))
    table = table.append_column("objects", nothing).combine_chunks()

    def rows():
        return iter(table.to_batches(max_chunksize=ROWS_AT_ONCE))

    return Kept(Selection.open(result.directory), rows)


class Counting(torch.nn.Module):
    """A linear map of the pixels of a reduced picture, to 6 features; counts pictures."""

    def __init__(self, seed=0, fail_after=None):
        super().__init__()
        weight = torch.randn(6, 48, generator=torch.Generator().manual_seed(seed))
        self.linear = torch.nn.Linear(48, 6)
        self.linear.load_state_dict({"weight": weight, "bias": torch.zeros(6)})
        self.seen, self.calls, self.fail_after = 0, 0, fail_after

    def forward(self, image_BCHW):
        self.calls += 1
        if self.calls - 1 == self.fail_after:  # the first call is the teacher's own
            raise KeyboardInterrupt
        self.seen += len(image_BCHW)
        pooled = torch.nn.functional.adaptive_avg_pool2d(image_BCHW, 4)
        return self.linear(pooled.flatten(1))


def counting_teacher(*, name="counting", seed=0, fail_after=None, image_size=16):
    """A teacher and its module, whose count starts now."""
    module = Counting(seed, fail_after)
    teacher = Teacher(
        name=name, module=module, image_size=image_size, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    module.seen = 0
    return teacher, module
