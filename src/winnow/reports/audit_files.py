"""What `winnow audit` leaves beside a run's audit.parquet, and how it is read back.

    RUN/audit/doubts.parquet     the pairs believed least, worst first, and what the model would
                                 rather say and show
    RUN/audit/clusters.parquet   the pairs of every group that the model cannot tell apart, the
                                 biggest group first; a pair may be in a group of captions and in
                                 one of pictures

Both carry AuditFacts in their metadata. Every pair stands there with its shard and its address, so
a page can show its picture without the selection.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import as_dict, from_dict
from winnow.data.columns import Columns
from winnow.types import InputError

DOUBTS_FILE, CLUSTERS_FILE = "audit/doubts.parquet", "audit/clusters.parquet"

Kind = Literal["caption", "picture"]

PAIR = [
    pa.field("uid", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("caption", pa.string(), nullable=False),
]
"""Which pair it is and where its picture stands; `offset` and `size` as in `data/ledger.py`."""

_RATHER = [*PAIR, pa.field("cosine", pa.float32(), nullable=False)]
RATHER_CAPTIONS = ("rather_1", "rather_2", "rather_3")
"""The captions that are nearest to the picture, each with the first pair that has it; null where
the selection has no more distinct ones."""
RATHER_PICTURES = ("picture_1", "picture_2", "picture_3")
"""The pairs whose pictures are nearest to the caption, its own one left out."""
DOUBTS_SCHEMA = pa.schema(
    [
        *PAIR,
        # As in data/audit.py.
        pa.field("times", pa.int32(), nullable=False),
        pa.field("own_probability", pa.float32()),
        pa.field("own_probability_late", pa.float32()),
        pa.field("margin", pa.float32()),
        pa.field("not_first", pa.float32()),
        pa.field("target_other_mass", pa.float32()),
        # By the model that was asked: cosine of picture and caption, and the rank of the caption
        # among all distinct ones, of the picture among all; 1 is best.
        pa.field("own_cosine", pa.float32(), nullable=False),
        pa.field("caption_rank", pa.int64(), nullable=False),
        pa.field("picture_rank", pa.int64(), nullable=False),
        *(pa.field(name, pa.struct(_RATHER)) for name in (*RATHER_CAPTIONS, *RATHER_PICTURES)),
    ]
)
CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("cluster", pa.int32(), nullable=False),  # 0 is the biggest, of either kind
        pa.field("kind", pa.string(), nullable=False),  # caption or picture: what is alike
        pa.field("pairs", pa.int32(), nullable=False),  # of the cluster
        pa.field("items", pa.int32(), nullable=False),  # distinct captions, or pictures, of it
        pa.field("weakest", pa.float32(), nullable=False),  # lowest cosine of a link that made it
        *PAIR,
    ]
)


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """All clusters of one kind."""

    clusters: int
    pairs: int
    """In any of them."""
    largest: int
    """Pairs of the biggest."""
    per_batch: float
    """Pairs of pairs of one cluster that a batch has on average, drawn at random."""


@dataclass(frozen=True, kw_only=True)
class AuditFacts:
    """What the files were made from."""

    model: str
    """As it was asked for."""
    model_fingerprint: str
    precision: str
    selections: tuple[str, ...]
    """Folders of the selections whose pairs were looked at."""
    pairs: int
    """Of all selections, as are the next."""
    captions: int
    """Distinct ones."""
    segments: str
    """Of the audit.parquet, as its metadata has them."""
    logit_scale: float
    batch_size: int
    objective: str
    same_caption: bool
    """Whether training already left out other pairs of the same caption."""
    version: str
    clusters: dict[str, ClusterFacts] = field(default_factory=dict)
    """By kind; none where they were not looked for."""
    columns: dict[str, Columns] = field(default_factory=dict)
    """Where shards have their pictures, for those of which `curate` was told."""


def write_table(path: Path, table: pa.Table, facts: AuditFacts) -> None:
    """Write a table with its facts; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    metadata = {"winnow.audit": json.dumps(as_dict(facts), sort_keys=True)}
    try:
        pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_facts(path: Path) -> AuditFacts:
    """The facts of one of the two files. Raises InputError where it is damaged."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        values = json.loads(metadata[b"winnow.audit"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return from_dict(AuditFacts, values, where=str(path))


def read_table(path: Path, schema: pa.Schema, *, filters: object = None) -> pa.Table:
    """One of the two tables, or the rows of it that `filters` let through, as pyarrow has them.

    Raises InputError where it is damaged.
    """
    try:
        table = pq.read_table(path, filters=filters)
        return table.cast(schema).replace_schema_metadata(None)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise _damaged(path, str(error)) from error


def columns_of(facts: AuditFacts, shard: str) -> Mapping[str, Columns]:
    """Keyword arguments for a reader of the shard."""
    return {"columns": facts.columns[shard]} if shard in facts.columns else {}


def _damaged(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path} is damaged, or of another winnow ({detail}): `winnow audit RUN` writes it again"
    )
