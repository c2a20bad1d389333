"""What `winnow materialise` takes and does: kept pairs as new tars."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from winnow.curation.materialise import materialise
from winnow.recipes.data import open_selection


@dataclass(frozen=True, kw_only=True)
class Materialise:
    """Write the kept pairs of a selection as new webdataset tars, for readers of tars alone."""

    data: tyro.conf.Positional[str]
    """A curated folder with one selection, or a selection's folder, or its URL."""
    out: str
    """A new folder or URL for the tars; run again, it goes on where it was."""
    samples_per_shard: int = 10_000
    workers: int | None = None
    """Processes; default one per core. The bytes do not depend on it."""


def run_materialise(options: Materialise) -> str:
    """Write the tars; a sentence that says what was written."""
    with tempfile.TemporaryDirectory(prefix="winnow-") as index:
        done = materialise(
            open_selection(options.data, index=Path(index)),
            options.out,
            samples_per_shard=options.samples_per_shard,
            workers=options.workers or os.cpu_count() or 1,
        )
    return (
        f"{options.out}: {done.samples:,} pairs in {done.shards:,} tars "
        f"({done.shards_written:,} written now, {done.bytes / 1e6:,.1f} MB in all)"
    )
