"""Small real data in the real formats, for tests that cross several rooms."""

import io
import json
import os
import tarfile

# Before numpy and torch: the workers of pytest share the cores, and threads that spin in one of
# them keep the other waiting. It halves the time of the suite on 2 cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image


def add_member(archive, name, payload):
    member = tarfile.TarInfo(name)
    member.size = len(payload)
    archive.addfile(member, io.BytesIO(payload))


def png(random):
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A folder with one webdataset shard of twelve pairs, as img2dataset writes it."""
    folder, random = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for index in range(12):
            key = f"{index:09d}"
            add_member(archive, f"{key}.png", png(random))
            add_member(archive, f"{key}.txt", f"a picture of thing number {index}".encode())
            add_member(archive, f"{key}.json", json.dumps({"key": key}).encode())
    return folder


@pytest.fixture(scope="session")
def evaluation_set(tmp_path_factory):
    """Six pictures of three classes in the clip-benchmark webdataset layout."""
    folder, random = tmp_path_factory.mktemp("things"), np.random.default_rng(1)
    (folder / "test").mkdir()
    (folder / "classnames.txt").write_text("cat\ndog\nowl\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a picture of a {c}.\n{c}\n")
    (folder / "test" / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / "test" / "0.tar", "w") as archive:
        for index in range(6):
            add_member(archive, f"s{index}.png", png(random))
            add_member(archive, f"s{index}.cls", str(index % 3).encode())
            add_member(archive, f"s{index}.txt", f"caption {index}".encode())
    return folder
