"""The numbers of an evaluation for the terminal: a table for all, one more for few-shot probes."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from winnow.evaluation.results import Result
from winnow.reports.evaluation_rows import metric_words

if TYPE_CHECKING:
    from rich.table import Table


def results_tables(results: Sequence[Result]) -> "list[Table]":
    """Percent with 95 % intervals; of few-shot probes the means over subsets."""
    plain = [result for result in results if result.protocol != "few-shot"]
    few_shot = [r for r in results if r.protocol == "few-shot" and r.subset is None]
    tables = [_numbers(plain)] if plain else []
    return [*tables, *(_curves(task, list(rows)) for task, rows in _by_task(few_shot))]


def _numbers(results: Sequence[Result]) -> "Table":
    from rich.text import Text

    table = _table("results, % (ranks as they are)")
    table.add_column("", no_wrap=True)
    for name in ("value", "95 %", "chance", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, rows in _by_task(results):
        table.add_row(Text(task, style="bold"))
        for result in rows:
            words = [result.protocol, result.method, metric_words(result.metric)]
            words += [] if result.settings.get("converged", True) else ["(fit not converged)"]
            table.add_row(Text(f" {' '.join(word for word in words if word)}"), *_cells(result))
    return table


def _curves(task: str, results: Sequence[Result]) -> "Table":
    """One row a method, one column a number of shots."""
    from rich.text import Text

    shots = sorted({result.shots or 0 for result in results})
    table = _table(f"few-shot top-1 on {task}, % ± half of the 95 % interval")
    table.add_column("pictures a class", no_wrap=True)
    for number in shots:
        table.add_column(str(number), justify="right", no_wrap=True)
    for method in dict.fromkeys(result.method for result in results):
        of_method = {r.shots: r for r in results if r.method == method}
        table.add_row(Text(method), *(_mean(of_method[k]) if k in of_method else "" for k in shots))
    return table


def _mean(result: Result) -> str:
    return f"{100 * result.value:.1f}±{50 * (result.high - result.low):.1f}"


def _cells(result: Result) -> tuple[str, ...]:
    scale, digits = (1, 0) if result.metric.endswith("median_rank") else (100, 1)
    value, low, high = (
        f"{scale * number:.{digits}f}" for number in (result.value, result.low, result.high)
    )
    chance = "" if result.chance is None else f"{scale * result.chance:.{2 * digits}f}"
    return value, f"{low} to {high}", chance, f"{result.n:,}"


def _by_task(results: Sequence[Result]) -> "list[tuple[str, list[Result]]]":
    return [(task, list(rows)) for task, rows in groupby(results, key=lambda row: row.task)]


def _table(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
