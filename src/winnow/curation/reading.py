"""Reading: every sample of a shard becomes a row of the ledger, whether it can be read or not."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.curation import numbered
from winnow.curation.ledger_files import ROWS_PER_GROUP, ShardStats, ledger_folder
from winnow.curation.local_shard import LocalShard
from winnow.data.folder import Folder
from winnow.data.images import ImageError, probe
from winnow.data.ledger import LEDGER_SCHEMA, make_uid
from winnow.data.sample import RawSample
from winnow.data.sources import Source

_TEXT_PER_GROUP = 1 << 26
_IDENTIFYING = ("uid", "key", "offset", "size")


def read(
    out: Folder, number: int, source: Source, identity: ShardStats, local: LocalShard
) -> ShardStats:
    """Read a shard and commit its rows, then its stats, which are `identity` with the counts.

    Raises UnreadableShardError where the shard as a whole cannot be read; then it has no row.
    """
    start = time.monotonic()
    folder = ledger_folder(out)
    numbered.forget(folder, number)
    errors: Counter[str] = Counter()
    samples, digest = 0, hashlib.sha256()
    with (
        folder.writing(numbered.rows_name(number)) as path,
        pq.ParquetWriter(path, LEDGER_SCHEMA) as file,
    ):
        for rows in _groups(map(_row, _scan(source, local))):
            file.write_batch(pa.RecordBatch.from_pylist(rows, schema=LEDGER_SCHEMA))
            samples += len(rows)
            errors.update(error_code(row["error"]) for row in rows if row["error"])
            for row in rows:
                digest.update(json.dumps([row[name] for name in _IDENTIFYING]).encode())
        numbered.sign(file, digest.hexdigest())
    stats = replace(
        identity,
        rows=samples,
        content=digest.hexdigest(),
        errors=dict(sorted(errors.items())),
        seconds=round(time.monotonic() - start, 3),
    )
    numbered.write_record(folder, number, stats)
    return stats


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Lists of rows, bounded in number and in text: a caption may be a megabyte."""
    group, text = list[dict[str, Any]](), 0
    for row in rows:
        group.append(row)
        text += len(row["caption"] or "")
        if len(group) == ROWS_PER_GROUP or text > _TEXT_PER_GROUP:
            yield group
            group, text = [], 0
    if group:
        yield group


def error_code(error: str) -> str:
    """What errors are counted by."""
    return error.partition(":")[0]


def _scan(source: Source, local: LocalShard) -> Iterator[RawSample]:
    # Here, where only the reading can raise: a full disk below the ledger is not the shard's fault.
    with local.blamed():
        samples = iter(source.scan(local.path))
    while True:
        with local.blamed():
            sample = next(samples, None)
        if sample is None:
            return
        yield sample


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
