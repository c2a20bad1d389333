"""The ledger on disk: the shards it covers, which of them are done, and its rows in order.

    ledger/shards.json      the shards asked for; shard number N is the N-th of them
    ledger/NNNNN.parquet    the rows of shard N, LEDGER_SCHEMA
    ledger/NNNNN.json       ShardStats, written last: present, matching and with its rows = done

The order of the ledger is the order in which the shards are given, whatever came before: when
shards are added, files of shards that are done move to their new number.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import as_dict, from_dict, read_json, write_json
from winnow.data.columns import DETECT, Columns
from winnow.types import InputError

PLACE = "place"
"""Column added on reading, int64: the shard's number << 32 | the row within it; ledger order."""

ROWS_PER_GROUP = 32_768
"""Bounds the memory of whoever writes or reads a ledger: some tens of megabytes."""

_SHARDS_FILE = "shards.json"
_MOVING = "moving-"


@dataclass(frozen=True, kw_only=True)
class ShardStats:
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
    rows: int
    errors: dict[str, int] = field(default_factory=dict)
    """Unreadable rows by error code."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A whole ledger: every shard that was asked for is done."""

    directory: Path
    stats: tuple[ShardStats, ...]
    """One per shard, in ledger order."""

    @classmethod
    def open(cls, out: Path) -> "Ledger":
        """The ledger in `out`. Raises InputError where there is none, or an unfinished one."""
        directory = ledger_directory(out)
        shards = read_shards(directory)
        if not shards:
            raise InputError(f"{out} holds no ledger: make one with `winnow curate SHARDS --out`")
        stats = [read_stats(directory, number) for number in range(len(shards))]
        done = tuple(s for s, shard in zip(stats, shards, strict=True) if s and s.shard == shard)
        if len(done) < len(shards):
            raise InputError(
                f"{directory} is unfinished ({len(done)} of {len(shards)} shards): run the same "
                "`winnow curate` again, it goes on where it stopped"
            )
        return cls(directory=directory, stats=done)

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
        facts = [{**asdict(stats), "seconds": None} for stats in self.stats]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of one shard with their PLACE, row group by row group."""
        place = number << 32
        for rows in pq.ParquetFile(rows_path(self.directory, number)).iter_batches(
            batch_size=ROWS_PER_GROUP
        ):
            places = pa.array(np.arange(place, place + rows.num_rows))
            yield rows.append_column(PLACE, places)
            place += rows.num_rows


def describe_place(place: int) -> str:
    """A PLACE for people: the row (from 0) and the number of the shard's file."""
    return f"row {place & 0xFFFFFFFF} of {place >> 32:05d}"


def ledger_directory(out: Path) -> Path:
    """Where `out` holds its ledger."""
    return out / "ledger"


def rows_path(directory: Path, number: int) -> Path:
    """Where the rows of shard `number` are."""
    return directory / f"{number:05d}.parquet"


def read_shards(directory: Path) -> list[str]:
    """The shards the ledger was asked to cover; none where there is no ledger."""
    path = directory / _SHARDS_FILE
    return read_json(path) if path.is_file() else []


def read_stats(directory: Path, number: int) -> ShardStats | None:
    """The stats of shard `number`; None where it is not done, or was by another version.

    A shard whose stats or rows are missing or damaged is not done either: it is annotated again.
    """
    path = _stats_path(directory, number)
    try:
        values = read_json(path)
        stats = from_dict(ShardStats, values, where=str(path))
        num_rows = pq.read_metadata(rows_path(directory, number)).num_rows
    except (InputError, OSError, pa.ArrowException):
        return None
    known = {part.name for part in fields(ShardStats)}
    return stats if values.keys() == known and num_rows == stats.rows else None


def write_stats(directory: Path, number: int, stats: ShardStats) -> None:
    """Declare shard `number` done."""
    write_json(_stats_path(directory, number), as_dict(stats))


def forget(directory: Path, number: int) -> None:
    """Declare shard `number` not done, before its rows are written again."""
    _stats_path(directory, number).unlink(missing_ok=True)


def arrange(directory: Path, shards: Sequence[str]) -> None:
    """Make the ledger one of `shards`, in their order; shards that are done stay done.

    Raises InputError where a shard that is done is not among them, for its rows would be lost.
    """
    directory.mkdir(parents=True, exist_ok=True)
    numbers = {shard: number for number, shard in enumerate(shards)}
    # What stands there, whatever the list of shards says: it may be damaged.
    names = [path.stem for path in directory.glob("*.json")]
    found = sorted(int(name) for name in names if name.isdecimal())
    done = {old: stats.shard for old in found if (stats := read_stats(directory, old))}
    lost = [shard for shard in done.values() if shard not in numbers]
    if lost:
        raise InputError(
            f"{directory} holds {len(lost)} shard(s) that are not given now, {lost[0]} first: "
            "give them as well, or choose another --out"
        )
    _move(directory, {old: numbers[shard] for old, shard in done.items() if numbers[shard] != old})
    write_json(directory / _SHARDS_FILE, list(shards))


def _move(directory: Path, moves: dict[int, int]) -> None:
    # A json never stands beside rows that are not its own, at whatever point this is killed: it
    # leaves first and arrives last. A pair caught on the way is annotated again.
    for stray in directory.glob(_MOVING + "*"):
        stray.unlink()
    for old, new in moves.items():
        for path, target in _pair(directory, old, new):
            path.rename(target.with_name(_MOVING + target.name))
    for old, new in moves.items():
        for _, target in reversed(_pair(directory, old, new)):
            target.with_name(_MOVING + target.name).rename(target)


def _pair(directory: Path, old: int, new: int) -> list[tuple[Path, Path]]:
    return [
        (_stats_path(directory, old), _stats_path(directory, new)),
        (rows_path(directory, old), rows_path(directory, new)),
    ]


def _stats_path(directory: Path, number: int) -> Path:
    return directory / f"{number:05d}.json"
