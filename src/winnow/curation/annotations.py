"""Annotations on disk: what each annotator found out, row by row beside the ledger.

    annotations/NAME/NNNNN.parquet    `computed`, the annotator's columns, `error`
    annotations/NAME/NNNNN.json       AnnotationStats, written last

A row that was not computed has nulls and `computed` false: that is not the same as nothing found.
Read beside the ledger, `computed` and `error` carry the annotator's name (`parse: computed`), since
a row may have several.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation import ledger_files, numbered
from winnow.curation.annotators.annotator import ERROR
from winnow.data.folder import Folder
from winnow.types import InputError

COMPUTED = pa.field("computed", pa.bool_(), nullable=False)

ALL_ROWS = ""
"""The gate of annotations that every readable row has passed."""


@dataclass(frozen=True, kw_only=True)
class AnnotationStats(numbered.Record):
    """What is known of a shard's annotations once they are all there."""

    ledger: str
    """ShardStats.fingerprint of the rows they are of."""
    annotator: str
    """Annotator.identity(); another one makes them stale."""
    gates: tuple[str, ...]
    """Fingerprints of gates, all rows behind which are annotated."""
    computed: int
    """Rows that were annotated; the others were dropped by the gate, or are unreadable."""
    errors: dict[str, int] = field(default_factory=dict)
    """Annotated rows that failed, by error code."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """An annotator's folder, as it is read."""

    name: str
    columns: pa.Schema
    """What it holds beside `computed` and `error`."""

    @property
    def computed(self) -> str:
        """Its column `computed`, as rows of the ledger carry it."""
        return f"{self.name}: computed"

    @property
    def error(self) -> str:
        """Its column `error`, as rows of the ledger carry it."""
        return f"{self.name}: error"


def folder_of(out: Folder, name: str) -> Folder:
    """Where `out` holds the annotations called `name`."""
    return ledger_files.annotations_folder(out) / name


def file_schema(columns: pa.Schema) -> pa.Schema:
    """The schema of an annotator's files."""
    return pa.schema([COMPUTED, *columns, ERROR])


def find_annotations(out: Folder) -> list[Annotation]:
    """What is annotated in `out`, by the files of its first shard; by name."""
    found = []
    root = ledger_files.annotations_folder(out)
    for name in root.folders():
        folder = root / name
        if folder.exists(numbered.rows_name(0)):
            try:
                with folder.open(numbered.rows_name(0)) as file:
                    schema = pq.read_schema(file)
            except pa.ArrowException:
                continue  # damaged is not there: whoever needs it is told to annotate
            found.append(
                Annotation(name=name, columns=pa.schema(list(schema)[1:-1], schema.metadata))
            )
    return found


def sources_of(
    columns: Sequence[str], annotations: Sequence[Annotation]
) -> Mapping[str, Annotation]:
    """The annotation that fills each of `columns`; what none fills is missing.

    Raises InputError where two fill the same one.
    """
    found: dict[str, Annotation] = {}
    for column in columns:
        filling = [a for a in annotations if column in a.columns.names]
        if len(filling) > 1:
            raise InputError(
                f"the column {column!r} is in the annotations {filling[0].name!r} and "
                f"{filling[1].name!r}: rename it in one of them, or delete that folder"
            )
        if filling:
            found[column] = filling[0]
    return found


def annotated_batches(
    out: Folder, number: int, annotations: Sequence[Annotation]
) -> Iterator[pa.RecordBatch]:
    """Rows of one shard of the ledger with their PLACE and the columns of `annotations`."""
    sidecars = [ledger_files.row_groups(folder_of(out, a.name), number) for a in annotations]
    for rows in ledger_files.batches(out, number):
        for annotation, sidecar in zip(annotations, sidecars, strict=True):
            rows = _beside(rows, annotation, next(sidecar))
        yield rows


def check_annotations(
    out: Folder, annotations: Sequence[Annotation], ledger: Sequence[ledger_files.ShardStats]
) -> list[str]:
    """The identity behind each of `annotations`, all of whose shards have been annotated.

    Raises InputError where a shard is missing, or was annotated by another identity or from other
    rows than the ledger has now.
    """
    identities = []
    for annotation in annotations:
        folder = folder_of(out, annotation.name)
        found = numbered.read_records(folder, range(len(ledger)), AnnotationStats)
        fresh = [
            stats is not None and stats.ledger == shard.fingerprint
            for stats, shard in zip(found, ledger, strict=True)
        ]
        kinds = {stats.annotator for stats in found if stats is not None}
        if not all(fresh) or len(kinds) != 1:
            raise InputError(
                f"the annotations in {folder.url} are unfinished ({sum(fresh)} of {len(ledger)} "
                f"shards, {len(kinds)} setting(s)): run `winnow curate` with all shards "
                "again, it goes on where it stopped"
            )
        identities.append(kinds.pop())
    return identities


def _beside(rows: pa.RecordBatch, annotation: Annotation, found: pa.RecordBatch) -> pa.RecordBatch:
    if found.num_rows != rows.num_rows:
        raise InputError(
            f"the annotations called {annotation.name!r} do not fit the ledger "
            f"({found.num_rows} rows beside {rows.num_rows}): delete their folder and curate again"
        )
    for column in annotation.columns.names:
        rows = rows.append_column(column, found[column])
    rows = rows.append_column(annotation.computed, found[COMPUTED.name])
    return rows.append_column(annotation.error, found[ERROR.name])


def merge(old: pa.RecordBatch, found: pa.RecordBatch, where: pa.Array) -> pa.RecordBatch:
    """`old` with the rows of `found`, in their order, where `where` is true."""
    if not found.num_rows:
        return old
    place = pc.cumulative_sum(pc.cast(where, pa.int64()))
    own = pa.array(range(old.num_rows), pa.int64())
    index = pc.if_else(where, pc.add(place, old.num_rows - 1), own)
    both = pa.Table.from_batches([old, found.cast(old.schema)])
    return both.take(index).combine_chunks().to_batches()[0]


def blank(schema: pa.Schema, num_rows: int) -> pa.RecordBatch:
    """`num_rows` rows of a file schema of which nothing is computed."""
    columns = [pa.array([False] * num_rows, pa.bool_())]
    columns += [pa.nulls(num_rows, column.type) for column in list(schema)[1:]]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
