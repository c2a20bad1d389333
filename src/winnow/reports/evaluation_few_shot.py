"""Few-shot curves: accuracy by the number of shots a class, from the zero-shot point on.

What is drawn is the mean over subsets of shots, and each subset beside it, light. A method that
starts from the zero-shot classifier starts on its point at 0 shots; the others start at 1.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.curve_plot import Curve, CurvePoint, Level, curve_chart
from winnow.reports.evaluation_rows import (
    Number,
    Row,
    Set,
    last,
    main_metric,
    metric_words,
    number_of,
    row_of,
    rows_of,
    sets_of,
    short_classes,
    short_words,
)
from winnow.reports.runs import Run

PROTOCOL, ZERO_SHOT, FROM_ZERO, OURS = "few-shot", "zero-shot", "from-zero", "text-initialised"
_METHODS = [OURS, "pulled-to-text", "tip-adapter", "lp++", "clap", FROM_ZERO]


class FewShotChart(NamedTuple):
    """The curves of one set."""

    title: str
    metric: str
    chart: Markup


class FewShotLine(NamedTuple):
    """One method on one set, in numbers."""

    title: str
    method: str
    numbers: Sequence[Number | None]
    """By the section's shots; one alone where there are no shots."""
    is_short: Sequence[bool] = ()
    """For each, whether some class has fewer training pictures than shots."""

    @property
    def is_zero_shot(self) -> bool:
        """Whether it is what the others begin with."""
        return self.method == ZERO_SHOT


class FewShotRun(NamedTuple):
    """All methods of one run."""

    name: str
    methods: Sequence[tuple[str, int]]
    """Those that it has, each with its colour."""
    charts: Sequence[FewShotChart]
    lines: Sequence[FewShotLine]


class FewShotSection(NamedTuple):
    """What was learned from few pictures of each class."""

    compared: Sequence[FewShotChart]
    """All runs by the text-initialised method; none where there is one run alone."""
    runs: Sequence[FewShotRun]
    shots: Sequence[int]
    num_subsets: int
    """At most."""
    chosen_by: Sequence[str]
    intervals: Sequence[str]
    short: Sequence[str]
    """The sets that have classes with fewer training pictures than shots, with how many."""


def few_shot_section(runs: Sequence[Run]) -> FewShotSection | None:
    """None where no run was measured."""
    rows = [row for run in runs for row in rows_of(run, PROTOCOL)]
    shots = sorted({row["shots"] for row in rows if row["shots"]})
    if not shots:
        return None
    with_rows = [run for run in runs if rows_of(run, PROTOCOL)]
    means = [row for row in rows if row["subset"] is None]
    return FewShotSection(
        compared=_compared(runs, shots) if len(with_rows) > 1 else [],
        runs=[_run(run, shots) for run in with_rows],
        shots=shots,
        num_subsets=len({row["subset"] for row in rows if row["subset"] is not None}),
        chosen_by=_distinct(_without_counts(row["settings"].get("chosen_by", "")) for row in rows),
        intervals=_distinct(row["interval"] for row in means if row["shots"]),
        short=[
            f"{of.title} {short_words(short)}"
            for of in sets_of(runs, PROTOCOL)
            if (short := _short(runs, of))
        ],
    )


def place_of(shots: int) -> float:
    """Where a number of shots is on the axis: 0 shots one step before 1, then every doubling."""
    return 1 + math.log2(shots) if shots else 0.0


def _compared(runs: Sequence[Run], shots: Sequence[int]) -> list[FewShotChart]:
    charts = []
    for of in sets_of(runs, PROTOCOL):
        metric = main_metric(runs, PROTOCOL, of)
        curves = [
            curve
            for index, run in enumerate(runs)
            if (curve := _curve(run, of, metric, OURS, index)) is not None
        ]
        if curves:
            named = [curve._replace(name=runs[curve.series].name) for curve in curves]
            charts.append(_chart(of, metric, named, shots, None))
    return charts


