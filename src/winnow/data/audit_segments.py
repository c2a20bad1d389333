"""Segments: what training saw of each pair at each step, in parquet files under RUN/audit.

    steps-00000100-00000200-rank-0.parquet      steps 100 to 199, of one process
        step (int32)              counted from 0
        row (int64)               of the selection, or of the mixture
        own_probability (float32) softmax of the own pair among the batch, mean of both directions
        margin (float32)          cosine to the own caption less that to the best other one, mean
                                  of both directions; NaN where the pair had no negative
        is_first (bool)           whether the own pair beat every other, in both directions
        target_other_mass (float32)  of a soft target; NaN where the rule has none

A checkpoint counts only after the segments up to its step are on the disk, and going on from it
drops those beyond: so there is one row per pair and step that led to the model, whatever was killed
in between, and however many processes there were.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.folder import flush_folder
from winnow.types import InputError

AUDIT_FOLDER = "audit"
SEGMENT_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("own_probability", pa.float32(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("is_first", pa.bool_(), nullable=False),
        pa.field("target_other_mass", pa.float32(), nullable=False),
    ]
)
_NAME = re.compile(r"steps-(?P<first>\d{8,})-(?P<end>\d{8,})-rank-(?P<rank>\d+)\.parquet")


class Segment(NamedTuple):
    """A file of the steps [first, end), of one process."""

    first: int
    end: int
    rank: int
    path: Path


class SegmentFacts(NamedTuple):
    """What a segment says of its run."""

    steps: int
    """Of the whole run, as its recipe has them."""
    fingerprint: str
    """Of the selection or mixture, whose rows are numbered."""


def segments_in(run: Path) -> list[Segment]:
    """The segments of a run, by their first step; none where it gathered nothing."""
    found = []
    for path in (run / AUDIT_FOLDER).glob("steps-*.parquet"):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            found.append(Segment(int(name["first"]), int(name["end"]), int(name["rank"]), path))
    return sorted(found)


def write_segment(
    run: Path, table: pa.Table, facts: SegmentFacts, *, first: int, end: int, rank: int
) -> Path:
    """Write `table` (SEGMENT_SCHEMA) as the segment of steps [first, end); it appears whole.

    When this returns it would outlast a power cut. Raises OSError where the disk refuses.
    """
    folder = run / AUDIT_FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"steps-{first:08d}-{end:08d}-rank-{rank}.parquet"
    partial = path.with_suffix(".partial")
    metadata = {"winnow.steps": str(facts.steps), "winnow.fingerprint": facts.fingerprint}
    try:
        with partial.open("wb") as file:
            pq.write_table(
                table.cast(SEGMENT_SCHEMA).replace_schema_metadata(metadata),
                file,
                # Measured numbers hardly ever repeat; a dictionary of them would cost time alone.
                use_dictionary=["step", "target_other_mass"],
                write_statistics=False,
                compression="zstd",
            )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for place in (folder, run):
            flush_folder(place)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_segment(segment: Segment) -> tuple[pa.Table, SegmentFacts]:
    """A segment's rows and what it says of its run. Raises InputError where it is damaged."""
    try:
        table = pq.read_table(segment.path)
        metadata = table.schema.metadata or {}
        facts = SegmentFacts(
            int(metadata[b"winnow.steps"]), metadata[b"winnow.fingerprint"].decode()
        )
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _damaged(segment.path, str(error)) from error
    if table.schema.names != SEGMENT_SCHEMA.names:
        raise _damaged(segment.path, f"its columns are {', '.join(table.schema.names)}")
    return table, facts


def drop_segments_beyond(run: Path, step: int) -> None:
    """Remove what was seen after `step` steps, and what killed writers left. Raises OSError."""
    for path in (run / AUDIT_FOLDER).glob("steps-*.partial"):
        path.unlink(missing_ok=True)
    for segment in segments_in(run):
        if segment.end > step:
            segment.path.unlink(missing_ok=True)


def _damaged(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path} is no segment of a run's audit ({detail}): restore it, or remove it and do "
        "without what it says of its steps"
    )
