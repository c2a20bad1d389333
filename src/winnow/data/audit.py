"""The audit of a run: what training said of every pair, one row per uid, in RUN/audit.parquet.

    uid                    32 hex digits; exact copies share one, and then a row
    shard, key, caption    of the selection (its own caption, where training chose among several)
    times                  how often a step saw the pair
    own_probability        softmax of the own pair among the batch (sigmoid for SigLIP): mean over
                           all times and both directions, 0 to 1
    own_probability_late   the same over the last half of the run's steps; null where not seen then
    margin                 cosine to the own caption less that to the best other one of the batch,
                           mean of both directions and all times, -2 to 2; null without any other
    not_first              share of the times that the own pair did not beat all others both ways
    target_other_mass      mean mass of the pair's soft targets beside its own, 0 to 1; null for
                           rules without soft targets

Sums are taken of whole numbers of 2^-44, which add up to the same in any order: how often a run was
killed, and how many processes wrote, changes nothing here. What has the file's metadata:
`winnow.fingerprint` (of the selection or mixture), `winnow.steps` (done so far), `winnow.version`
and `winnow.segments` (a digest of the files it was made from).
"""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import read_json
from winnow.data.audit_segments import Segment, SegmentFacts, read_segment, segments_in
from winnow.data.audit_sums import Sums
from winnow.data.keyed import KEY_DTYPE, find, parse_uids
from winnow.data.mixture import Mixture
from winnow.data.selection import Selection
from winnow.types import InputError