def _run(run: Run, shots: Sequence[int]) -> FewShotRun:
    rows = rows_of(run, PROTOCOL)
    found = {row["method"] for row in rows if row["shots"]} - {ZERO_SHOT}
    methods = [*_METHODS, *sorted(found - {*_METHODS})]
    charts, lines = [], []
    for of in sets_of([run], PROTOCOL):
        metric = main_metric([run], PROTOCOL, of)
        zero_shot, short = _zero_shot(run, of, metric), _short([run], of)
        curves = [
            curve
            for index, method in enumerate(methods)
            if (curve := _curve(run, of, metric, method, index)) is not None
        ]
        if curves:
            charts.append(_chart(of, metric, [_joined(one) for one in curves], shots, zero_shot))
        for curve in curves:
            numbers = [number_of(_mean(run, of, metric, curve.name, k)) for k in shots]
            is_short = [k in short for k in shots]
            lines.append(FewShotLine(of.title, curve.name, numbers, is_short))
        if zero_shot:
            lines.append(FewShotLine(of.title, ZERO_SHOT, [zero_shot]))
    shown = [(method, index) for index, method in enumerate(methods) if method in found]
    return FewShotRun(run.name, shown, charts, lines)


def _short(runs: Sequence[Run], of: Set) -> dict[int, int]:
    rows = [row for run in runs for row in rows_of(run, PROTOCOL, of)]
    return short_classes((row["shots"], row["settings"]) for row in rows)


def _chart(
    of: Set, metric: str, curves: Sequence[Curve], shots: Sequence[int], zero_shot: Number | None
) -> FewShotChart:
    ticks = [(place_of(k), str(k)) for k in (0, *shots)]
    level = Level(zero_shot.value, zero_shot.words(of="zero-shot")) if zero_shot else None
    chart = curve_chart(curves, x_ticks=ticks, x_label="shots a class", level=level)
    return FewShotChart(of.title, metric_words(metric), chart)


def _curve(run: Run, of: Set, metric: str, method: str, series: int) -> Curve | None:
    """The method's means; None where it has none."""
    rows = [
        row
        for row in rows_of(run, PROTOCOL, of)
        if row["metric"] == metric and row["method"] == method and row["shots"]
    ]
    shots = sorted({row["shots"] for row in rows if row["subset"] is None})
    if not shots:
        return None
    points = []
    start = _zero_shot(run, of, metric)
    if start is not None and method != FROM_ZERO:
        points.append(CurvePoint(place_of(0), *start, start.words(of=f"{run.name}, zero-shot")))
    for k in shots:
        mean = number_of(_mean(run, of, metric, method, k))
        assert mean is not None
        words = mean.words(of=f"{run.name}, {method}, {k} {'shots' if k > 1 else 'shot'}")
        points.append(CurvePoint(place_of(k), *mean, words))
    single = {(row["shots"], row["subset"]): row["value"] for row in rows}
    faint = [(place_of(k), value) for (k, subset), value in single.items() if subset is not None]
    return Curve(method, series, points, faint)


def _joined(curve: Curve) -> Curve:
    """The curve of a method whose first point is that of other methods of the run."""
    first, *others = curve.points
    return curve._replace(points=[first._replace(is_shared=first.x == place_of(0)), *others])


def _mean(run: Run, of: Set, metric: str, method: str, shots: int) -> Row | None:
    wanted = (metric, method, shots, None)
    fields = ("metric", "method", "shots", "subset")
    rows = rows_of(run, PROTOCOL, of)
    return last(rows, lambda row: tuple(row[field] for field in fields) == wanted)


def _zero_shot(run: Run, of: Set, metric: str) -> Number | None:
    """From the same harness, or else as it was measured by itself."""
    rows = rows_of(run, PROTOCOL, of)
    same = last(rows, lambda row: row["method"] == ZERO_SHOT and row["metric"] == metric)
    return number_of(same or row_of(run, ZERO_SHOT, of, metric))


def _without_counts(words: str) -> str:
    """The same words for every number of samples that something was chosen by."""
    return re.sub(r"\d+", "…", words)


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(word for word in words if word))
