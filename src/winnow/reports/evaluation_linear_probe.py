"""The linear probe beside zero-shot, and the strength that was chosen, of those that were tried."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.curve_plot import Curve, CurvePoint, curve_chart
from winnow.reports.evaluation_rows import (
    Number,
    Row,
    Set,
    main_metric,
    metric_words,
    number_of,
    row_of,
    sets_of,
)
from winnow.reports.forest_plot import DrawnRow, ForestRow, Mark, draw_forest
from winnow.reports.runs import Run

PROTOCOL, ZERO_SHOT = "linear-probe", "zero-shot"
_NEAR = 1e-6  # of a strength: one that was written down and read again is the same


class ProbeLine(NamedTuple):
    """One run on one set."""

    title: str
    metric: str
    run: int
    zero_shot: Number | None
    probe: Number
    n: int
    strength: float | None
    """C: the inverse of the weight of the penalty."""
    chosen_by: str


class PathChart(NamedTuple):
    """What the validation samples say of every strength that was tried on one set."""

    title: str
    chart: Markup


class ProbeSection(NamedTuple):
    """Linear probes of all runs."""

    forest: Sequence[DrawnRow]
    axis: Markup
    lines: Sequence[ProbeLine]
    paths: Sequence[PathChart]


def probe_section(runs: Sequence[Run]) -> ProbeSection | None:
    """None where no run was measured."""
    sets = sets_of(runs, PROTOCOL)
    if not sets:
        return None
    lines = [line for of in sets for line in _lines(runs, of)]
    forest, axis = draw_forest([_forest_row(runs, of, lines) for of in sets])
    paths = [path for of in sets if (path := _path_chart(runs, of)) is not None]
    return ProbeSection(forest, axis, lines, paths)


def _lines(runs: Sequence[Run], of: Set) -> list[ProbeLine]:
    metric = main_metric(runs, PROTOCOL, of)
    lines = []
    for index, run in enumerate(runs):
        row = row_of(run, PROTOCOL, of, metric)
        probe = number_of(row)
        if row is None or probe is None:
            continue
        lines.append(
            ProbeLine(
                title=of.title,
                metric=metric_words(metric),
                run=index,
                zero_shot=number_of(row_of(run, ZERO_SHOT, of, metric)),
                probe=probe,
                n=row["n"],
                strength=row["settings"].get("strength"),
                chosen_by=row["settings"].get("chosen_by", ""),
            )
        )
    return lines


def _forest_row(runs: Sequence[Run], of: Set, lines: Sequence[ProbeLine]) -> ForestRow:
    lanes: list[list[Mark]] = [[] for _ in runs]
    for line in lines:
        if line.title != of.title:
            continue
        name = runs[line.run].name
        if line.zero_shot:
            words = line.zero_shot.words(of=f"{name}, zero-shot")
            lanes[line.run].append(Mark(*line.zero_shot, words, "hollow"))
        lanes[line.run].append(Mark(*line.probe, line.probe.words(of=f"{name}, linear probe")))
    metric = main_metric(runs, PROTOCOL, of)
    chances = [row["chance"] for run in runs for row in [row_of(run, PROTOCOL, of, metric)] if row]
    return ForestRow(of.title, metric_words(metric), lanes, chances[0])


def _path_chart(runs: Sequence[Run], of: Set) -> PathChart | None:
    """None where no run says what it tried."""
    metric = main_metric(runs, PROTOCOL, of)
    curves = []
    for index, run in enumerate(runs):
        row = row_of(run, PROTOCOL, of, metric)
        points = _path(row, run.name) if row else []
        if points:
            curves.append(Curve(run.name, index, points))
    if not curves:
        return None
    places = [point.x for curve in curves for point in curve.points]
    low, high = math.floor(min(places)), math.ceil(max(places))
    stride = math.ceil((high - low + 1) / 7)
    ticks = [(float(power), f"1e{power}") for power in range(low, high + 1, stride)]
    if ticks[-1][0] < high:
        ticks.append((float(high), ""))
    return PathChart(of.title, curve_chart(curves, x_ticks=ticks, x_label="C", height=200))


def _path(row: Row, name: str) -> list[CurvePoint]:
    """Strengths and accuracies on the validation samples, in order; none where none are told."""
    chosen = row["settings"].get("strength")
    points = []
    for strength, accuracy in sorted(row["settings"].get("path", [])):
        is_chosen = chosen is not None and abs(strength - chosen) <= _NEAR * strength
        words = f"{name}, C = {strength:.3g}: {100 * accuracy:.1f} % of the validation samples"
        x = math.log10(strength)
        points.append(CurvePoint(x, accuracy, accuracy, accuracy, words, is_chosen))
    return points
