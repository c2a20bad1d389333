"""The selection: which samples training sees, as one memory-mapped table of their addresses.

`kept.arrow` is an uncompressed Arrow IPC file; `selection.json` beside it says what it covers. A
row is a kept sample; rows stand in ledger order (shard by shard), so that a run of neighbours is a
run of bytes. Opening it costs neither time nor memory whatever its size, which is what keeps the
order's memory at O(shards + window).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from winnow.config import write_json
from winnow.types import InputError

KEPT_FILE = "kept.arrow"
FACTS_FILE = "selection.json"
KEPT_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),  # index into the list of shards
        pa.field("key", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The samples that were kept, in ledger order."""

    directory: Path
    shards: tuple[str, ...]
    """Path or URL of every shard, in ledger order."""
    table: pa.Table
    """KEPT_SCHEMA, memory-mapped."""
    shard_counts: np.ndarray
    """int64 (shards,): how many rows of each shard were kept."""
    fingerprint: str
    """sha256 over uids and addresses: what a resumed run compares."""

    def __len__(self) -> int:
        return self.table.num_rows

    @classmethod
    def open(cls, directory: Path) -> "Selection":
        """The selection written into `directory`. Raises InputError where there is none."""
        if not (directory / FACTS_FILE).is_file():
            raise InputError(
                f"{directory} holds no complete selection ({FACTS_FILE} is missing): make one with "
                "`winnow curate SHARDS --out DIR`"
            )
        facts = json.loads((directory / FACTS_FILE).read_text())
        table = pa.ipc.open_file(pa.memory_map(str(directory / KEPT_FILE))).read_all()
        return cls(
            directory=directory,
            shards=tuple(facts["shards"]),
            table=table,
            shard_counts=np.asarray(facts["shard_counts"], dtype=np.int64),
            fingerprint=facts["fingerprint"],
        )


def write_selection(directory: Path, shards: list[str], tables: Iterable[pa.Table]) -> None:
    """Write one kept table per shard, in the order of `shards`, as the selection of `directory`.

    A table has the columns of KEPT_SCHEMA but `shard`. `selection.json` is written last: present
    means complete.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FACTS_FILE).unlink(missing_ok=True)
    partial = directory / (KEPT_FILE + ".partial")
    digest, counts = hashlib.sha256(json.dumps(shards).encode()), []
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, KEPT_SCHEMA) as writer:
        for index, table in enumerate(tables):
            shard = pa.array(np.full(table.num_rows, index, dtype=np.int32))
            kept = table.select(KEPT_SCHEMA.names[1:]).add_column(0, KEPT_SCHEMA.field(0), shard)
            writer.write_table(kept.cast(KEPT_SCHEMA).combine_chunks())
            digest.update("".join(kept["uid"].to_pylist()).encode())
            for column in ("shard", "offset", "size"):
                digest.update(kept[column].to_numpy().tobytes())
            counts.append(table.num_rows)
    partial.replace(directory / KEPT_FILE)
    facts = {"shards": shards, "shard_counts": counts, "fingerprint": digest.hexdigest()}
    write_json(directory / FACTS_FILE, facts)
