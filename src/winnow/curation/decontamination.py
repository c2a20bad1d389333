"""The pictures of evaluation sets, in one small file that training pairs are compared with.

    sha256        binary(32), of the picture's bytes
    picture_hash  uint64, see `data.perceptual`; null where there is none
    key           the picture's key in its set
    set           the name of the set

The file also says which version of the perceptual hash it holds, for others cannot be compared, and
which files it was made from, as they were then: while they are that, it need not be made again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation.hamming import HammingIndex
from winnow.data.files import state_of
from winnow.data.folder import Folder
from winnow.data.images import ImageError, probe
from winnow.data.ledger import Address
from winnow.data.perceptual import HASH_VERSION
from winnow.data.sample import RawSample, Reader
from winnow.data.sources import TABLES, Source, open_reader, open_source
from winnow.types import InputError

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("picture_hash", pa.uint64()),
        pa.field("key", pa.string(), nullable=False),
        pa.field("set", pa.string(), nullable=False),
    ],
    metadata={"winnow.picture_hash": str(HASH_VERSION)},
)
_TASK_FOLDER = "test"
_SETS = b"winnow.sets"


def open_evaluation_sets(specs: Sequence[str]) -> dict[str, Source]:
    """The evaluation sets at paths or URLs, by their last name where no two have the same.

    Raises InputError where there is none at one of them.
    """
    specs = list(dict.fromkeys(spec.rstrip("/") or spec for spec in specs))
    names = [Path(spec).name or spec for spec in specs]
    return {
        name if names.count(name) == 1 else spec: open_evaluation_set(spec)
        for name, spec in zip(names, specs, strict=True)
    }


def open_evaluation_set(spec: str) -> Source:
    """The shards of an evaluation set: a folder in clip-benchmark's layout, or any source."""
    inside = Path(spec, _TASK_FOLDER)
    return open_source(str(inside) if inside.is_dir() else spec)


def write_index(sets: Mapping[str, Source], path: Path) -> int:
    """Write the index of the pictures of evaluation sets, by name; returns how many they are.

    A picture needs no caption here. One that cannot be decoded is known by its bytes alone. Several
    writers may be at one path at once. Raises InputError where a shard is broken or has no picture.
    """
    made_from = _made_from(sets)  # before they are read: a later change is one
    rows = [
        {**_facts(image), "key": key, "set": name}
        for name, source in sets.items()
        for key, image in _pictures(source)
    ]
    if not rows:
        raise InputError("no evaluation set was given: name at least one")
    schema = INDEX_SCHEMA.with_metadata({**INDEX_SCHEMA.metadata, _SETS: made_from or ""})
    folder = Folder.at(path.parent)
    folder.sweep()
    with folder.writing(path.name) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)
    return len(rows)


def is_index_of(path: Path, sets: Mapping[str, Source]) -> bool:
    """Whether there is an index of these sets at `path`, made from their files as they are now."""
    try:
        made_from = pq.read_schema(path).metadata[_SETS]
    except (OSError, pa.ArrowException, KeyError, TypeError):
        return False
    return made_from != b"" and made_from.decode() == _made_from(sets)


def content_of(path: Path) -> str:
    """A sha256 of what is in an index, whoever wrote it and when. Raises InputError."""
    table = _read(path).replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class EvaluationPictures:
    """An index in memory: 44 bytes a picture and its names, and what `hamming` says."""

    names: pa.Array
    """string, "KEY of SET"."""
    digests: pa.Array
    """binary(32)."""
    near: HammingIndex
    near_rows: np.ndarray
    """int64: which picture each hash of `near` belongs to."""

    @classmethod
    def open(cls, path: Path, *, radius: int) -> "EvaluationPictures":
        """What `write_index` wrote. Raises InputError where it is missing, damaged or outdated."""
        table = _read(path)
        has_hash = table["picture_hash"].is_valid().to_numpy()
        hashes = table["picture_hash"].drop_null().to_numpy()
        return cls(
            names=pc.binary_join_element_wise(table["key"], table["set"], " of ").combine_chunks(),
            digests=table["sha256"].combine_chunks(),
            near=HammingIndex(hashes, radius=radius),
            near_rows=np.flatnonzero(has_hash),
        )

    def same(self, rows: pa.RecordBatch) -> pa.Array:
        """string: the name of the first picture with the same bytes; null where there is none."""
        digests = pa.array([bytes.fromhex(d) for d in rows["sha256"].to_pylist()], pa.binary(32))
        return self.names.take(pc.index_in(digests, value_set=self.digests))

    def nearest(self, rows: pa.RecordBatch) -> tuple[pa.Array, np.ndarray]:
        """string and int64: name and distance of the nearest; null and -1 where none is near."""
        has_hash = rows["picture_hash"].is_valid().to_numpy(zero_copy_only=False)
        index, distance = np.full((2, rows.num_rows), -1, dtype=np.int64)
        found = self.near.nearest(rows["picture_hash"].drop_null().to_numpy())
        index[has_hash], distance[has_hash] = found
        picture = np.append(self.near_rows, -1)[index]
        return self.names.take(pa.array(picture, mask=picture < 0)), distance


def _made_from(sets: Mapping[str, Source]) -> str | None:
    """Names the sets, and the files of theirs as they are now; None where that cannot be said."""
    found: list[Any] = [HASH_VERSION]
    for name, source in sets.items():
        for shard in source.shards:
            # A table's pictures are other files, and a store may not say when one was changed.
            size, changed = state_of(shard)
            if shard.endswith(TABLES) or not changed:
                return None
            found.append([name, shard, size, changed])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _pictures(source: Source) -> Iterator[tuple[str, bytes]]:
    for shard in source.shards:
        count = 0
        with open_reader(shard, columns=source.columns) as reader:
            for sample in source.scan(shard):
                yield sample.key, _bytes(sample, reader, shard)
                count += 1
        if count == 0:
            raise InputError(f"{shard} holds no picture: leave it out, or name the right folder")


def _bytes(sample: RawSample, reader: Reader, shard: str) -> bytes:
    if sample.image is not None:
        return sample.image
    # Sets for zero-shot classification have labels in place of captions.
    if sample.error is not None and sample.error.startswith("missing caption"):
        return reader.read(Address(sample.key, sample.offset, sample.size))
    raise InputError(
        f"{shard}, {sample.key}: {sample.error}; an evaluation set is compared whole: fetch the "
        "shard again"
    )


def _facts(image: bytes) -> dict[str, object]:
    digest = hashlib.sha256(image).digest()
    try:
        return {"sha256": digest, "picture_hash": probe(image).picture_hash}
    except ImageError:
        return {"sha256": digest, "picture_hash": None}


def _read(path: Path) -> pa.Table:
    hint = "write it again with winnow.curation.decontamination.write_index"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        problem = f"{path} cannot be read as an index of pictures: {error}"
        raise InputError(f"{problem}; {hint}") from error
    if not table.schema.equals(INDEX_SCHEMA, check_metadata=False):
        raise InputError(f"{path} is no index of pictures: {hint}")
    version = (table.schema.metadata or {}).get(b"winnow.picture_hash", b"none").decode()
    if version != str(HASH_VERSION):
        raise InputError(
            f"{path} holds perceptual hashes of version {version}, this is {HASH_VERSION}: {hint}"
        )
    return table
