"""The selection: which samples training sees, as one memory-mapped table of their addresses.

`kept.arrow` is an uncompressed Arrow IPC file; `selection.json` beside it says what it covers. A
row is a kept sample; rows stand in ledger order (shard by shard), so that a run of neighbours is a
run of bytes. Opening it costs neither time nor memory whatever its size, which is what keeps the
order's memory at O(shards + window).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from winnow.config import as_dict, from_dict, read_json, write_json
from winnow.data.columns import DETECT, Columns
from winnow.data.ledger import Address
from winnow.data.order import Order
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

WEIGHT = pa.field("weight", pa.float32(), nullable=False)
"""A last column where a rule weighs pairs: how much each counts in the loss, above 0."""


class KeptSample(NamedTuple):
    """One row of a selection."""

    shard: str
    address: Address
    uid: str
    caption: str
    columns: Columns = DETECT
    """Where the shard has its pictures, if it is parquet."""
    weight: float = 1.0
    """How much it counts in the loss."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The samples that were kept, in ledger order."""

    directory: Path
    shards: tuple[str, ...]
    """Path or URL of every shard, in ledger order."""
    table: pa.Table
    """KEPT_SCHEMA, with WEIGHT where pairs are weighed; memory-mapped."""
    shard_counts: np.ndarray
    """int64 (shards,): how many rows of each shard were kept."""
    fingerprint: str
    """sha256 over shards, columns, uids, addresses, captions and weights: what a resumed run
    compares."""
    columns: Columns = DETECT
    """Where a parquet shard has its pictures, as `curate` was told."""

    def __len__(self) -> int:
        return self.table.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process opens the file again instead of being sent what is in it.
        return type(self).open, (self.directory,)

    @property
    def names(self) -> tuple[str, ...]:
        """What the sources of its samples are called: there is one."""
        return (self.directory.name,)

    @property
    def description(self) -> str:
        """What messages call it."""
        return f"the selection in {self.directory}"

    @property
    def is_weighted(self) -> bool:
        """Whether some pairs count less in the loss than others."""
        return WEIGHT.name in self.table.column_names

    @property
    def largest_batch(self) -> int:
        """The most pairs a batch may have: with more, one would be in it twice."""
        return len(self)

    def order(self, seed: int) -> Order:
        """The order in which training with `seed` sees its rows."""
        return Order(shard_counts=self.shard_counts, seed=seed)

    def by_shard(self, *, most: int = 256) -> Iterator[tuple[str, list[KeptSample]]]:
        """All samples in order, in runs of one shard: its path and at most `most` of them."""
        start = 0
        for shard, count in zip(self.shards, self.shard_counts.tolist(), strict=True):
            for first in range(start, start + count, most):
                rows = np.arange(first, min(first + most, start + count))
                yield shard, self.samples(rows)
            start += count

    def samples(self, rows: np.ndarray) -> list[KeptSample]:
        """The samples of `rows` (int64), in their order."""
        samples: list[KeptSample] = [None] * len(rows)  # type: ignore[list-item]
        # Each chunk by itself: Arrow would join all chunks of a column to take rows from several.
        chunks = np.searchsorted(self._chunk_starts, rows, side="right") - 1
        for chunk in np.unique(chunks):
            here = np.flatnonzero(chunks == chunk)
            taken = self._chunks[chunk].take(pa.array(rows[here] - self._chunk_starts[chunk]))
            for place, row in zip(here, taken.to_pylist(), strict=True):
                address = Address(row["key"], row["offset"], row["size"])
                shard = self.shards[row["shard"]]
                weight = row.get(WEIGHT.name, 1.0)
                samples[place] = KeptSample(
                    shard, address, row["uid"], row["caption"], self.columns, weight
                )
        return samples

    @cached_property
    def _chunks(self) -> list[pa.RecordBatch]:
        return self.table.to_batches()

    @cached_property
    def _chunk_starts(self) -> np.ndarray:
        lengths = [chunk.num_rows for chunk in self._chunks]
        return np.cumsum([0, *lengths])[:-1]

    @classmethod
    def open(cls, directory: Path) -> "Selection":
        """The selection in `directory`. Raises InputError where there is none, or a damaged one."""
        if not (directory / FACTS_FILE).is_file():
            raise InputError(
                f"{directory} holds no complete selection ({FACTS_FILE} is missing): make one with "
                "`winnow curate SHARDS --out DIR`"
            )
        facts = _read_facts(directory / FACTS_FILE)
        return cls(
            directory=directory,
            shards=facts.shards,
            table=_read_kept(directory / KEPT_FILE, num_rows=sum(facts.shard_counts)),
            shard_counts=np.asarray(facts.shard_counts, dtype=np.int64),
            fingerprint=facts.fingerprint,
            columns=facts.columns,
        )


def write_selection(
    directory: Path,
    shards: list[str],
    tables: Iterable[pa.Table],
    *,
    columns: Columns = DETECT,
    weighted: bool = False,
) -> None:
    """Write one kept table per shard, in the order of `shards`, as the selection of `directory`.

    A table has the columns of KEPT_SCHEMA but `shard`, and WEIGHT where it is `weighted`.
    `selection.json` is written last: present means complete.
    """
    schema = KEPT_SCHEMA.append(WEIGHT) if weighted else KEPT_SCHEMA
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FACTS_FILE).unlink(missing_ok=True)
    partial = directory / (KEPT_FILE + ".partial")
    digest = hashlib.sha256(json.dumps([shards, as_dict(columns)]).encode())
    counts: list[int] = []
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for index, table in enumerate(tables):
            shard = pa.array(np.full(table.num_rows, index, dtype=np.int32))
            kept = table.select(schema.names[1:]).add_column(0, schema.field(0), shard)
            writer.write_table(kept.cast(schema).combine_chunks())
            digest.update("".join(kept["uid"].to_pylist()).encode())
            for column in ("shard", "offset", "size", *schema.names[len(KEPT_SCHEMA) :]):
                digest.update(kept[column].to_numpy().tobytes())
            # As json, so that no words can move from one caption to the next unseen.
            digest.update(json.dumps(kept["caption"].to_pylist()).encode())
            counts.append(table.num_rows)
    partial.replace(directory / KEPT_FILE)
    facts = _Facts(
        shards=tuple(shards),
        shard_counts=tuple(counts),
        fingerprint=digest.hexdigest(),
        columns=columns,
    )
    write_json(directory / FACTS_FILE, as_dict(facts))


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What stands in `selection.json`; see Selection."""

    shards: tuple[str, ...]
    shard_counts: tuple[int, ...]
    fingerprint: str
    columns: Columns


def _read_facts(path: Path) -> _Facts:
    try:
        return from_dict(_Facts, read_json(path), where=str(path))
    except InputError as error:
        raise _damaged(path, str(error)) from error


def _read_kept(path: Path, *, num_rows: int) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, str(error)) from error
    schemas = (KEPT_SCHEMA, KEPT_SCHEMA.append(WEIGHT))
    if table.schema not in schemas or table.num_rows != num_rows:
        raise _damaged(path, f"it is not the table of {num_rows} rows that {FACTS_FILE} describes")
    return table


def _damaged(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path} of a selection is missing or damaged ({detail}): make the selection again with "
        "`winnow curate SHARDS --out DIR`"
    )
