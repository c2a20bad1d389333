"""The ledger on disk: the shards it covers, which of them are done, and its rows in order.

    ledger/shards.json                    the shards asked for; shard number N is the N-th of them
    ledger/NNNNN.{parquet,json}           rows of shard N (LEDGER_SCHEMA) and its ShardStats
    annotations/NAME/NNNNN.{parquet,json} what an annotator found out of those rows, one by one

The order of the ledger is the order in which the shards are given, whatever came before: when
shards are added, files of shards that are done move to their new number.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.curation import numbered
from winnow.data.columns import DETECT, Columns
from winnow.data.folder import Folder
from winnow.types import InputError

PLACE = "place"
"""Column added on reading, int64: the shard's number << 32 | the row within it; ledger order."""

ROWS_PER_GROUP = 32_768
"""Bounds the memory of whoever writes or reads a ledger: some tens of megabytes."""

SHARDS_FILE = "shards.json"


@dataclass(frozen=True, kw_only=True)
class ShardStats(numbered.Record):
    """What is known of a shard once all its rows are in the ledger."""

    shard: str
    """Path or URL."""
    bytes: int
    """Size of the shard when it was read."""
    modified: str
    """Its time of modification, or its entity tag, as the file system gives it."""
    annotation: str
    """Fingerprint of what computed the rows; another one makes the rows stale."""
    columns: Columns = DETECT
    """Where the shard was said to have its pictures and captions."""
    errors: dict[str, int] = field(default_factory=dict)
    """Unreadable rows by error code."""
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """sha256 over what was read and how: what annotations of these rows belong to."""
        facts = {**asdict(self), "seconds": None}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A whole ledger: every shard that was asked for is done."""

    out: Folder
    stats: tuple[ShardStats, ...]
    """One per shard, in ledger order."""

    @classmethod
    def open(cls, out: Folder) -> "Ledger":
        """The ledger in `out`. Raises InputError where there is none, or an unfinished one."""
        folder = ledger_folder(out)
        shards = read_shards(folder)
        if not shards:
            raise InputError(
                f"{out.url} holds no ledger: make one with `winnow curate SHARDS --out`"
            )
        stats = numbered.read_records(folder, range(len(shards)), ShardStats)
        done = tuple(s for s, shard in zip(stats, shards, strict=True) if s and s.shard == shard)
        if len(done) < len(shards):
            raise InputError(
                f"{folder.url} is unfinished ({len(done)} of {len(shards)} shards): run `winnow "
                "curate` with all shards again, it goes on where it stopped"
            )
        return cls(out=out, stats=done)

    @property
    def shards(self) -> list[str]:
        """Path or URL of every shard, in ledger order."""
        return [stats.shard for stats in self.stats]

    @property
    def columns(self) -> Columns:
        """What every shard was read with: other columns would have made its rows stale."""
        return self.stats[0].columns

    @property
    def fingerprint(self) -> str:
        """sha256 over what was read and how; a selection made from another ledger is stale."""
        return hashlib.sha256("".join(s.fingerprint for s in self.stats).encode()).hexdigest()


def batches(out: Folder, number: int) -> Iterator[pa.RecordBatch]:
    """The rows of one shard of the ledger with their PLACE, row group by row group."""
    place = number << 32
    for rows in row_groups(ledger_folder(out), number):
        places = pa.array(np.arange(place, place + rows.num_rows))
        yield rows.append_column(PLACE, places)
        place += rows.num_rows


def row_groups(folder: Folder, number: int) -> Iterator[pa.RecordBatch]:
    """The rows of shard `number` in a folder of numbered files, as they were written."""
    name = numbered.rows_name(number)
    with folder.open(name) as opened, _named(folder, name), pq.ParquetFile(opened) as file:
        for group in range(file.num_row_groups):
            yield _as_batch(file.read_row_group(group))


@contextmanager
def _named(folder: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, InputError):
            raise
        why = str(error).partition("\n")[0]
        raise InputError(
            f"{folder.url}/{name} is damaged ({why}): delete it, and curate again with the shards"
        ) from error


def _as_batch(table: pa.Table) -> pa.RecordBatch:
    whole = table.combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], schema=table.schema)


def describe_place(place: int) -> str:
    """A PLACE for people: the row (from 0) and the number of the shard's file."""
    return f"row {place & 0xFFFFFFFF} of {place >> 32:05d}"


def ledger_folder(out: Folder) -> Folder:
    """Where `out` holds its ledger."""
    return out / "ledger"


def annotations_folder(out: Folder) -> Folder:
    """Where `out` holds the annotations, a folder for each annotator."""
    return out / "annotations"


def read_shards(folder: Folder) -> list[str]:
    """The shards the ledger was asked to cover; none where there is no ledger."""
    if not folder.exists(SHARDS_FILE):
        return []
    shards = numbered.read_json(folder, SHARDS_FILE)
    if not isinstance(shards, list):
        raise InputError(f"{folder.url}/{SHARDS_FILE} is no list of shards: delete it")
    return shards
