"""What a run says of its own pairs, as a part of a page: numbers, doubts, clusters, what to do.

It reads files alone: RUN/audit.parquet, which training's gathering becomes, and what `winnow audit`
leaves beside it (`audit_files.py`); pictures come from their shards. Captions and keys are
hostile, and go through `hostile.py` like everything on a page.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from winnow.data.audit import AUDIT_FILE, AuditTable
from winnow.data.ledger import Address
from winnow.reports.audit_files import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    DOUBTS_FILE,
    DOUBTS_SCHEMA,
    RATHER_CAPTIONS,
    RATHER_PICTURES,
    AuditFacts,
    columns_of,
    read_facts,
    read_table,
)
from winnow.reports.axes import ticks_within
from winnow.reports.charts import histogram
from winnow.reports.pictures import thumbnails
from winnow.reports.shell import Allowance, Part, render, write_page
from winnow.types import InputError

DOUBTS_SHOWN = 100
CLUSTERS_SHOWN = 24
"""The biggest, of both kinds together."""
IN_CLUSTER = 8
"""Pairs of a cluster with a picture, and distinct captions that are named."""
EXAMPLE_SHARE = 0.1
"""What the command that is shown would drop."""

_NUM_BINS = 40
_UNREADABLE = (InputError, OSError, pa.ArrowException)
_LATE, _MEAN = "own_probability_late", "own_probability"


class Pair(NamedTuple):
    """A pair to look at."""

    caption: str
    key: str
    uid: str
    picture: str | None
    """A data URI; None where it cannot be read."""
    cosine: float | None = None


class Doubt(NamedTuple):
    """One of the pairs believed least."""

    pair: Pair
    numbers: dict[str, Any]
    """By column of doubts.parquet; None where not known."""
    captions: list[Pair]
    """What the model would rather say, nearest first."""
    pictures: list[Pair]


class Cluster(NamedTuple):
    """Pairs that the model cannot tell apart."""

    number: int
    kind: str
    pairs: int
    items: int
    weakest: float
    captions: list[tuple[str, int]]
    """The most frequent, each with its number of pairs; at most IN_CLUSTER."""
    num_captions: int
    shown: list[Pair]


class Numbers(NamedTuple):
    """What training said, over all pairs."""

    pairs: int
    steps: int
    column: str
    """Which probability is drawn: the late one where any pair has it."""
    known: int
    """Pairs that have it."""
    median: float
    threshold: float
    """The quantile below which EXAMPLE_SHARE of the known pairs lie."""
    never_first: float
    """Share of pairs that were never the first both ways, 0 to 1."""
    probabilities: Markup
    margins: Markup | None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All that is shown."""

    run: Path
    numbers: Numbers
    facts: AuditFacts | None = None
    """None where `winnow audit` has not been run; then there are neither doubts nor clusters."""
    doubts: list[Doubt] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Why something is missing or older than the rest."""


def write_audit_page(run: Path, out: Path) -> Path:
    """Write the page of a run that `winnow audit` has looked at; its path."""
    audit = read_audit(run)
    assert audit is not None, "the audit is made before its page"
    return write_page(
        out,
        title=f"audit of {run.absolute().name}",
        lead=f"what the model says of the {audit.numbers.pairs:,} pairs it was trained on",
        notes=audit.problems,
        parts=lambda allowance: audit_parts(audit, allowance, level=3),
    )


def audit_parts(audit: Audit, allowance: Allowance, *, level: int = 4) -> list[Part]:
    """The parts of the page; what is below their titles begins with headings of this level."""
    values = {"audit": audit, "allowance": allowance, "example": EXAMPLE_SHARE, "level": level}
    values["name"] = selected_by(audit.run)
    values["commands"] = list(commands(audit.run, audit.facts, audit.numbers.column))
    titles = {
        "audit_numbers": "What training said",
        "audit_doubts": "Pairs believed least",
        "audit_clusters": "Suspected false negatives",
        "audit_next": "What to do next",
    }
    return [
        Part(name.replace("_", "-"), title, render(f"{name}.html.j2", **values))
        for name, title in titles.items()
    ]


def read_audit(run: Path) -> Audit | None:
    """What the files of a run say; None where there is no audit.parquet."""
    if not (run / AUDIT_FILE).is_file():
        return None
    table = AuditTable.open(run / AUDIT_FILE)
    numbers = _numbers(table)
    doubts_path, clusters_path = run / DOUBTS_FILE, run / CLUSTERS_FILE
    if not doubts_path.is_file():
        return Audit(run=run, numbers=numbers)
    facts = read_facts(doubts_path)
    rows = read_table(doubts_path, DOUBTS_SCHEMA).slice(0, DOUBTS_SHOWN).to_pylist()
    grouped = _cluster_rows(clusters_path) if clusters_path.is_file() else []
    shown = [one for _, of_cluster in grouped for one in of_cluster[:IN_CLUSTER]]
    rather = [row[name] for row in rows for name in RATHER_PICTURES if row[name] is not None]
    pictures, problems = _pictures([*rows, *rather, *shown], facts)
    if facts.segments != table.segments:
        problems.insert(
            0, "The run went on after its pairs were looked at: run `winnow audit RUN` again."
        )
    return Audit(
        run=run,
        numbers=numbers,
        facts=facts,
        doubts=[_doubt(row, pictures) for row in rows],
        clusters=[_cluster(number, found, pictures) for number, found in grouped],
        problems=problems,
    )


def commands(run: Path, facts: AuditFacts | None, column: str) -> Iterator[str]:
    """What drops the least-believed share of every selection, ready to be copied."""
    rule = f"audit:file={run.absolute() / AUDIT_FILE},column={column},drop={EXAMPLE_SHARE}"
    for place in facts.selections if facts else ():
        selection = Path(place)
        before = selection / "summary.json"
        if selection.parent.name == "selections":
            out, rules = selection.parent.parent, str(before) if before.is_file() else "clean"
        else:
            out, rules = Path("CURATED"), "clean"
        words = ["winnow", "curate", "--out", str(out), "--rules", rules, rule]
        yield shlex.join([*words, "--name", selected_by(run)])


def selected_by(run: Path) -> str:
    """The selection's name: of each run another, or it would take the place of what one learned."""
    return "audited-by-" + re.sub(r"[^\w.-]+", "-", run.absolute().name)


