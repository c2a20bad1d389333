"""The headline: what each model reaches on each task, with its uncertainty, and whether two differ.

The same rows make the table of the page and the table in the terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from winnow.predictions import hits_of, split_direction
from winnow.reports.evaluation_rows import Row, Set, metric_words, row_of, set_of
from winnow.reports.runs import Run, read_runs
from winnow.statistics import PairedDifference, paired_difference

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

METRICS = (
    ("zero-shot", "top1"),
    ("zero-shot", "top5"),
    ("retrieval", "image_to_text_recall@1"),
    ("retrieval", "text_to_image_recall@1"),
    ("statements", "top1"),
)
"""What the headline shows, in order, of all that was measured."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model's number; proportions are 0 to 1."""

    value: float
    standard_error: float
    low: float
    """End of the 95 % interval, as is `high`."""
    high: float
    times_chance: float | None
    """None where chance is not known."""


@dataclass(frozen=True, kw_only=True)
class HeadlineRow:
    """One metric of one task, over all runs."""

    task: str
    """With the split in brackets where that is not "test"."""
    protocol: str
    metric: str
    label: str
    """The metric for people."""
    n: int
    chance: float | None
    runs: tuple[str, ...]
    """Names, as are the next in order."""
    cells: tuple[Cell | None, ...]
    """None where a run was not measured."""
    differences: tuple[PairedDifference | None, ...]
    """Each run against the first, on the same samples; None for the first itself, and where the
    samples are not the same, or not independent."""


def headline(runs: Sequence[Path]) -> list[HeadlineRow]:
    """The headline rows of run folders, task by task in the order they were measured."""
    return headline_of(read_runs(runs))


def headline_of(runs: Sequence[Run]) -> list[HeadlineRow]:
    """The headline rows of runs that are read already."""
    sets = dict.fromkeys(set_of(row) for run in runs for row in run.results)
    rows = [_row(runs, of, *which) for of in sets for which in METRICS]
    return [row for row in rows if row is not None]


def render(rows: Sequence[HeadlineRow]) -> "Table":
    """The headline for the terminal, 80 columns wide for two runs: percent ± standard error."""
    from rich.text import Text

    table = plain_table("accuracy and recall, %")
    table.add_column("", no_wrap=True, min_width=17)
    names = rows[0].runs if rows else ()
    for name in names:
        table.add_column(Text(name), justify="right")
    for name in ("chance", "n"):
        table.add_column(name, justify="right")
    for name in names[1:]:
        header = "change (p)" if len(names) == 2 else f"{name} − {names[0]} (p)"
        table.add_column(Text(header), justify="right")
    for task, of_task in groupby(rows, key=lambda row: row.task):
        table.add_row(Text(task, style="bold"))
        for row in of_task:
            table.add_row(
                f" {row.label}",
                *map(_cell_text, row.cells),
                "–" if row.chance is None else f"{100 * row.chance:.2f}",
                f"{row.n:,}",
                *map(_difference_text, row.differences[1:]),
            )
    return table


def plain_table(title: "str | Text", *, show_edge: bool = True) -> "Table":
    """A table for the terminal without columns; `show_edge` leaves a line above and below."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=show_edge,
    )


def format_points(difference: float) -> str:
    """A difference of proportions in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def format_p(p_value: float) -> str:
    """A p-value for a sentence."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def short_p(p_value: float) -> str:
    """A p-value for a column of them."""
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}"


def _row(runs: Sequence[Run], of: Set, protocol: str, metric: str) -> HeadlineRow | None:
    results = [row_of(run, protocol, of, metric) for run in runs]
    measured = next((result for result in results if result is not None), None)
    if measured is None:
        return None
    tables = [run.predictions(of.task, protocol, of.split) for run in runs]
    pairs = list(zip(results, tables, strict=True))
    return HeadlineRow(
        task=of.title,
        protocol=protocol,
        metric=metric,
        label="statements " * (protocol == "statements") + metric_words(metric),
        n=measured["n"],
        chance=measured["chance"],
        runs=tuple(run.name for run in runs),
        cells=tuple(_cell(result) for result in results),
        differences=tuple(
            _difference(pairs[0], pair, metric) if number else None
            for number, pair in enumerate(pairs)
        ),
    )


def _cell(result: Row | None) -> Cell | None:
    if result is None:
        return None
    return Cell(
        value=result["value"],
        standard_error=result["standard_error"],
        low=result["low"],
        high=result["high"],
        times_chance=result["value"] / result["chance"] if result["chance"] else None,
    )


_Measured = tuple[Row | None, pa.Table | None]
"""A result and the predictions behind it."""


def _difference(first: _Measured, second: _Measured, metric: str) -> PairedDifference | None:
    (first_result, first_table), (second_result, second_table) = first, second
    if first_result is None or second_result is None or not first_table or not second_table:
        return None
    is_same = all(
        first_result[what] == second_result[what] for what in ("dataset_fingerprint", "prompts")
    )
    # Captions of one picture are not independent, as the test below takes its samples to be.
    if not is_same or _share_pictures(first_table, metric):
        return None
    first_hits, second_hits = hits_of(first_table, metric), hits_of(second_table, metric)
    if first_hits.keys() != second_hits.keys():
        return None
    return paired_difference(list(first_hits.values()), [second_hits[key] for key in first_hits])


def _share_pictures(table: pa.Table, metric: str) -> bool:
    """Whether the metric is of captions and some picture has more than one."""
    direction, _ = split_direction(metric)
    if direction != "text_to_image":
        return False
    asked = table.filter(pc.equal(table.column("direction"), direction)).column("picture")
    return len(asked.unique()) < len(asked)


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{100 * cell.value:.1f} [dim]± {100 * cell.standard_error:.1f}[/dim]"


def _difference_text(difference: PairedDifference | None) -> str:
    if difference is None:
        return "–"
    p_words = short_p(difference.p_value)
    return f"{format_points(difference.difference)} [dim]({p_words})[/dim]"
