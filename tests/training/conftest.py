import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_towers import SMALL

from winnow.data.selection import Selection
from winnow.objectives import InfoNCE
from winnow.recipes.data import curate
from winnow.training.optimizer import OptimizerConfig
from winnow.training.recipe import Recipe, Runtime


def add_member(archive, name, payload):
    member = tarfile.TarInfo(name)
    member.size = len(payload)
    archive.addfile(member, io.BytesIO(payload))


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Two real webdataset shards of 24 pictures each."""
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for index in range(24):
                key = f"{shard:05d}{index:04d}"
                buffer = io.BytesIO()
                pixels = random.integers(0, 256, (24, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer, "PNG")
                add_member(archive, f"{key}.png", buffer.getvalue())
                add_member(archive, f"{key}.txt", f"thing {index} of {shard}".encode())
                add_member(archive, f"{key}.json", json.dumps({"key": key}).encode())
    return folder


@pytest.fixture(scope="session")
def selection(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("curated")
    return Selection.open(curate(str(shards), out, rules="none", workers=1).directory)


@pytest.fixture
def recipe():
    """Twelve steps of eight pairs; checkpoints every third."""
    return Recipe(
        objective=InfoNCE(),
        model=SMALL,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        batch_size=8,
        steps=12,
        seed=5,
        runtime=Runtime(workers=0, device="cpu", log_every=1, checkpoint_every=3),
    )


@pytest.fixture
def with_workers(recipe):
    return replace(recipe, runtime=replace(recipe.runtime, workers=2))