def _numbers(table: AuditTable) -> Numbers:
    column = _LATE if np.isfinite(table.column(_LATE)).any() else _MEAN
    values = table.column(column)
    known = values[np.isfinite(values)]
    threshold = float(np.quantile(known, EXAMPLE_SHARE)) if len(known) else 0.0
    margin_N = table.column("margin")
    margins = margin_N[np.isfinite(margin_N)]
    words = "probability of the own pair, " + ("late" if column == _LATE else "mean")
    return Numbers(
        pairs=len(table),
        steps=table.steps,
        column=column,
        known=len(known),
        median=float(np.median(known)) if len(known) else 0.0,
        threshold=threshold,
        never_first=float((table.column("not_first") >= 1).mean()) if len(table) else 0.0,
        probabilities=_histogram(known, (0.0, _most(known)), words, low=threshold),
        margins=_histogram(margins, _ends(margins), "margin", low=0.0) if len(margins) else None,
    )


def _histogram(
    values: np.ndarray, ends: tuple[float, float], words: str, *, low: float | None
) -> Markup:
    counts, edges = np.histogram(values.clip(*ends), bins=_NUM_BINS, range=ends)
    return histogram(
        # A chart of nothing still has an axis.
        counts.tolist() if len(values) else [1] * _NUM_BINS,
        edges.tolist(),
        low=low,
        high=None,
        x_ticks=ticks_within(*ends),
        x_label=words,
    )


def _most(probabilities: np.ndarray) -> float:
    """Where the axis of probabilities ends: early in training none is near 1."""
    return min(1.0, 1.05 * float(probabilities.max())) if probabilities.any() else 1.0


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _cluster_rows(path: Path) -> list[tuple[int, list[dict[str, Any]]]]:
    """The rows of the clusters that are shown, cluster by cluster."""
    filters = [("cluster", "<", CLUSTERS_SHOWN)]
    grouped: dict[int, list[dict[str, Any]]] = {}
    for row in read_table(path, CLUSTERS_SCHEMA, filters=filters).to_pylist():
        grouped.setdefault(row["cluster"], []).append(row)
    return list(grouped.items())


def _pictures(
    rows: Sequence[dict[str, Any]], facts: AuditFacts
) -> tuple[dict[tuple[str, Address], str | None], list[str]]:
    """Thumbnails by shard and address, and why those of some shards are missing."""
    wanted: dict[str, set[Address]] = {}
    for row in rows:
        wanted.setdefault(row["shard"], set()).add(_address(row))
    found: dict[tuple[str, Address], str | None] = {}
    problems = []
    for shard, addresses in sorted(wanted.items()):
        try:
            for address, picture in thumbnails(
                shard, addresses, **columns_of(facts, shard)
            ).items():
                found[shard, address] = picture
        except _UNREADABLE as error:
            problems.append(f"Pictures are missing here: {error}")
    return found, problems


def _address(row: dict[str, Any]) -> Address:
    return Address(row["key"], row["offset"], row["size"])


def _pair(row: dict[str, Any], pictures: dict[tuple[str, Address], str | None]) -> Pair:
    picture = pictures.get((row["shard"], _address(row)))
    return Pair(row["caption"], row["key"], row["uid"], picture, row.get("cosine"))


def _doubt(row: dict[str, Any], pictures: dict[tuple[str, Address], str | None]) -> Doubt:
    def others(names: Sequence[str]) -> list[Pair]:
        return [_pair(row[name], pictures) for name in names if row[name] is not None]

    return Doubt(_pair(row, pictures), row, others(RATHER_CAPTIONS), others(RATHER_PICTURES))


def _cluster(
    number: int,
    rows: list[dict[str, Any]],
    pictures: dict[tuple[str, Address], str | None],
) -> Cluster:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["caption"]] = counts.get(row["caption"], 0) + 1
    named = sorted(counts.items(), key=lambda one: -one[1])
    first = rows[0]
    return Cluster(
        number=number,
        kind=first["kind"],
        pairs=first["pairs"],
        items=first["items"],
        weakest=first["weakest"],
        captions=named[:IN_CLUSTER],
        num_captions=len(named),
        shown=[_pair(row, pictures) for row in rows[:IN_CLUSTER]],
    )
