"""The unit of work: one shard, read and annotated by one worker, whatever engine runs it.

The ledger's rows come first, then every stage's annotations; each is committed by itself, rows
before the record that declares them done. What is done already, and unchanged, is not done again,
so a unit may be given to a worker any number of times.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from winnow.curation import annotating, numbered, reading
from winnow.curation.annotations import AnnotationStats
from winnow.curation.ledger_files import ShardStats, ledger_folder
from winnow.curation.local_shard import LocalShard, UnreadableShardError
from winnow.curation.stages import Stage
from winnow.data.folder import Folder
from winnow.data.sources import Source


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One shard to read and annotate: all that a worker is told."""

    source: Source
    """Of this shard alone."""
    out: Folder
    number: int
    identity: ShardStats
    """What its stats have to say; `rows`, `errors` and `seconds` come with the reading."""
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is known of a shard that a worker is through with."""

    shard: str
    samples: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be read or annotated, by error code."""
    computed: Counter[str] = field(default_factory=Counter)
    """Annotated rows by annotator."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What this run spent, by annotator; the reading is "read"."""
    problem: str | None = None
    """Why the shard could not be read."""


def work(unit: Unit) -> Outcome:
    """Read and annotate one shard, as far as that is not done."""
    with ExitStack() as stack:
        local = LocalShard(unit.identity.shard, stack)
        try:
            return _work(unit, local)
        except UnreadableShardError as error:
            return Outcome(shard=unit.identity.shard, problem=str(error))


def finished(unit: Unit) -> Outcome | None:
    """The outcome of a unit that needs no work; None where it needs some."""
    stats = _read_before(unit)
    if stats is None:
        return None
    annotations: dict[str, AnnotationStats] = {}
    for stage in unit.stages:
        known = annotating.done_before(unit.out, unit.number, stage, stats)
        if known is None or not annotating.covers(known, stage):
            return None
        annotations[stage.annotator.name] = known
    return _outcome(unit, stats, annotations)


def _work(unit: Unit, local: LocalShard) -> Outcome:
    seconds: dict[str, float] = {}
    stats = _read_before(unit)
    if stats is None:
        stats = reading.read(unit.out, unit.number, unit.source, unit.identity, local)
        seconds["read"] = stats.seconds
    annotations: dict[str, AnnotationStats] = {}
    for stage in unit.stages:
        known = annotating.done_before(unit.out, unit.number, stage, stats)
        if known is None or not annotating.covers(known, stage):
            shard = annotating.Shard(unit.out, unit.number, stats, local, unit.stages)
            known = annotating.annotate(shard, stage, known)
            seconds[stage.annotator.name] = known.seconds
        annotations[stage.annotator.name] = known
    return replace(_outcome(unit, stats, annotations), seconds=seconds)


def _read_before(unit: Unit) -> ShardStats | None:
    """The stats of the shard if it is read, and unchanged since."""
    stats = numbered.read_record(ledger_folder(unit.out), unit.number, ShardStats)
    if stats is None or unit.identity != replace(stats, rows=0, content="", errors={}, seconds=0.0):
        return None
    return stats


def _outcome(unit: Unit, stats: ShardStats, annotations: dict[str, AnnotationStats]) -> Outcome:
    errors = Counter(stats.errors)
    for one in annotations.values():
        errors.update(one.errors)
    return Outcome(
        shard=unit.identity.shard,
        samples=stats.rows,
        errors=errors,
        computed=Counter({name: one.computed for name, one in annotations.items()}),
    )
