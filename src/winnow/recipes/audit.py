"""What `winnow audit` takes and does: the pairs that a trained model does not believe."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import tyro

from winnow.config import read_json
from winnow.data.audit import AUDIT_FILE, AuditTable, aggregate, is_current
from winnow.data.audit_segments import AUDIT_FOLDER, segments_in
from winnow.data.columns import DETECT
from winnow.data.selection import Selection
from winnow.evaluation.embed import Embedder
from winnow.evaluation.pair_features import embed_pairs
from winnow.models.devices import usable_device
from winnow.models.encoder import load_encoder
from winnow.recipes.audit_tables import AuditedPairs, clusters_table, doubts_table
from winnow.reports.audit import commands, read_audit, write_audit_page
from winnow.reports.audit_files import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    DOUBTS_FILE,
    RATHER_CAPTIONS,
    AuditFacts,
    ClusterFacts,
    write_table,
)
from winnow.reports.hostile import visible
from winnow.training.judging import BEST_FOLDER
from winnow.types import InputError

if TYPE_CHECKING:
    from rich.table import Table

MOST_COMPARED = 1_000_000
"""Pairs of which every two are compared; with more, that would take days without a cluster."""

_SAID = 10


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The pairs that a run's model does not believe, what it would rather say, and look-alikes."""

    run: tyro.conf.Positional[Path]
    """The folder of a run that gathered what it saw (--runtime.audit, on unless turned off)."""
    selection: tuple[Path, ...] = ()
    """The selection that it was trained on, where that was moved; several for a mixture."""
    pairs: int = 100
    """How many pairs are asked about, the least believed first."""
    model: Literal["last", "best"] = "last"
    """Which of the run's models is asked: that of the last step, or the best one of --tasks."""
    clusters: bool = True
    """Look for captions and pictures that the model cannot tell apart: every two are compared."""
    out: Path | None = None
    """The page. Default: audit.html in the folder of the run."""
    batch_size: int = 256
    """Pictures or texts embedded at once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the model computes in."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""

    def __post_init__(self) -> None:
        for name in ("pairs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


def run_audit(options: Audit, *, say: Callable[..., None]) -> Path:
    """Write what the run says of its pairs, and say the worst of it; the page's path.

    Raises InputError for a run without an audit, and where its selection or a shard is gone or has
    changed.
    """
    run = options.run
    _refuse_no_run(run)
    if not segments_in(run):
        aggregate(run)  # says what is missing, whether or not the selection is still there
    selections = _selections(run, options.selection)
    table = AuditTable.open(_aggregated(run, selections))
    rows_of_pairs = _known_rows(table, selections)
    name = _model_of(options)
    device = str(usable_device(options.device))
    embedder = Embedder(
        encoder=load_encoder(name, device=device, precision=options.precision),
        cache=run / AUDIT_FOLDER / "embeddings",
        batch_size=options.batch_size,
    )
    features = embed_pairs(embedder, selections)
    pairs = AuditedPairs(selections, features, table, rows_of_pairs)
    recipe = read_json(run / "recipe.json")
    doubts = doubts_table(pairs, count=options.pairs, device=device)
    scale = embedder.encoder.logit_scale
    clusters, found = _clusters(options, pairs, scale, recipe["batch_size"], say)
    facts = _facts(name, embedder, pairs, found, recipe)
    write_table(run / CLUSTERS_FILE, clusters, facts)
    write_table(run / DOUBTS_FILE, doubts, facts)
    page = write_audit_page(run, options.out or run / "audit.html")
    _say(run, doubts, facts, table, say)
    return page


def _refuse_no_run(run: Path) -> None:
    if not (run / "recipe.json").is_file():
        raise InputError(
            f"{run} is no run (no recipe.json): give a folder that `winnow train` wrote"
        )


def _selections(run: Path, told: Sequence[Path]) -> tuple[Selection, ...]:
    """What was told, or what the run was trained on, which must still be that."""
    if told:
        return tuple(Selection.open(place) for place in told)
    data = read_json(run / "data.json")
    selections = []
    for part in data.get("sources") or [data]:
        place = Path(part["selection"])
        if not place.is_dir():
            raise InputError(
                f"the selection that {run} was trained on is no longer in {place}: say with "
                "--selection DIR where it is"
            )
        selection = Selection.open(place)
        if selection.fingerprint != part["fingerprint"]:
            raise InputError(
                f"the selection in {place} is not the one any more that {run} was trained on "
                f"({part['fingerprint'][:12]}, now {selection.fingerprint[:12]}): say with "
                "--selection DIR where that one is, or make it again by the rules of then"
            )
        selections.append(selection)
    return tuple(selections)


def _aggregated(run: Path, selections: Sequence[Selection]) -> Path:
    if is_current(run):
        return run / AUDIT_FILE
    # A mixture is known by its sources' weights too, which data.json has.
    return aggregate(run, selection=selections[0] if len(selections) == 1 else None)


def _known_rows(table: AuditTable, selections: Sequence[Selection]) -> np.ndarray:
    # Chunk by chunk: joined, 67 million uids are more than Arrow has offsets for.
    uids = [chunk for one in selections for chunk in one.table["uid"].chunks]
    row_N = np.concatenate([table.rows_of(chunk) for chunk in uids])
    if not (row_N >= 0).any():
        places = ", ".join(str(one.directory) for one in selections)
        raise InputError(
            f"none of the {len(row_N):,} pairs of {places} was seen by the run of {table.path}: "
            "give the selection that it was trained on"
        )
    return row_N


def _model_of(options: Audit) -> str:
    if options.model == "last":
        return str(options.run)
    best = options.run / BEST_FOLDER
    if not (best / "open_clip_config.json").is_file():
        raise InputError(
            f"{options.run} kept no best model (there is no {BEST_FOLDER}/): it is kept where "
            "`winnow train` was given --tasks; leave out --model to ask the last one"
        )
    return str(best)


def _clusters(
    options: Audit,
    pairs: AuditedPairs,
    logit_scale: float,
    batch_size: int,
    say: Callable[..., None],
) -> tuple[pa.Table, dict[str, ClusterFacts]]:
    """The groups, or an empty table where they are not wanted or too many to compare."""
    num_pairs = len(pairs.features.text_N)
    if options.clusters and num_pairs > MOST_COMPARED:
        say(
            f"groups are left out: of {num_pairs:,} pairs every two would be compared, and "
            f"{MOST_COMPARED:,} are the most; give a part of them with --selection",
            markup=False,
        )
    if not options.clusters or num_pairs > MOST_COMPARED:
        return CLUSTERS_SCHEMA.empty_table(), {}
    device = str(usable_device(options.device))
    return clusters_table(pairs, logit_scale=logit_scale, batch_size=batch_size, device=device)


def _facts(
    name: str,
    embedder: Embedder,
    pairs: AuditedPairs,
    clusters: dict[str, ClusterFacts],
    recipe: Mapping[str, Any],
) -> AuditFacts:
    return AuditFacts(
        model=name,
        model_fingerprint=embedder.encoder.fingerprint,
        precision=embedder.encoder.precision,
        selections=tuple(str(one.directory.absolute()) for one in pairs.selections),
        pairs=len(pairs.features.text_N),
        captions=len(pairs.features.captions),
        segments=pairs.table.segments,
        logit_scale=embedder.encoder.logit_scale,
        batch_size=recipe["batch_size"],
        objective=recipe["objective"]["kind"],
        same_caption=recipe["mask"]["same_caption"],
        version=importlib.metadata.version("winnow-clip"),
        clusters=clusters,
        columns={
            shard: one.columns
            for one in pairs.selections
            if one.columns != DETECT
            for shard in one.shards
        },
    )


def _say(
    run: Path, doubts: pa.Table, facts: AuditFacts, table: AuditTable, say: Callable[..., None]
) -> None:
    say(_worst(doubts))
    line = f"{len(table):,} pairs in {table.steps:,} steps"
    for kind, found in facts.clusters.items():
        line += f"; {found.pairs:,} in {found.clusters:,} groups of {kind}s that are not told apart"
    say(line, markup=False)
    audit = read_audit(run)
    assert audit is not None, "it was just written"
    for command in commands(run, facts, audit.numbers.column):
        say(f"drop the worst: {command}", markup=False)


def _worst(doubts: pa.Table) -> "Table":
    """The worst few for the terminal."""
    from rich.text import Text

    from winnow.reports.table import plain_table

    shown = plain_table("pairs believed least")
    for name in ("probability", "margin"):
        shown.add_column(name, justify="right")
    for name in ("its caption", "rather says", "key"):
        shown.add_column(name, overflow="fold")
    for row in doubts.slice(0, _SAID).to_pylist():
        late = row["own_probability_late"]
        late = row["own_probability"] if late is None else late
        nearest = row[RATHER_CAPTIONS[0]]
        shown.add_row(
            "–" if late is None else f"{100 * late:.2f} %",
            "–" if row["margin"] is None else f"{row['margin']:+.3f}",
            Text(_short(row["caption"])),
            Text("–" if nearest is None else _short(nearest["caption"])),
            Text(_short(row["key"])),
        )
    return shown


def _short(words: str) -> str:
    return visible(" ".join(words[:200].split()), longest=60)
