"""From what a user points at to a selection that training can read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.table import Table

from winnow.curation.annotate import annotate
from winnow.curation.select import select, selection_directory
from winnow.curation.selections import basic, none
from winnow.curation.summary import Summary
from winnow.curation.truth import TruthComparison
from winnow.data.columns import DETECT, Columns
from winnow.data.selection import FACTS_FILE, Selection
from winnow.data.sources import open_source
from winnow.types import InputError

SELECTIONS = {"none": none, "basic": basic}
"""The built-in selections by the name that the command line knows."""


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Annotate shards and select the pairs worth keeping, with a reason for every drop."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Tars, parquet files, tables (csv, tsv, jsonl) or their folders; {000..009} and * work."""
    out: Path
    """Where the ledger and the selection go; run again, only new or changed shards are read."""
    rules: Literal["basic", "none"] = "basic"
    """Which selection: `basic` drops junk captions, boilerplate, copies; `none` only errors."""
    columns: Columns = DETECT
    """What to read where detection would choose another column."""
    workers: int | None = None
    """Processes; default one per core."""


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A selection and its account."""

    directory: Path
    summary: Summary


def curate(
    shards: str | list[str],
    out: Path,
    *,
    rules: str = "basic",
    columns: Columns = DETECT,
    workers: int | None = None,
) -> Curated:
    """Annotate `shards` into `out` and select by the built-in selection called `rules`.

    What is annotated already is not annotated again. `workers` None takes one process per core.
    """
    if rules not in SELECTIONS:
        raise InputError(f"there is no selection {rules!r}; there are {', '.join(SELECTIONS)}")
    source = open_source(shards, columns=columns)
    annotate(source, out, workers=os.cpu_count() or 1 if workers is None else workers)
    summary = select(out, SELECTIONS[rules](), name=rules)
    return Curated(directory=selection_directory(out, rules), summary=summary)


def open_selection(data: str, *, index: Path) -> Selection:
    """The selection that `data` means.

    That is a selection's own folder, a curated folder that holds exactly one, or raw shards: these
    are indexed under `index` with no rule, so that every readable pair is trained on.
    """
    path = Path(data)
    if (path / FACTS_FILE).is_file():
        return Selection.open(path)
    if (path / "ledger").is_dir():
        return Selection.open(_only_selection(path))
    return Selection.open(curate(data, index, rules="none").directory)


def _only_selection(curated: Path) -> Path:
    found = sorted(path.parent for path in curated.glob(f"selections/*/{FACTS_FILE}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{curated} holds a ledger but no selection; run `winnow curate SHARDS --out {curated}`"
        )
    raise InputError(
        f"{curated} holds several selections; name one: {', '.join(str(path) for path in found)}"
    )


def funnel(summary: Summary) -> Table:
    """The account of a selection for the terminal: seen = kept + dropped by reason + errors."""
    table = Table(title=f"selection {summary.selection}", title_justify="left")
    table.add_column("first reason")
    table.add_column("pairs", justify="right")
    table.add_column("share", justify="right")
    rows = {"seen": summary.seen}
    rows |= {f"- {code}": count for code, count in summary.dropped.items() if count}
    rows |= {f"- error: {code}": count for code, count in summary.errors_by_code.items()}
    rows |= {"= kept": summary.kept}
    for name, count in rows.items():
        table.add_row(name, f"{count:,}", f"{count / max(1, summary.seen):.1%}")
    return table


def planted_table(comparison: TruthComparison) -> Table:
    """How much of each kind of planted noise a selection dropped, and how precisely."""
    table = Table(title="planted noise", title_justify="left")
    table.add_column("kind")
    for name in ("planted", "dropped", "recall"):
        table.add_column(name, justify="right")
    rows = comparison.recall | {"all": comparison.recall_overall}
    for kind, share in rows.items():
        table.add_row(kind, f"{share.of:,}", f"{share.count:,}", f"{share.value:.1%}")
    precision = comparison.precision_overall
    table.caption = (
        f"of {precision.of:,} dropped pairs {precision.count:,} were noise: "
        f"precision {precision.value:.1%}"
    )
    return table
