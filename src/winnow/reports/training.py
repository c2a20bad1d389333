"""What the metrics of each run say: curves, speed, and in what the recipes differ."""

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from winnow.reports.charts import Line, line_chart
from winnow.reports.runs import Run


class RunFacts(NamedTuple):
    """One run in a line; None where it was not logged."""

    name: str
    steps: int
    samples: int | None
    loss: float | None
    """Median over the last tenth of the rows."""
    scale: float | None
    """The last: the inverse of the temperature."""
    samples_per_second: float | None
    """Median, as is the next; so that a pause does not count."""
    data_wait_share: float | None


class Difference(NamedTuple):
    """A field of the recipe with its value in every run."""

    field: str
    values: tuple[str, ...]


def run_facts(run: Run) -> RunFacts:
    """The summary of a run's metrics; the run has some."""
    last = run.metrics[-1]
    tail = run.metrics[-max(1, len(run.metrics) // 10) :]
    return RunFacts(
        name=run.name,
        steps=int(last["step"]),
        samples=int(last["samples"]) if "samples" in last else None,
        loss=_median(tail, "loss"),
        scale=last.get("scale"),
        samples_per_second=_median(run.metrics, "samples_per_second"),
        data_wait_share=_median(run.metrics, "data_wait_share"),
    )


def curve(runs: Sequence[Run], column: str, *, smooth_over: float = 0.0) -> Markup | None:
    """One line per run over its steps; None where no run logged a finite value of the column."""
    lines = [
        Line(run.name, [row["step"] for row in rows], [row[column] for row in rows])
        for run in runs
        if (rows := [row for row in run.metrics if math.isfinite(row.get(column, math.nan))])
    ]
    return line_chart(lines, x_label="step", smooth_over=smooth_over) if lines else None


def recipe_differences(runs: Sequence[Run]) -> list[Difference]:
    """Every field in which the recipes of the runs differ."""
    leaves = [_leaves(run.recipe) for run in runs]
    fields = dict.fromkeys(field for leaf in leaves for field in leaf)
    found = [Difference(field, tuple(leaf.get(field, "–") for leaf in leaves)) for field in fields]
    return [difference for difference in found if len(set(difference.values)) > 1]


def _leaves(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: value if isinstance(value, str) else json.dumps(value)}
    leaves: dict[str, str] = {}
    for name, inner in value.items():
        leaves |= _leaves(inner, f"{prefix}.{name}" if prefix else name)
    return leaves


def _median(rows: Sequence[dict[str, float]], column: str) -> float | None:
    values = [row[column] for row in rows if column in row]
    return statistics.median(values) if values else None
