"""Annotate: read every shard once and write what is known of each sample beside it.

One shard is one unit of work (see `shard_work`). A row per sample, in the order of the shard,
whether it can be read or not; what is wrong with it is its `error`, "code: detail".

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
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from winnow.curation import numbered
from winnow.curation.annotations import AnnotationStats, folder_of
from winnow.curation.arrange import arrange
from winnow.curation.engines import local
from winnow.curation.engines.slices import WHOLE, Slice
from winnow.curation.error_budget import ErrorBudget
from winnow.curation.ledger_files import ShardStats, annotations_folder, ledger_folder
from winnow.curation.shard_work import Outcome, Unit, finished, work
from winnow.curation.stages import Stage
from winnow.data.columns import Columns
from winnow.data.files import is_remote, state_of
from winnow.data.folder import Folder
from winnow.data.ledger import LEDGER_SCHEMA
from winnow.data.perceptual import HASH_VERSION
from winnow.data.sources import TABLES, Source
from winnow.progress import track
from winnow.types import InputError

ANNOTATION_VERSION = 2
"""To be raised with any change that gives the same shard other rows: ledgers are then redone."""

WRITTEN = ("ledger", "annotations", "selections", "features", "concepts")
"""The folders that are made in a curated folder."""


class Engine(Protocol):
    """Carries out units of work: `engines.local.run` or `engines.ray.run`."""

    def __call__(  # noqa: D102
        self, work: Callable[[Unit], Outcome], units: Iterable[Unit], *, workers: int
    ) -> Generator[Outcome, None, None]: ...


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """What is known now, and how much of it this run found out."""

    shards: int
    """All of them, or of the slice."""
    shards_read: int
    """Shards that this run read or annotated; the others were done before."""
    samples: int
    errors: dict[str, int]
    """Samples that cannot be read or annotated, by code."""
    computed: dict[str, int]
    """Annotated samples by annotator."""
    seconds: float
    """Of this run."""
    seconds_by_stage: dict[str, float] = field(default_factory=dict)
    """Seconds of this run's workers together, by annotator; the reading is "read"."""


def annotate(
    source: Source,
    out: Folder | Path,
    *,
    workers: int,
    stages: Sequence[Stage] = (),
    engine: Engine = local.run,
    part: Slice = WHOLE,
    max_errors: float = 1.0,
    say: Callable[[str], None] = lambda _: None,
) -> AnnotateResult:
    """Make `out` the home of the ledger of `source`; what is done and unchanged is not done again.

    Shards may be added between runs. The bytes written do not depend on `workers`, `engine` or
    `part`. With several workers, a script that calls this needs the usual `if __name__ ==
    "__main__"`. `say` is told what is done again, and why.

    Raises InputError where shards cannot be read, where the ledger in `out` has shards that
    `source` has not, and where more than `max_errors` (0 to 1) of the samples are errors.
    """
    start = time.monotonic()
    out = Folder.at(out)
    units = _plan(source, out, tuple(stages), part)
    # Remote records answer one by one in tens of milliseconds; there may be a hundred thousand.
    with ThreadPoolExecutor(16) as pool:
        outcomes = [one for one in pool.map(finished, units) if one is not None]
    done = {one.shard for one in outcomes}
    pending = [unit for unit in units if unit.identity.shard not in done]
    _say_what_is_done_again(pending, say)
    budget = ErrorBudget(max_errors, outcomes)
    run = engine(work, pending, workers=workers)
    bar = track("annotating", total=len(pending), unit="shards")
    samples = 0
    with closing(run) as finishing, bar as advance:
        for outcome in finishing:
            samples += outcome.samples
            advance(1, f"{samples / (time.monotonic() - start):,.0f} samples/s")
            outcomes.append(outcome)
            budget.charge(outcome)
    _complain_of_unreadable(outcomes)
    budget.close()
    return _result(outcomes, shards_read=len(pending), seconds=time.monotonic() - start)


