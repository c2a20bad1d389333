"""What the metrics of each run say: curves, speed, and in what the recipes differ.

Where a run learns concepts beside, its loss is a sum; what is shown as its loss is the contrastive
part, so that it compares with runs that do not, and the concepts' part has a chart of its own.
"""

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from markupsafe import Markup

from winnow.reports.charts import Line, line_chart
from winnow.reports.runs import Run

LOSS = ("loss_contrastive", "loss")
"""What a run's loss is: the first of these columns that a row has."""

_HEADS: dict[str, Literal["solid", "dashed"]] = {"objects": "solid", "attributes": "dashed"}


class RunFacts(NamedTuple):
    """One run in a line; None where it was not logged."""

    name: str
    run: int
    """Its place among all runs, which is its colour."""
    steps: int
    samples: int | None
    loss: float | None
    """Median over the last tenth of the rows; the contrastive part where that is logged."""
    scale: float | None
    """The last: the inverse of the temperature."""
    samples_per_second: float | None
    """Median, as is the next; so that a pause does not count."""
    data_wait_share: float | None


class Difference(NamedTuple):
    """A field of the recipe with its value in every run."""

    field: str
    values: tuple[str, ...]


def run_facts(run: Run, index: int) -> RunFacts:
    """The summary of a run's metrics; the run has some."""
    last = run.metrics[-1]
    tail = run.metrics[-max(1, len(run.metrics) // 10) :]
    return RunFacts(
        name=run.name,
        run=index,
        steps=int(last["step"]),
        samples=int(last["samples"]) if "samples" in last else None,
        loss=_median(tail, *LOSS),
        scale=last.get("scale"),
        samples_per_second=_median(run.metrics, "samples_per_second"),
        data_wait_share=_median(run.metrics, "data_wait_share"),
    )


def curve(runs: Sequence[Run], *columns: str, smooth_over: float = 0.0) -> Markup | None:
    """One line per run over its steps, of the first of `columns` that a row has.

    None where no run logged a finite value.
    """
    lines = [line for index, run in enumerate(runs) for line in lines_of(run, index, columns)]
    return line_chart(lines, x_label="step", smooth_over=smooth_over) if lines else None


def concept_curve(runs: Sequence[Run], *, smooth_over: float) -> Markup | None:
    """A line per run and head over its steps; None where no run learns concepts."""
    lines = [
        line._replace(name=f"{run.name} {head}", style=style)
        for index, run in enumerate(runs)
        for head, style in _HEADS.items()
        for line in lines_of(run, index, [f"loss_{head}"])
    ]
    return line_chart(lines, x_label="step", smooth_over=smooth_over) if lines else None


def learns_concepts(run: Run) -> bool:
    """Whether the run's loss is shown without a part of it."""
    return any(LOSS[0] in row for row in run.metrics)


def recipe_differences(runs: Sequence[Run]) -> list[Difference]:
    """Every field in which the recipes of the runs differ."""
    leaves = [_leaves(run.recipe) for run in runs]
    fields = dict.fromkeys(field for leaf in leaves for field in leaf)
    found = [Difference(field, tuple(leaf.get(field, "–") for leaf in leaves)) for field in fields]
    return [difference for difference in found if len(set(difference.values)) > 1]


def lines_of(run: Run, series: int, columns: Sequence[str]) -> list[Line]:
    """The run's line, or none: the first of `columns` that a row has, where that is finite."""
    values = [(row["step"], _first(row, columns)) for row in run.metrics]
    finite = [(step, value) for step, value in values if value is not None and math.isfinite(value)]
    if not finite:
        return []
    steps, heights = zip(*finite, strict=True)
    return [Line(run.name, steps, heights, series)]


def _leaves(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: value if isinstance(value, str) else json.dumps(value)}
    leaves: dict[str, str] = {}
    for name, inner in value.items():
        leaves |= _leaves(inner, f"{prefix}.{name}" if prefix else name)
    return leaves


def _first(row: dict[str, float], columns: Sequence[str]) -> float | None:
    return next((row[column] for column in columns if column in row), None)


def _median(rows: Sequence[dict[str, float]], *columns: str) -> float | None:
    values = [value for row in rows if (value := _first(row, columns)) is not None]
    return statistics.median(values) if values else None
