"""From what a user points at to a selection that training can read."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.markup import escape
from rich.table import Table

from winnow.curation.annotate import annotate
from winnow.curation.annotators.annotator import Annotator
from winnow.curation.annotators.clip_score import ClipScore
from winnow.curation.annotators.language import DetectLanguage
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.annotators.scores import UserScores
from winnow.curation.annotators.spotting import SpotText
from winnow.curation.decontamination import is_index_of, open_evaluation_sets, write_index
from winnow.curation.engines import local, ray
from winnow.curation.engines.slices import WHOLE, Slice, parse_slice
from winnow.curation.ledger_files import annotations_folder, ledger_folder, read_shards
from winnow.curation.rule_specs import name_of, read_rules
from winnow.curation.rules.contaminated import Contaminated
from winnow.curation.rules.rule import Rule
from winnow.curation.select import select, selection_folder
from winnow.curation.selections import none
from winnow.curation.stages import Stage, plan_stages
from winnow.curation.summary import Summary
from winnow.curation.truth import TruthComparison
from winnow.data.columns import DETECT, Columns
from winnow.data.files import is_remote
from winnow.data.folder import Folder
from winnow.data.selection import FACTS_FILE, KEPT_FILE, Selection
from winnow.data.sources import Source, open_source
from winnow.data.user_cache import user_cache
from winnow.types import InputError

ENGINES = {"local": local.run, "ray": ray.run}
"""What carries out the work on shards, by the name that the command line knows."""

INDEX_STEM = "evaluation-pictures"
"""The pictures of evaluation sets that a selection is kept apart from, among the annotations."""

MAX_ERRORS = 0.01
"""Share of samples that may be errors; with more, something else is wrong than single files."""


@dataclass(frozen=True, kw_only=True)
class Annotators:
    """How captions and pictures are looked at, where a rule asks for it."""

    parse: ParseCaptions = field(default_factory=ParseCaptions)
    spotting: SpotText = field(default_factory=SpotText)
    clip_model: str | None = None
    """For rules on `clip_score`: a run, or an open_clip model as `winnow evaluate` takes it."""
    scores: tuple[str, ...] = ()
    """Files with numbers by uid (parquet, csv, npz), for rules on scores; FILE:COLUMN,COLUMN takes
    just those."""


@dataclass(frozen=True, kw_only=True)
class Curate(Annotators):
    """Annotate shards and select the pairs worth keeping, with a reason for every drop."""

    shards: tyro.conf.Positional[tuple[str, ...]] = ()
    """Tars, parquet files, tables (csv, tsv, jsonl) or their folders; {000..009} and * work.
    Without any, pairs are selected again from what OUT has."""
    out: str
    """Where the ledger and the selection go, a folder or a URL; run again, only what is new or
    changed is looked at."""
    rules: tuple[str, ...] = ("clean",)
    """Selections (`none`, `clean`, `basic`, `cat`), rules (`complexity:least=2`) or json files, in
    order: `clean cat`."""
    set: tuple[str, ...] = ()
    """Thresholds of those rules: `complexity.least=2`."""
    against: tuple[str, ...] = ()
    """Evaluation sets, in clip-benchmark's layout or as shards: pairs with a picture of theirs, or
    nearly, are dropped first (the rule `contaminated`)."""
    name: str | None = None
    """What the selection is called; default: what the rules are called, and `-against`."""
    audit_all: bool = False
    """Look at every pair with every annotator that a rule needs, also at pairs dropped already."""
    max_errors: float = MAX_ERRORS
    """Share of samples, 0 to 1, that may be unreadable before the run stops."""
    slice: str | None = None
    """i/n: look only at every n-th shard from the i-th on, for one job of an array, and select
    nothing; when all n are done, run once without."""
    engine: Literal["local", "ray"] = "local"
    """`ray` gives every shard to a task of the cluster at RAY_ADDRESS."""
    workers: int | None = None
    """Processes, or tasks under way; default one per core of this machine."""
    columns: Columns = DETECT
    """What to read where detection would choose another column."""


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A selection and its account."""

    folder: Folder
    summary: Summary

    @property
    def directory(self) -> Path:
        """The selection's folder on this machine. Raises InputError where it is in a store."""
        return self.folder.path


