import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_towers import SMALL

from winnow.curation.selections import none
from winnow.data.selection import Selection
from winnow.objectives import InfoNCE
from winnow.recipes.data import curate
from winnow.training.optimizer import AdamW
from winnow.training.recipe import Recipe, Runtime


def add_member(archive, name, payload):
    member = tarfile.TarInfo(name)
    member.size = len(payload)
    archive.addfile(member, io.BytesIO(payload))


def noise(random):
    """A picture file of 24 by 20 pixels."""
    buffer, pixels = io.BytesIO(), random.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_pairs(path, pairs):
    """A webdataset shard of (picture file, caption)."""
    with tarfile.open(path, "w") as archive:
        for index, (picture, caption) in enumerate(pairs):
            key = f"{path.stem}{index:04d}"
            add_member(archive, f"{key}.png", picture)
            add_member(archive, f"{key}.txt", caption.encode())
            add_member(archive, f"{key}.json", json.dumps({"key": key}).encode())


def select_everything(shards, out):
    return Selection.open(curate(str(shards), out, rules=none(), name="none", workers=1).directory)


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Two real webdataset shards of 24 pictures each."""
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    for shard in range(2):
        pairs = [(noise(random), f"thing {index} of {shard}") for index in range(24)]
        write_pairs(folder / f"{shard:05d}.tar", pairs)
    return folder


@pytest.fixture(scope="session")
def selection(shards, tmp_path_factory):
    return select_everything(shards, tmp_path_factory.mktemp("curated"))


@pytest.fixture(scope="session")
def repetitive(tmp_path_factory):
    """Eight pairs of two captions and four pictures: row r has caption r % 2 and picture r % 4."""
    folder, random = tmp_path_factory.mktemp("repetitive"), np.random.default_rng(0)
    pictures = [noise(random) for _ in range(4)]
    pairs = [(pictures[row % 4], f"thing {row % 2}") for row in range(8)]
    write_pairs(folder / "00000.tar", pairs)
    return select_everything(folder, folder / "curated")


@pytest.fixture
def recipe():
    """Twelve steps of eight pairs; checkpoints every third."""
    return Recipe(
        objective=InfoNCE(),
        model=SMALL,
        optimizer=AdamW(learning_rate=3e-3, warmup_steps=2),
        batch_size=8,
        steps=12,
        seed=5,
        runtime=Runtime(workers=0, device="cpu", log_every=1, checkpoint_every=3),
    )


@pytest.fixture
def with_workers(recipe):
    return replace(recipe, runtime=replace(recipe.runtime, workers=2))
