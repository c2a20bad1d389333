"""A study's charts, from its tables as json (`evaluation/study/tables.py: as_json` writes them).

Differences either side of 0, differences over an axis whose levels have places, accuracy under a
shift by accuracy without, and few-shot curves. Every chart's numbers are in a table beside it.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from winnow.reports.axes import number
from winnow.reports.curve_plot import Curve, CurvePoint, Level, curve_chart
from winnow.reports.evaluation_few_shot import place_of
from winnow.reports.evaluation_rows import metric_words
from winnow.reports.forest_plot import DrawnRow
from winnow.reports.robustness_plot import (
    FittedLine,
    RobustnessPlot,
    RobustnessPoint,
    robustness_chart,
)
from winnow.reports.study_forest import Difference, DifferenceRow, difference_forest
from winnow.statistics import wilson_interval

Row = Mapping[str, Any]
NO_DIFFERENCE = Level(0.0, "no difference")
_CROSSES = 24
"""Cells of a robustness plot beyond which their intervals would hide the cells."""


class Forest(NamedTuple):
    """Rows of differences and the axis below them."""

    title: str
    rows: Sequence[DrawnRow]
    axis: Markup


class Figure(NamedTuple):
    """One chart of several."""

    title: str
    detail: str
    chart: Markup
    note: str = ""


def base_forests(answers: Row) -> list[Forest]:
    """One for each family: the macro mean first, then every number."""
    methods = answers["facts"]["methods"]
    forests = []
    for family in dict.fromkeys(row["family"] for row in answers["macros"]):
        macros = [row for row in answers["macros"] if row["family"] == family]
        rows = [_difference_row("mean", "over its numbers", macros, methods)]
        of_family = [row for row in answers["tasks"] if row["family"] == family]
        by_number: dict[tuple[Any, ...], list[Row]] = {}
        for row in of_family:
            by_number.setdefault(tuple(row["quantity"].values()), []).append(row)
        rows += [_difference_row(*_titles(own[0]), own, methods) for own in by_number.values()]
        drawn = [row for row in rows if row.differences]
        if drawn:
            forests.append(Forest(family, *difference_forest(drawn)))
    return forests


def axis_figures(answers: Row) -> list[Figure]:
    """The difference to the baseline over each axis whose levels have places, by family."""
    return [
        figure
        for axis, family, rows in _along(answers)
        if all(row["place"] is not None for row in rows if row["mean"])
        and (figure := _axis_figure(axis, family, rows, answers["facts"]["methods"]))
    ]


def level_forests(answers: Row) -> list[Forest]:
    """Each method at a level less itself at the base level, where levels are kinds."""
    methods, forests = answers["facts"]["methods"], []
    for axis, family, rows in _along(answers):
        if all(row["place"] is not None for row in rows if row["mean"]):
            continue
        levels = dict.fromkeys(row["level"] for row in rows)
        drawn = [
            DifferenceRow(level, f"{_pairs(rows, level):,} pairs", _steps(rows, level, methods))
            for level in levels
            if _steps(rows, level, methods)
        ]
        if drawn:
            base = answers["facts"]["axes"][axis]["base"]
            title = f"{axis}: {family}, less the same method at {base}"
            forests.append(Forest(title, *difference_forest(drawn)))
    return forests


def robustness_figures(answers: Row) -> list[Figure]:
    """Every shift that has a line: all cells, those of the baseline grey."""
    facts = answers["facts"]
    figures = []
    for table in answers["shifts"]:
        if not table["cells"]:
            continue
        plot = RobustnessPlot(
            shift=table["shift"],
            in_distribution=table["in_distribution"],
            points=[
                _point(cell, facts["baseline"], has_cross=len(table["cells"]) <= _CROSSES)
                for cell in table["cells"]
            ],
            line=FittedLine(
                slope=table["slope"],
                intercept=table["intercept"],
                low=table["low"],
                high=table["high"],
                words=f"least squares on the cells of {facts['baseline']}",
            ),
        )
        figures.append(
            Figure(
                table["shift"],
                f"by {table['in_distribution']}, logit axes, %",
                robustness_chart(plot, runs=facts["methods"]),
                f"Line: least squares on the cells of {facts['baseline']}, r² "
                f"{table['r_squared']:.3f}; grey: these cells.",
            )
        )
    return figures


def few_shot_figures(answers: Row) -> list[Figure]:
    """Accuracy by shots on each set, one curve a method, from its zero-shot accuracy on."""
    methods = answers["facts"]["methods"]
    figures = []
    rows = [row for row in answers["few_shot"] if row["method"] in methods]
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        curves = [
            Curve(method, index, _shots(of_task, method))
            for index, method in enumerate(methods)
            if any(row["method"] == method for row in of_task)
        ]
        shots = sorted({0, *(row["shots"] for row in of_task)})
        chart = curve_chart(
            curves, x_ticks=[(place_of(k), str(k)) for k in shots], x_label="shots a class"
        )
        figures.append(Figure(task, f"{metric_words(of_task[0]['metric'])}, %", chart))
    return figures


def _titles(row: Row) -> tuple[str, str]:
    quantity = row["quantity"]
    split = "" if quantity["split"] == "test" else f" ({quantity['split']})"
    shots = "" if quantity["shots"] is None else f", {_shots_words(quantity['shots'])}"
    return f"{quantity['task']}{split}", f"{metric_words(quantity['metric'])}{shots}"


def _shots_words(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _difference_row(
    title: str, detail: str, rows: Iterable[Row], methods: Sequence[str]
) -> DifferenceRow:
    found = [
        _difference(row["method"], decides, methods)
        for row in rows
        if (decides := _decides(row)) is not None
    ]
    return DifferenceRow(title, detail, found)


def _decides(row: Row) -> Row | None:
    """Seeds and pictures where that has an interval, else seeds."""
    both, seeds = row["over_both"], row["over_seeds"]
    return both if both is not None and both["low"] is not None else seeds


def _difference(method: str, estimate: Row, methods: Sequence[str]) -> Difference:
    return Difference(
        estimate["value"],
        estimate["low"],
        estimate["high"],
        methods.index(method),
        f"{method}: {_points(estimate)}",
    )


def _points(estimate: Row) -> str:
    value = f"{100 * estimate['value']:+.1f} points"
    if estimate["low"] is None:
        return f"{value}, no interval"
    return f"{value} ({100 * estimate['low']:+.1f} to {100 * estimate['high']:+.1f})"


def _along(answers: Row) -> list[tuple[str, str, list[Row]]]:
    keys = dict.fromkeys((row["axis"], row["family"]) for row in answers["levels"])
    return [
        (axis, family, [r for r in answers["levels"] if (r["axis"], r["family"]) == (axis, family)])
        for axis, family in keys
    ]


def _axis_figure(
    axis: str, family: str, rows: Sequence[Row], methods: Sequence[str]
) -> Figure | None:
    measured = [row for row in rows if row["difference"]]
    places = sorted({row["place"] for row in measured})
    if not places:
        return None
    gaps = [after - before for before, after in itertools.pairwise(places)]
    scale = 1 / min(gaps, default=1.0)
    ticks = {(row["place"] - places[0]) * scale: _tick(axis, row) for row in measured}
    curves = [
        Curve(
            method,
            index,
            [
                _curve_point((row["place"] - places[0]) * scale, method, row["difference"])
                for row in sorted(measured, key=lambda row: row["place"])
                if row["method"] == method
            ],
        )
        for index, method in enumerate(methods)
        if any(row["method"] == method for row in measured)
    ]
    label = "training pairs, logarithmic" if axis == "size" else axis
    chart = curve_chart(curves, x_ticks=sorted(ticks.items()), x_label=label, level=NO_DIFFERENCE)
    return Figure(f"{axis}: {family}", "difference to the baseline, points", chart)


def _tick(axis: str, row: Row) -> str:
    return f"{row['pairs']:,}" if axis == "size" else number(row["place"])


def _curve_point(x: float, method: str, estimate: Row) -> CurvePoint:
    value = estimate["value"]
    low, high = estimate["low"], estimate["high"]
    ends = (value, value) if low is None else (low, high)
    return CurvePoint(x, value, *ends, words=f"{method}: {_points(estimate)}")


def _pairs(rows: Iterable[Row], level: str) -> int:
    return next((row["pairs"] for row in rows if row["level"] == level and row["pairs"]), 0)


def _steps(rows: Iterable[Row], level: str, methods: Sequence[str]) -> list[Difference]:
    return [
        _difference(row["method"], row["to_base_level"], methods)
        for row in rows
        if row["level"] == level and row["to_base_level"]
    ]


def _point(cell: Row, baseline: str, *, has_cross: bool) -> RobustnessPoint:
    (x_low, x_high), (y_low, y_high) = (
        wilson_interval(cell[axis], cell[f"{axis}_n"]) if has_cross else (cell[axis], cell[axis])
        for axis in ("x", "y")
    )
    return RobustnessPoint(
        label=cell["method"],
        x=cell["x"],
        y=cell["y"],
        x_low=x_low,
        x_high=x_high,
        y_low=y_low,
        y_high=y_high,
        kind="baseline" if cell["method"] == baseline else "run",
        expected=cell["expected"],
        extrapolated=cell["extrapolated"],
    )


def _shots(rows: Iterable[Row], method: str) -> list[CurvePoint]:
    own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["shots"])
    start = own[0]["zero_shot"]
    points = [] if start is None else [_accuracy(0.0, f"{method}, zero-shot", start)]
    return points + [
        _accuracy(
            place_of(row["shots"]), f"{method}, {_shots_words(row['shots'])}", row["accuracy"]
        )
        for row in own
    ]


def _accuracy(x: float, words: str, estimate: Row) -> CurvePoint:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    ends = (value, value) if low is None else (low, high)
    said = f"{words}: {100 * value:.1f} %"
    if low is not None:
        said += f" ({100 * low:.1f} to {100 * high:.1f})"
    return CurvePoint(x, value, *ends, words=said)