def curate(
    shards: str | Sequence[str],
    out: Path | str | Folder,
    *,
    rules: Sequence[Rule],
    name: str,
    annotators: Annotators | None = None,
    columns: Columns = DETECT,
    workers: int | None = None,
    max_errors: float = MAX_ERRORS,
) -> Curated:
    """Annotate `shards` into `out` and select by `rules` under `name`.

    What is annotated already is not annotated again. `workers` None takes one process per core.
    """
    out = Folder.at(out)
    source = open_source(shards, columns=columns)
    stages = stages_for(rules, annotators or Annotators())
    annotate(source, out, workers=_or_all_cores(workers), stages=stages, max_errors=max_errors)
    return Curated(folder=selection_folder(out, name), summary=select(out, rules, name=name))


def run_curate(options: Curate, *, say: Callable[[str], None]) -> Curated | None:
    """What `winnow curate` does; None for a slice, which selects nothing."""
    rules = read_rules(options.rules, settings=options.set)
    out, name = Folder.at(options.out), _name(options)
    selected_into = selection_folder(out, name)
    source, part = _source(options, out), _part(options)
    sets = open_evaluation_sets(options.against)
    index = index_path(sets, out)
    if sets:
        rules = (Contaminated(against=index), *rules)
    # Nothing is written before all that was asked for is known to be there.
    stages = stages_for(rules, options, audit_all=options.audit_all) if source else ()
    if sets and not is_index_of(index, sets):
        write_index(sets, index)
    if source is not None:
        result = annotate(
            source,
            out,
            workers=_or_all_cores(options.workers),
            stages=stages,
            engine=ENGINES[options.engine],
            part=part,
            max_errors=options.max_errors,
            say=say,
        )
        if options.slice is not None:
            say(
                f"slice {options.slice}: {result.shards:,} shards with {result.samples:,} samples "
                "are done; when all slices are, run the same command without --slice"
            )
            return None
    return Curated(folder=selected_into, summary=select(out, rules, name=name))


def _name(options: Curate) -> str:
    name = name_of(options.rules)
    return options.name or (f"{name}-against" if options.against else name)


def _source(options: Curate, out: Folder) -> Source | None:
    """The shards to annotate; None where pairs are selected again from what there is."""
    if options.shards:
        return open_source(options.shards, columns=options.columns)
    if options.slice is not None:
        raise InputError(
            f"--slice {options.slice} is a share of shards, and none are named: name all of them, "
            "as in every slice"
        )
    if not read_shards(ledger_folder(out)):
        raise InputError(f"{out.url} holds no ledger to select from: name the shards to curate")
    return None


def _part(options: Curate) -> Slice:
    return WHOLE if options.slice is None else parse_slice(options.slice)


def index_path(sets: Mapping[str, Source], out: Folder) -> Path:
    """Where the index of these evaluation sets belongs, the same for every slice.

    It is read like a file: that of an `out` in a store is in the user's cache, which every machine
    that takes part has to see.
    """
    named = "\0".join(f"{name}\0{shard}" for name in sets for shard in sets[name].shards)
    digest = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    folder = user_cache() if out.is_remote else annotations_folder(out).path
    return folder / f"{INDEX_STEM}-{digest}.parquet"


