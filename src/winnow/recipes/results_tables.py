"""The numbers of an evaluation for the terminal: a table for all, one more for few-shot probes.

80 columns hold an interval below its value, where there are as many numbers in a row as shots.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from winnow.evaluation.results import Result
from winnow.reports.evaluation_rows import metric_words, short_classes, short_words
from winnow.reports.table import plain_table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def results_tables(results: Sequence[Result]) -> "list[Table]":
    """Percent with 95 % intervals; of few-shot probes the means over subsets."""
    plain = [result for result in results if result.protocol != "few-shot"]
    few_shot = [r for r in results if r.protocol == "few-shot" and r.subset is None]
    tables = [_numbers(plain)] if plain else []
    return [*tables, *(_curves(task, list(rows)) for task, rows in _by_task(few_shot))]


def _numbers(results: Sequence[Result]) -> "Table":
    from rich.text import Text

    table = plain_table("results, % (ranks as they are)")
    table.add_column("", overflow="fold")
    for name in ("value", "95 %", "chance", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, rows in _by_task(results):
        table.add_row(Text(task, style="bold"))
        for result in rows:
            words = [result.protocol, result.method, metric_words(result.metric)]
            words += [] if result.settings.get("converged", True) else ["(fit not converged)"]
            words += ["(extrapolated)"] if result.settings.get("extrapolated", False) else []
            table.add_row(Text(f" {' '.join(word for word in words if word)}"), *_cells(result))
    return table


def _curves(task: str, results: Sequence[Result]) -> "Table":
    """One row a method, one column a number of shots; 0 for zero-shot."""
    from rich.text import Text

    shots = sorted({result.shots or 0 for result in results})
    short = short_classes((result.shots, result.settings) for result in results)
    table = plain_table(Text(f"few-shot top-1 on {task}, %"))
    if short:
        table.caption = f"† fewer training pictures than shots: {short_words(short)}"
        table.caption_justify = "left"
    table.add_column("pictures a class", no_wrap=True)
    for number in shots:
        table.add_column(str(number), justify="right", no_wrap=True)
    for method in dict.fromkeys(result.method for result in results):
        of_method = {r.shots: r for r in results if r.method == method}
        means = (_mean(of_method[k], k in short) if k in of_method else "" for k in shots)
        table.add_row(Text(method), *means)
    return table


def _mean(result: Result, is_short: bool) -> "Text":
    from rich.text import Text

    low, high = (f"{100 * end:.1f}" for end in (result.low, result.high))
    # Without the last digit of 100.0, every interval is as narrow as any other.
    ends = f"{low}–{high}".replace("100.0", "100")
    return Text.assemble(f"{100 * result.value:.1f}{' †' * is_short}\n", (ends, "dim"))


def _cells(result: Result) -> tuple[str, ...]:
    scale, digits = (1, 0) if result.metric.endswith("median_rank") else (100, 1)
    value, low, high = (
        f"{scale * number:.{digits}f}" for number in (result.value, result.low, result.high)
    )
    chance = "" if result.chance is None else f"{scale * result.chance:.{2 * digits}f}"
    return value, f"{low} to {high}", chance, f"{result.n:,}"


def _by_task(results: Sequence[Result]) -> "list[tuple[str, list[Result]]]":
    return [(task, list(rows)) for task, rows in groupby(results, key=lambda row: row.task)]
