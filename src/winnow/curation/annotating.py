"""Annotating: an annotator put to the rows of a shard that pass its gate.

Rows that were annotated before, by the same annotator with the same settings and weights, are not
annotated again: a wider gate costs only the rows that it adds.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation import numbered
from winnow.curation.annotations import (
    ALL_ROWS,
    COMPUTED,
    Annotation,
    AnnotationStats,
    annotated_batches,
    blank,
    file_schema,
    folder_of,
    merge,
    sources_of,
)
from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.ledger_files import ShardStats, row_groups
from winnow.curation.local_shard import LocalShard
from winnow.curation.reading import error_code
from winnow.curation.stages import Stage
from winnow.curation.verdicts import local_judges, surviving
from winnow.data.folder import Folder
from winnow.data.ledger import Address
from winnow.data.sample import Reader
from winnow.data.sources import open_reader
from winnow.types import InputError

_GATES_REMEMBERED = 15
"""So that going between selections evaluates each one's gate once."""

_CHUNK = 1_000
"""Rows that an annotator sees at once."""


class Shard(NamedTuple):
    """A shard whose rows are in the ledger."""

    out: Folder
    number: int
    stats: ShardStats
    local: LocalShard
    stages: tuple[Stage, ...]
    """All of the run, in order: a gate may read what earlier ones filled."""


def done_before(
    out: Folder, number: int, stage: Stage, stats: ShardStats
) -> AnnotationStats | None:
    """What this annotator did to these rows; None where that is nothing that is still good."""
    folder = folder_of(out, stage.annotator.name)
    known = numbered.read_record(folder, number, AnnotationStats)
    if known is None or (known.ledger, known.annotator) != (stats.fingerprint, stage.identity):
        return None
    return known


def covers(known: AnnotationStats, stage: Stage) -> bool:
    """Whether every row that the stage lets through is surely annotated."""
    return not {ALL_ROWS, stage.gate_fingerprint}.isdisjoint(known.gates)


def annotate(shard: Shard, stage: Stage, known: AnnotationStats | None) -> AnnotationStats:
    """Annotate what passes the stage's gate, beyond what is `known`, and commit all of it."""
    start = time.monotonic()
    folder = folder_of(shard.out, stage.annotator.name)
    missing = list(_missing(shard, stage, known))
    if known is not None and not any(pc.any(mask).as_py() for mask in missing):
        done = replace(known, gates=_with_gate(known, stage))
        numbered.write_record(folder, shard.number, done)
        return done
    computed, errors = 0, Counter[str]()
    digest = hashlib.sha256(f"{shard.stats.content} {stage.identity}".encode())
    with (
        folder.writing(numbered.rows_name(shard.number)) as path,
        pq.ParquetWriter(path, file_schema(stage.annotator.schema)) as file,
        _Looking(stage, shard) as look,
    ):
        for rows, old, mask in zip(
            annotated_batches(shard.out, shard.number, ()),
            _before(shard, stage, known),
            missing,
            strict=True,
        ):
            merged = merge(old, look(rows.filter(mask)), mask)
            file.write_batch(merged)
            computed += pc.sum(merged[COMPUTED.name]).as_py() or 0
            errors.update(error_code(e) for e in merged[ERROR.name].drop_null().to_pylist())
            digest.update(
                np.packbits(merged[COMPUTED.name].to_numpy(zero_copy_only=False)).tobytes()
            )
        numbered.sign(file, digest.hexdigest())
        # Only now: until here the old rows stand, and their record is right.
        numbered.forget(folder, shard.number)
    done = AnnotationStats(
        ledger=shard.stats.fingerprint,
        annotator=stage.identity,
        gates=_with_gate(known, stage),
        rows=shard.stats.rows,
        content=digest.hexdigest(),
        computed=computed,
        errors=dict(sorted(errors.items())),
        seconds=round(time.monotonic() - start, 3),
    )
    numbered.write_record(folder, shard.number, done)
    return done


def _with_gate(known: AnnotationStats | None, stage: Stage) -> tuple[str, ...]:
    before = known.gates if known is not None else ()
    return (*before[-_GATES_REMEMBERED:], stage.gate_fingerprint)


def _missing(shard: Shard, stage: Stage, known: AnnotationStats | None) -> Iterator[pa.Array]:
    """bool, for each group of rows: which ones pass the gate and are not annotated."""
    reads = _read_by_gate(stage, shard.stages)
    judges = local_judges(stage.gate, reads)
    groups = annotated_batches(shard.out, shard.number, reads)
    for rows, old in zip(groups, _before(shard, stage, known), strict=True):
        yield pc.and_not(surviving(rows, judges), old[COMPUTED.name])


def _before(shard: Shard, stage: Stage, known: AnnotationStats | None) -> Iterator[pa.RecordBatch]:
    """What is annotated so far, group by group."""
    if known is not None:
        return row_groups(folder_of(shard.out, stage.annotator.name), shard.number)
    schema = file_schema(stage.annotator.schema)
    ledger = annotated_batches(shard.out, shard.number, ())
    return (blank(schema, rows.num_rows) for rows in ledger)


def _read_by_gate(stage: Stage, stages: Iterable[Stage]) -> list[Annotation]:
    needs = [column for rule in stage.gate for column in rule.needs]
    found = sources_of(needs, [other.annotation for other in stages])
    return list({annotation.name: annotation for annotation in found.values()}.values())


class _Looking(AbstractContextManager):
    """An annotator at a shard; the shard is opened when the first picture is needed."""

    def __init__(self, stage: Stage, shard: Shard) -> None:
        self._annotator, self._identity, self._shard = stage.annotator, stage.identity, shard
        self._schema = file_schema(stage.annotator.schema)
        self._stack = ExitStack()
        self._reader: Reader | None = None

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """`rows` of the ledger as rows of the annotator's file."""
        found = [self._schema.empty_table()]
        for start in range(0, rows.num_rows, _CHUNK):
            chunk = rows.slice(start, _CHUNK)
            columns = _opened(self._annotator, self._identity)(chunk, self._pictures(chunk))
            assert columns.num_rows == chunk.num_rows, f"{self._annotator.name} lost a row"
            computed = pa.array([True] * chunk.num_rows, pa.bool_())
            arrays = [computed, *(columns[name] for name in self._schema.names[1:])]
            found.append(pa.Table.from_arrays(arrays, self._schema.names).cast(self._schema))
        whole = pa.concat_tables(found).combine_chunks().to_batches()
        return whole[0] if whole else blank(self._schema, 0)

    def _pictures(self, rows: pa.RecordBatch) -> Iterator[bytes]:
        if not self._annotator.reads_pictures:
            return iter(())
        reader = self._reader
        if reader is None:
            with self._shard.local.blamed():
                opened = open_reader(self._shard.local.path, columns=self._shard.stats.columns)
            reader = self._reader = self._stack.enter_context(opened)
        parts = (rows[name].to_pylist() for name in ("key", "offset", "size"))
        addresses = [Address(*parts) for parts in zip(*parts, strict=True)]
        reader.will_need(addresses[0], addresses[-1])
        return (self._read(reader, address) for address in addresses)

    def _read(self, reader: Reader, address: Address) -> bytes:
        with self._shard.local.blamed():
            return reader.read(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


# A process annotates many shards: its models are loaded once, and again when they change.
@lru_cache(maxsize=8)
def _opened(annotator: Annotator, identity: str) -> Annotate:
    if annotator.identity() != identity:
        raise InputError(
            f"what {annotator.name} reads has changed since this run began: run the same command "
            "again"
        )
    return annotator.open()
