"""Builds the packaged data once into a directory.

    DIRECTORY/train/00000.tar ...      pairs as img2dataset writes them, noise planted among them
    DIRECTORY/truth.parquet            which samples are noise, and of what kind
    DIRECTORY/tasks/NAME/              evaluation sets
    DIRECTORY/packaged.json            configuration, package versions, counts

The bytes depend on the configuration, the package versions and this code alone. Everything is
written beside DIRECTORY and moved there at the end.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from winnow.config import as_dict, write_json
from winnow.data.packaged.contents import Contents, gather
from winnow.data.packaged.noise import NoiseRates, plan_samples
from winnow.data.packaged.raster import rasterise
from winnow.data.packaged.shards import write_task, write_training
from winnow.data.packaged.vendors import package_versions
from winnow.data.packaged.workers import map_in_processes
from winnow.types import InputError

_FACTS_FILE = "packaged.json"


@dataclass(frozen=True, kw_only=True)
class PackagedConfig:
    """What the packaged data holds."""

    seed: int = 0
    """Chooses captions, the split, the noise and the order."""
    side: int = 112
    """Pixels to draw at; the white around a drawing is cut off afterwards."""
    max_concepts: int | None = None
    """How many concepts to keep, the first by code point; None keeps all."""
    max_icons: int | None = 0
    """How many of about 8,500 icons that are no emoji to train on as well; None takes all."""
    noise: NoiseRates = field(default_factory=NoiseRates)
    """Shares of planted noise."""


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """The packaged data, complete on disk."""

    directory: Path
    train: Path
    """Folder of training shards."""
    truth: Path
    """Parquet file (shards.TRUTH_SCHEMA), one row per training sample in shard order."""
    tasks: dict[str, Path]
    """Evaluation sets: "fit" (trained on), "held-out-drawings", "twemoji", "noto-mono", and of the
    last two also kinds of concepts, with a split to fit probes on: "twemoji-kinds", ..."""


def default_directory(config: PackagedConfig = PackagedConfig()) -> Path:
    """The place in the user's cache for this configuration and the installed packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    identity = json.dumps(_identity(config), sort_keys=True).encode()
    return cache / "winnow" / f"packaged-{hashlib.sha256(identity).hexdigest()[:16]}"


def build(
    directory: Path,
    *,
    config: PackagedConfig = PackagedConfig(),
    processes: int | None = None,
) -> Packaged:
    """The packaged data in `directory`, built unless it is there already.

    `processes` is how many draw at once (None: one per core); the result does not depend on it.
    With several, a script that calls this needs the usual `if __name__ == "__main__"`. Raises
    InputError where a package is missing, or where `directory` holds something else.
    """
    directory = directory.absolute()
    identity = _identity(config)
    found = _read_facts(directory)
    if found is None or found["identity"] != identity:
        if found is None and directory.exists() and any(directory.iterdir()):
            raise InputError(f"{directory} holds other files: name an empty or a new directory")
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".packaged-") as scratch:
            whole = Path(scratch) / "whole"
            counts = _write(whole, config, processes)
            write_json(whole / _FACTS_FILE, {"identity": identity, "counts": counts})
            shutil.rmtree(directory, ignore_errors=True)
            whole.rename(directory)
    return Packaged(
        directory=directory,
        train=directory / "train",
        truth=directory / "truth.parquet",
        tasks={path.name: path for path in sorted((directory / "tasks").iterdir())},
    )


def _write(directory: Path, config: PackagedConfig, processes: int | None) -> dict[str, int]:
    """Write everything but the facts; returns what was counted."""
    in_processes = partial(map_in_processes, processes=processes)
    contents: Contents = gather(
        partial(in_processes, partial(rasterise, side=config.side), what="drawing"),
        seed=config.seed,
        max_concepts=config.max_concepts,
        max_icons=config.max_icons,
    )
    samples = plan_samples(contents.training, rates=config.noise, seed=config.seed)
    write_training(
        directory, samples, contents.rasters, partial(in_processes, what="encoding the shards")
    )
    for name, task in contents.tasks.items():
        write_task(directory / "tasks" / name, task, contents.rasters, seed=config.seed)
    return {
        "classes": len(contents.classes),
        "training samples": len(samples),
        **{
            f"{name} {split}": len(drawings)
            for name, task in contents.tasks.items()
            for split, drawings in task.splits.items()
        },
    }


def _identity(config: PackagedConfig) -> dict[str, Any]:
    """All that the bytes depend on: configuration, packages, and the code of this one."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return {"config": as_dict(config), "versions": package_versions(), "code": code.hexdigest()}


def _read_facts(directory: Path) -> dict[str, Any] | None:
    path = directory / _FACTS_FILE
    return json.loads(path.read_text()) if path.is_file() else None