AUDIT_FILE = "audit.parquet"
NUMBERS = (
    "own_probability",
    "own_probability_late",
    "margin",
    "not_first",
    "target_other_mass",
)
"""The columns that say how much a pair is believed."""
AUDIT_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("times", pa.int32(), nullable=False),
        *(pa.field(name, pa.float32()) for name in NUMBERS),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditTable:
    """An audit.parquet in memory."""

    path: Path
    table: pa.Table
    """AUDIT_SCHEMA, in the order of the selection."""
    fingerprint: str
    """Of the selection or mixture that the run was trained on."""
    steps: int
    """How many steps it covers."""
    version: str
    """Of the winnow that wrote it."""
    segments: str
    """Digest of the segments that it was made from."""

    def __len__(self) -> int:
        return self.table.num_rows

    @classmethod
    def open(cls, path: Path, *, columns: Sequence[str] | None = None) -> "AuditTable":
        """The table at `path`, or some of its columns, with `uid` among them.

        Raises InputError where there is none, or something else.
        """
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                metadata = schema.metadata or {}
                if schema.names != AUDIT_SCHEMA.names or b"winnow.segments" not in metadata:
                    raise InputError(
                        f"{path} is no run's audit, its columns are {', '.join(schema.names)}: "
                        f"give the RUN/{AUDIT_FILE} that `winnow audit RUN` writes"
                    )
                table = file.read(columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} cannot be read as a run's audit ({error}): give the RUN/{AUDIT_FILE} that "
                "`winnow audit RUN` writes"
            ) from error
        return cls(
            path=path,
            table=table,
            fingerprint=metadata[b"winnow.fingerprint"].decode(),
            steps=int(metadata[b"winnow.steps"]),
            version=metadata[b"winnow.version"].decode(),
            segments=metadata[b"winnow.segments"].decode(),
        )

    def column(self, name: str) -> np.ndarray:
        """A number of every pair, NaN for null; float32, `times` int32."""
        return self.table[name].to_numpy()

    def rows_of(self, uids: pa.Array) -> np.ndarray:
        """int64: the row of each uid (32 hex digits); -1 where the run never saw it."""
        keys, rows = self._by_uid
        found = find(keys, parse_uids(uids, where="what is looked up"))
        return np.where(found >= 0, rows[found.clip(min=0)], -1) if len(rows) else found

    @property
    def rows_by_uid(self) -> np.ndarray:
        """int64: all rows, in the order of their uids."""
        return self._by_uid[1]

    @cached_property
    def _by_uid(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted keys, and the row of each."""
        keys = _keys(self.table["uid"], where=self.path)
        rows = np.lexsort((keys["f1"], keys["f0"]))
        return keys[rows], rows


def is_current(run: Path) -> bool:
    """Whether RUN/audit.parquet is there and made from all segments that the run has now.

    One whose segments were removed since stays what it was.
    """
    path, segments = run / AUDIT_FILE, segments_in(run)
    if not path.is_file():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return False  # cut short by whatever ended the machine: it is made again
    return not segments or metadata.get(b"winnow.segments") == _digest(segments).encode()


def aggregate(run: Path, *, selection: Selection | Mixture | None = None) -> Path:
    """Write RUN/audit.parquet from the run's segments, where it is not current; its path.

    `selection` is what the run was trained on; default: found by RUN/data.json. Memory is some
    350 bytes a row of the selection at the peak, beside one segment. Raises InputError where the
    run gathered nothing, where the selection is gone or another, or where a segment is damaged.
    """
    if is_current(run):
        return run / AUDIT_FILE
    segments = segments_in(run)
    if not segments:
        raise InputError(
            f"{run} has no audit to read, as it was trained with --runtime.no-audit, by a winnow "
            "before there was one, or is no run: train it again, into another folder"
        )
    facts = read_segment(segments[0])[1]
    parts = _parts_of(run, facts) if selection is None else _same(selection, facts)
    sums = Sums.zeros(sum(len(part) for part in parts))
    for segment in segments:
        table, own_facts = read_segment(segment)
        if own_facts != facts:
            raise InputError(
                f"{segment.path} is of another run than {segments[0].path}: remove the one that "
                "does not belong there"
            )
        sums.add(table, steps=facts.steps)
    seen = np.flatnonzero(sums.times)
    sums.join_copies(seen, _keys_of_rows(parts, seen))
    metadata = {
        "winnow.fingerprint": facts.fingerprint,
        "winnow.steps": str(max(segment.end for segment in segments)),
        "winnow.version": importlib.metadata.version("winnow-clip"),
        "winnow.segments": _digest(segments),
    }
    partial = run / f"{AUDIT_FILE}.partial"
    try:
        with pq.ParquetWriter(partial, AUDIT_SCHEMA.with_metadata(metadata)) as writer:
            for table in _tables(parts, sums):
                writer.write_table(table)
        partial.replace(run / AUDIT_FILE)
    finally:
        partial.unlink(missing_ok=True)
    return run / AUDIT_FILE


def _tables(parts: Sequence[Selection], sums: Sums) -> Iterator[pa.Table]:
    """AUDIT_SCHEMA of all rows that were seen, in their order."""
    start = 0
    for part in parts:
        shards = pa.array(part.shards, pa.string())
        for chunk in part.table.to_batches():
            rows = np.flatnonzero(sums.times[start : start + chunk.num_rows])
            taken = chunk.take(pa.array(rows))
            columns = {
                "uid": taken["uid"],
                "shard": shards.take(taken["shard"]),
                "key": taken["key"],
                "caption": taken["caption"],
            } | sums.columns(rows + start)
            start += chunk.num_rows
            if len(rows):
                yield pa.table({name: columns[name] for name in AUDIT_SCHEMA.names}, AUDIT_SCHEMA)


def _keys_of_rows(parts: Sequence[Selection], rows: np.ndarray) -> np.ndarray:
    """KEY_DTYPE of `rows`, which ascend."""
    found, start = [np.empty(0, dtype=KEY_DTYPE)], 0
    for part in parts:
        # Each chunk by itself: Arrow would join all of a column, and 2^31 bytes are its limit.
        for chunk in part.table["uid"].chunks:
            low, high = np.searchsorted(rows, (start, start + len(chunk)))
            taken = chunk.take(pa.array(rows[low:high] - start))
            found.append(parse_uids(taken, where=str(part.directory)))
            start += len(chunk)
    return np.concatenate(found)


def _keys(uids: pa.ChunkedArray, *, where: Path) -> np.ndarray:
    chunks = [parse_uids(chunk, where=str(where)) for chunk in uids.chunks]
    return np.concatenate([*chunks, np.empty(0, dtype=KEY_DTYPE)])


def _same(selection: Selection | Mixture, facts: SegmentFacts) -> tuple[Selection, ...]:
    if selection.fingerprint != facts.fingerprint:
        raise InputError(
            f"{selection.description} ({selection.fingerprint[:12]}) is not what the run was "
            f"trained on ({facts.fingerprint[:12]}): give that one"
        )
    return selection.selections if isinstance(selection, Mixture) else (selection,)


def _parts_of(run: Path, facts: SegmentFacts) -> tuple[Selection, ...]:
    """The selections that the run's data.json names, whose rows are numbered one after another."""
    data = read_json(run / "data.json")
    parts = []
    for one in data["sources"] or [data]:
        selection = Selection.open(Path(one["selection"]))
        if selection.fingerprint != one["fingerprint"]:
            raise InputError(
                f"the selection in {selection.directory} is not the one any more that {run} was "
                f"trained on ({one['fingerprint'][:12]}, now {selection.fingerprint[:12]}): make "
                "that one again, by the rules in its summary.json"
            )
        parts.append(selection)
    if data["fingerprint"] != facts.fingerprint:
        raise InputError(
            f"the segments in {run} are of another run than its data.json: remove them, and "
            "train again for an audit"
        )
    return tuple(parts)


def _digest(segments: Sequence[Segment]) -> str:
    facts = sorted((one.path.name, one.path.stat().st_size) for one in segments)
    return hashlib.sha256(repr(facts).encode()).hexdigest()