def stages_for(
    rules: Sequence[Rule], annotators: Annotators, *, audit_all: bool = False
) -> tuple[Stage, ...]:
    """The annotators that `rules` need; with `audit_all` they see every readable row."""
    asked: list[Annotator] = [_user_scores(spec) for spec in annotators.scores]
    known: list[Annotator] = [annotators.parse, annotators.spotting, DetectLanguage()]
    if annotators.clip_model is not None:
        known.append(ClipScore(model=annotators.clip_model))
    if audit_all:
        needed = {stage.annotator.name for stage in plan_stages(rules, known, asked=asked)}
        asked += [one for one in known if one.name in needed]
    return plan_stages(rules, known, asked=asked)


def _user_scores(spec: str) -> UserScores:
    path, colon, columns = spec.partition(":")
    if not colon or Path(spec).exists():
        return UserScores(path=Path(spec))
    return UserScores(path=Path(path), columns=tuple(columns.split(",")))


def _or_all_cores(workers: int | None) -> int:
    return os.cpu_count() or 1 if workers is None else workers


def open_selection(data: str, *, index: Path) -> Selection:
    """The selection that `data` means.

    That is a selection's own folder, a curated folder that holds exactly one, or raw shards: these
    are indexed under `index` with no rule, so that every readable pair is trained on. A selection
    in a store is copied to `index`.
    """
    folder = selection_at(data)
    if folder is None:
        return Selection.open(curate(data, index, rules=none(), name="none").directory)
    return Selection.open(_copied(folder, index) if folder.is_remote else folder.path)


def selection_at(data: str) -> Folder | None:
    """The selection in the folder `data`, or the only one of the curated folder; None without one.

    Raises InputError where a curated folder has several, or none.
    """
    folder = Folder.at(data) if is_remote(data) or Path(data).is_dir() else None
    if folder is not None and not folder.exists(FACTS_FILE) and folder.exists("ledger"):
        folder = _only_selection(folder)
    return folder if folder is not None and folder.exists(FACTS_FILE) else None


def _copied(selection: Folder, index: Path) -> Path:
    index.mkdir(parents=True, exist_ok=True)
    # What says that it is complete comes last.
    for name in (KEPT_FILE, FACTS_FILE):
        with (
            selection.open(name) as remote,
            Folder.at(index).writing(name) as path,
            path.open("wb") as copy,
        ):
            shutil.copyfileobj(remote, copy, 1 << 20)
    return index


def _only_selection(curated: Folder) -> Folder:
    root = curated / "selections"
    found = [root / name for name in root.folders() if (root / name).exists(FACTS_FILE)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{curated} holds a ledger but no selection; run `winnow curate SHARDS --out {curated}`"
        )
    raise InputError(
        f"{curated} holds several selections; name one: {', '.join(one.url for one in found)}"
    )


def funnel(summary: Summary) -> Table:
    """The account of a selection for the terminal: seen = kept + dropped by reason + errors."""
    table = Table(title=f"selection {escape(summary.selection)}", title_justify="left")
    table.add_column("first reason")
    table.add_column("pairs", justify="right")
    table.add_column("share", justify="right")
    rows = {"seen": summary.seen}
    rows |= {f"- {code}": count for code, count in summary.dropped.items() if count}
    rows |= {f"- error: {code}": count for code, count in summary.errors_by_code.items()}
    rows |= {"= kept": summary.kept}
    for name, count in rows.items():
        table.add_row(escape(name), f"{count:,}", f"{count / max(1, summary.seen):.1%}")
    return table


def planted_table(comparison: TruthComparison) -> Table:
    """How much of each kind of planted noise a selection dropped, and how precisely."""
    table = Table(title="planted noise", title_justify="left")
    table.add_column("kind")
    for name in ("planted", "dropped", "recall"):
        table.add_column(name, justify="right")
    rows = comparison.recall | {"all": comparison.recall_overall}
    for kind, share in rows.items():
        table.add_row(escape(kind), f"{share.of:,}", f"{share.count:,}", f"{share.value:.1%}")
    precision = comparison.precision_overall
    table.caption = (
        f"of {precision.of:,} dropped pairs {precision.count:,} were noise: "
        f"precision {precision.value:.1%}"
    )
    return table
