"""The evaluation's part of the page: all sets, probes, few shots, retrieval and robustness.

All of it is from the rows of `results.jsonl` that runs left, except for the lines that robustness
is measured against, which the page is given. A part that was not measured is a line that says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.evaluation_few_shot import FewShotSection, few_shot_section
from winnow.reports.evaluation_linear_probe import ProbeSection, probe_section
from winnow.reports.evaluation_rows import (
    Number,
    Row,
    Set,
    main_metric,
    metric_words,
    number_of,
    row_of,
    rows_of,
    set_of,
    sets_of,
)
from winnow.reports.forest_plot import DrawnRow, ForestRow, Mark, draw_forest
from winnow.reports.robustness_plot import (
    RobustnessPlot,
    RobustnessPoint,
    robustness_chart,
    run_names,
)
from winnow.reports.runs import Run

_WAYS = ("image_to_text", "text_to_image")
_RECALLS = (1, 5, 10)
_OWN = ("zero-shot", "retrieval", "statements")
"""Protocols that need no training samples."""


class TaskRow(NamedTuple):
    """One number of a set, over all runs."""

    title: str
    metric: str
    numbers: Sequence[Number | None]
    chance: float | None
    n: int
    interval: str
    is_same_data: bool
    """Whether all runs have seen the same samples."""


class RetrievalRow(NamedTuple):
    """One run on one set, both ways: R@1, R@5, R@10 and the median rank."""

    title: str
    run: int
    recalls: Sequence[Number | None]
    """Image to text, then text to image."""
    median_ranks: Sequence[Number | None]


class ShiftRow(NamedTuple):
    """Effective robustness under one shift, over all runs."""

    title: str
    line: str
    """What it was measured against."""
    numbers: Sequence[Number | None]
    is_extrapolated: Sequence[bool]
    """Whether the line was not fitted where a run is."""


class ModelAtShift(NamedTuple):
    """One model of a robustness plot, in numbers."""

    point: RobustnessPoint
    colour: int


class ShownShift(NamedTuple):
    """One robustness plot."""

    plot: RobustnessPlot
    chart: Markup
    runs: Sequence[ModelAtShift]
    num_baselines: int


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """What there is to show; empty or None where it was not measured."""

    tasks: Sequence[TaskRow]
    forest: Sequence[DrawnRow]
    axis: Markup
    probes: ProbeSection | None
    few_shot: FewShotSection | None
    retrieval: Sequence[RetrievalRow]
    shifts: Sequence[ShownShift]
    shift_rows: Sequence[ShiftRow]

    @property
    def missing(self) -> list[str]:
        """What was not measured, and what that would need."""
        needs = [
            (self.retrieval, "retrieval, which needs captions"),
            (self.probes, "a linear probe, which needs a training split"),
            (self.few_shot, "few-shot probes, which need a training split"),
            (self.shifts or self.shift_rows, "robustness, which needs a set and a shift of it"),
        ]
        return [words for found, words in needs if not found]


def evaluation_section(
    runs: Sequence[Run], robustness: Sequence[RobustnessPlot] = ()
) -> EvaluationSection:
    """Everything that was measured of the runs, task by task in that order."""
    tasks = [row for protocol in _OWN for row in _task_rows(runs, protocol)]
    forest, axis = draw_forest([_forest_row(runs, row) for row in tasks])
    return EvaluationSection(
        tasks=tasks,
        forest=forest,
        axis=axis,
        probes=probe_section(runs),
        few_shot=few_shot_section(runs),
        retrieval=[
            _retrieval(run, index, of)
            for of in sets_of(runs, "retrieval")
            for index, run in enumerate(runs)
            if rows_of(run, "retrieval", of)
        ],
        shifts=[_shift(plot, [run.name for run in runs]) for plot in robustness if plot.points],
        shift_rows=_shift_rows(runs),
    )


def _task_rows(runs: Sequence[Run], protocol: str) -> list[TaskRow]:
    found = []
    for of in sets_of(runs, protocol):
        metrics = [main_metric(runs, protocol, of)]
        if protocol == "retrieval":
            metrics = [f"{way}_recall@1" for way in _WAYS]
        found += [
            row for metric in metrics if (row := _task_row(runs, protocol, of, metric)) is not None
        ]
    return found


def _task_row(runs: Sequence[Run], protocol: str, of: Set, metric: str) -> TaskRow | None:
    rows = [row_of(run, protocol, of, metric) for run in runs]
    measured = [row for row in rows if row is not None]
    if not measured:
        return None
    return TaskRow(
        title=of.title,
        metric=metric_words(metric),
        numbers=[number_of(row) for row in rows],
        chance=measured[0]["chance"],
        n=measured[0]["n"],
        interval=measured[0]["interval"].replace("wilson", "Wilson"),
        is_same_data=len({row["dataset_fingerprint"] for row in measured}) == 1,
    )


def _forest_row(runs: Sequence[Run], row: TaskRow) -> ForestRow:
    lanes = [
        [Mark(*number, number.words(of=run.name))] if number else []
        for run, number in zip(runs, row.numbers, strict=True)
    ]
    return ForestRow(row.title, row.metric, lanes, row.chance)


def _retrieval(run: Run, index: int, of: Set) -> RetrievalRow:
    def find(metric: str) -> Number | None:
        return number_of(row_of(run, "retrieval", of, metric))

    return RetrievalRow(
        title=of.title,
        run=index,
        recalls=[find(f"{way}_recall@{k}") for way in _WAYS for k in _RECALLS],
        median_ranks=[find(f"{way}_median_rank") for way in _WAYS],
    )


def _shift(plot: RobustnessPlot, runs: Sequence[str]) -> ShownShift:
    order = list(dict.fromkeys([*runs, *run_names(plot)]))
    models = [
        ModelAtShift(point, order.index(point.label))
        for point in plot.points
        if point.kind == "run"
    ]
    return ShownShift(
        plot=plot,
        chart=robustness_chart(plot, runs=runs),
        runs=models,
        num_baselines=len(plot.points) - len(models),
    )


def _shift_rows(runs: Sequence[Run]) -> list[ShiftRow]:
    """Of all that `robustness` rows say, the distance from the line; the plots have the rest."""

    measured = [
        [row for row in rows_of(run, "robustness") if row["metric"] == "effective_robustness"]
        for run in runs
    ]
    newest = [{(set_of(row), row["method"]): row for row in rows} for rows in measured]
    return [
        ShiftRow(
            title=of.title,
            line=line,
            numbers=[number_of(rows.get((of, line))) for rows in newest],
            is_extrapolated=[_is_extrapolated(rows.get((of, line))) for rows in newest],
        )
        for of, line in dict.fromkeys(key for rows in newest for key in rows)
    ]


def _is_extrapolated(row: Row | None) -> bool:
    return row is not None and row["settings"].get("extrapolated", False)
