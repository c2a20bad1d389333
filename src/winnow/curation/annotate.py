"""Annotate: read every shard once and write what is known of each sample into the ledger.

One shard is one unit of work. A row per sample, in the order of the shard, whether it can be read
or not; what is wrong with it is its `error`, "code: detail".

A shard whose bytes are broken (cut, or no tar or parquet at all) gives the rows that could be read
and an error row, "broken shard: ...", for the rest. A shard that cannot be opened, is compressed or
lacks the columns has no row at all: the other shards are annotated, and then InputError names it.
Fetch it again or leave it out, and run again.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.curation import engine, ledger_files
from winnow.curation.ledger_files import ROWS_PER_GROUP, ShardStats
from winnow.data.columns import Columns
from winnow.data.files import is_remote
from winnow.data.images import ImageError, probe
from winnow.data.ledger import LEDGER_SCHEMA, make_uid
from winnow.data.sample import RawSample
from winnow.data.sources import Source
from winnow.progress import track
from winnow.types import InputError

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
ANNOTATION_VERSION = 1
"""To be raised with any change that gives the same shard other rows: ledgers are then redone."""


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """What is in the ledger now, and how much of it this run read."""

    shards: int
    shards_read: int
    """The others were done before."""
    samples: int
    errors: dict[str, int]
    """Unreadable samples by code."""
    seconds: float
    """Of this run."""


def annotate(source: Source, out: Path, *, workers: int) -> AnnotateResult:
    """Make `out` the home of the ledger of `source`; what is done and unchanged is not done again.

    Shards may be added between runs. The ledger's bytes do not depend on `workers`. With several, a
    script that calls this needs the usual `if __name__ == "__main__"`. Raises InputError where
    shards cannot be read, or where the ledger in `out` has shards that `source` has not.
    """
    start = time.monotonic()
    directory = ledger_files.ledger_directory(out)
    units = _plan(source, directory)
    pending = [unit for unit in units if not _is_done(unit)]
    samples, unreadable = 0, []
    run = engine.run(_annotate_shard, pending, workers=workers)
    bar = track("annotating", total=len(pending), unit="shards")
    with closing(run) as outcomes, bar as advance:
        for outcome in outcomes:
            samples += outcome.samples
            advance(1, f"{samples / (time.monotonic() - start):,.0f} samples/s")
            if outcome.problem is not None:
                unreadable.append(outcome.problem)
    if unreadable:
        raise InputError(
            f"{len(unreadable)} of {len(units)} shards cannot be read: {sorted(unreadable)[0]}. "
            "The others are annotated: mend these or leave them out, and run again"
        )
    return _result(directory, shards_read=len(pending), seconds=time.monotonic() - start)


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """One shard to read: all that a worker is told."""

    source: Source
    """Of this shard alone."""
    directory: Path
    number: int
    identity: ShardStats
    """What its stats have to say; `rows`, `errors` and `seconds` come with the reading."""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    samples: int
    problem: str | None = None
    """Why the shard could not be read."""


def _plan(source: Source, directory: Path) -> list[_Unit]:
    repeated = [shard for shard, count in Counter(source.shards).items() if count > 1]
    if repeated:
        raise InputError(f"{repeated[0]} is given more than once: give every shard once")
    # Remote shards answer one by one in tens of milliseconds; there may be a hundred thousand.
    with ThreadPoolExecutor(16) as pool:
        stamps = list(pool.map(_stamp, source.shards))
    folders = {Path(s).parent for s in source.shards if s.endswith(_TABLES) and not is_remote(s)}
    beside = {folder: _stamp_folder(folder, out=directory.parent) for folder in folders}
    ledger_files.arrange(directory, source.shards)
    annotation = _fingerprint(source.columns)
    return [
        _Unit(
            source=replace(source, shards=(shard,)),
            directory=directory,
            number=number,
            identity=ShardStats(
                shard=shard,
                bytes=size,
                modified=modified + beside.get(Path(shard).parent, ""),
                annotation=annotation,
                columns=source.columns,
                rows=0,
            ),
        )
        for number, (shard, (size, modified)) in enumerate(zip(source.shards, stamps, strict=True))
    ]


def _stamp(shard: str) -> tuple[int, str]:
    """Size in bytes and time of modification (or entity tag) of a shard as it is now."""
    try:
        if not is_remote(shard):
            facts = Path(shard).stat()
            return facts.st_size, str(facts.st_mtime_ns)
        from fsspec.core import url_to_fs

        file_system, name = url_to_fs(shard)
        info: dict[str, Any] = file_system.info(name)
    except OSError as error:
        raise InputError(f"{shard} cannot be read: {error.strerror or error}") from error
    changes = (info.get(name) for name in ("ETag", "LastModified", "mtime", "updated", "created"))
    return info.get("size") or 0, str(next((change for change in changes if change), ""))


def _stamp_folder(folder: Path, *, out: Path) -> str:
    """Hash over names, sizes and times of the files below `folder`: a table's pictures are there.

    What curation itself writes into `out` does not count.
    """
    digest, root, out = hashlib.sha256(), folder.resolve(), out.resolve()
    own = {out / "ledger", out / "selections"}
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if Path(parent, name) not in own)
        for name in sorted(files):
            path = Path(parent, name)
            # A link to nothing is no picture yet; when it becomes one, the hash changes.
            if path.exists():
                facts = path.stat()
                line = f"{path.relative_to(root)}\0{facts.st_size}\0{facts.st_mtime_ns}\0"
                digest.update(line.encode("utf-8", "surrogateescape"))
    return f" {digest.hexdigest()}"


def _fingerprint(columns: Columns) -> str:
    identity = [ANNOTATION_VERSION, LEDGER_SCHEMA.to_string(), asdict(columns)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _is_done(unit: _Unit) -> bool:
    stats = ledger_files.read_stats(unit.directory, unit.number)
    return stats is not None and unit.identity == replace(stats, rows=0, errors={}, seconds=0.0)


def _annotate_shard(unit: _Unit) -> _Outcome:
    """Read one shard and commit its rows, then its stats."""
    start = time.monotonic()
    ledger_files.forget(unit.directory, unit.number)
    path = ledger_files.rows_path(unit.directory, unit.number)
    partial = path.with_name(path.name + ".partial")
    errors: Counter[str] = Counter()
    samples = 0
    try:
        with pq.ParquetWriter(partial, LEDGER_SCHEMA) as file:
            pending = map(_row, _scan(unit.source))
            while rows := list(islice(pending, ROWS_PER_GROUP)):
                file.write_batch(pa.RecordBatch.from_pylist(rows, schema=LEDGER_SCHEMA))
                samples += len(rows)
                errors.update(_code(row["error"]) for row in rows if row["error"])
    except _UnreadableShardError as error:
        partial.unlink()
        return _Outcome(samples=samples, problem=str(error))
    partial.replace(path)
    seconds = round(time.monotonic() - start, 3)
    stats = replace(unit.identity, rows=samples, errors=dict(errors), seconds=seconds)
    ledger_files.write_stats(unit.directory, unit.number, stats)
    return _Outcome(samples=samples)


class _UnreadableShardError(Exception):
    pass


def _scan(source: Source) -> Iterator[RawSample]:
    (shard,) = source.shards
    # Here, where only the reading can raise: a full disk below the ledger is not the shard's fault.
    try:
        yield from source.scan(shard)
    except InputError as error:
        raise _UnreadableShardError(str(error)) from error
    except OSError as error:
        raise _UnreadableShardError(f"{shard}: {error}") from error


def _row(sample: RawSample) -> dict[str, Any]:
    """The ledger's row of one sample."""
    image, caption = sample.image, sample.caption
    url = sample.metadata.get("url")
    row = {
        "uid": make_uid(image or b"", caption or "", sample.metadata),
        "key": sample.key,
        "offset": sample.offset,
        "size": sample.size,
        "sha256": hashlib.sha256(image).hexdigest() if image is not None else None,
        "caption": caption,
        "url": url if isinstance(url, str) else None,
        "error": sample.error,
    }
    if sample.error is not None:
        return row
    assert image is not None and caption is not None, f"{sample.key}: a source hides an error"
    try:
        return row | probe(image)._asdict()
    except ImageError as error:
        return row | {"error": str(error)}


def _code(error: str) -> str:
    return error.partition(":")[0]


def _result(directory: Path, *, shards_read: int, seconds: float) -> AnnotateResult:
    ledger = ledger_files.Ledger.open(directory.parent)
    errors = sum((Counter(stats.errors) for stats in ledger.stats), Counter[str]())
    return AnnotateResult(
        shards=len(ledger.stats),
        shards_read=shards_read,
        samples=sum(stats.rows for stats in ledger.stats),
        errors=dict(sorted(errors.items())),
        seconds=seconds,
    )