def _plan(source: Source, out: Folder, stages: tuple[Stage, ...], part: Slice) -> list[Unit]:
    repeated = [shard for shard, count in Counter(source.shards).items() if count > 1]
    if repeated:
        raise InputError(f"{repeated[0]} is given more than once: give every shard once")
    own = [(n, shard) for n, shard in enumerate(source.shards) if n in part]
    with ThreadPoolExecutor(16) as pool:
        stamps = list(pool.map(state_of, [shard for _, shard in own]))
    folders = {Path(s).parent for _, s in own if s.endswith(TABLES) and not is_remote(s)}
    beside = {folder: _stamp_folder(folder, out=out) for folder in folders}
    # The records of slices that run side by side must not be moved under each other's feet.
    arrange(out, source.shards, may_move=part == WHOLE)
    annotations = annotations_folder(out)
    for folder in (ledger_folder(out), *(annotations / name for name in annotations.folders())):
        folder.sweep()
    annotation = _fingerprint(source.columns)
    return [
        Unit(
            source=replace(source, shards=(shard,)),
            out=out,
            number=number,
            identity=ShardStats(
                shard=shard,
                bytes=size,
                modified=modified + beside.get(Path(shard).parent, ""),
                annotation=annotation,
                columns=source.columns,
                rows=0,
                content="",
            ),
            stages=stages,
        )
        for (number, shard), (size, modified) in zip(own, stamps, strict=True)
    ]


def _stamp_folder(folder: Path, *, out: Folder) -> str:
    """Hash over names, sizes and times of the files below `folder`: a table's pictures are there.

    What curation itself writes into `out` does not count.
    """
    digest, root = hashlib.sha256(), folder.resolve()
    own = set() if out.is_remote else {out.path.resolve() / name for name in WRITTEN}
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
    identity = [ANNOTATION_VERSION, HASH_VERSION, LEDGER_SCHEMA.to_string(), asdict(columns)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _say_what_is_done_again(pending: Sequence[Unit], say: Callable[[str], None]) -> None:
    """What had been done by another version, with other settings, or of other bytes."""
    changes: Counter[str] = Counter()
    for unit in pending:
        stats = numbered.read_record(ledger_folder(unit.out), unit.number, ShardStats)
        if stats is not None and stats.annotation != unit.identity.annotation:
            changes["read again: by another version of winnow, or with other --columns"] += 1
        elif stats is not None and (stats.bytes, stats.modified) != (
            unit.identity.bytes,
            unit.identity.modified,
        ):
            changes["read again: changed since"] += 1
        for stage in unit.stages:
            known = numbered.read_record(
                folder_of(unit.out, stage.annotator.name), unit.number, AnnotationStats
            )
            if known is not None and known.annotator != stage.identity:
                changes[
                    f"annotated again by {stage.annotator.name}: it was {known.annotator}, "
                    f"now it is {stage.identity}"
                ] += 1
    for change, count in changes.items():
        say(f"{count:,} shard(s) are {change}")


def _complain_of_unreadable(outcomes: Sequence[Outcome]) -> None:
    unreadable = sorted(outcome.problem for outcome in outcomes if outcome.problem is not None)
    if unreadable:
        raise InputError(
            f"{len(unreadable)} of {len(outcomes)} shards cannot be read: {unreadable[0]}. "
            "The others are annotated: mend these or leave them out, and run again"
        )


def _result(outcomes: Sequence[Outcome], *, shards_read: int, seconds: float) -> AnnotateResult:
    errors: Counter[str] = Counter()
    computed: Counter[str] = Counter()
    by_stage: Counter[str] = Counter()
    for outcome in outcomes:
        errors.update(outcome.errors)
        computed.update(outcome.computed)
        for name, spent in outcome.seconds.items():
            by_stage[name] += spent  # type: ignore[assignment]
    return AnnotateResult(
        shards=len(outcomes),
        shards_read=shards_read,
        samples=sum(outcome.samples for outcome in outcomes),
        errors=dict(sorted(errors.items())),
        computed=dict(sorted(computed.items())),
        seconds=seconds,
        seconds_by_stage=dict(by_stage),
    )
