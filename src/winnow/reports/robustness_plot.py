"""Accuracy under a shift against accuracy without it, on logit axes, and the line of other models.

On these axes the models that a line is fitted on lie close to it, so what a model has above it is
more than its accuracy alone would give it (Taori et al. 2020, arXiv 2007.00644). The line is solid
between the accuracies that it was fitted on, and dashed beyond, where it is extrapolated.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from winnow.reports.axes import Plot
from winnow.reports.colours import DARK, LIGHT, NUM_COLOURS
from winnow.reports.hostile import escaped

_LEAST = 1e-3  # accuracies closer to 0 or 1 lie on the edge, hollow: their logits are infinite
_MARGIN = 0.06  # of the axes beyond what is shown
_APART = 0.11  # of the axis, the least between two ticks
_ROUND = [
    *(50, 10, 90, 1, 99, 0.1, 99.9, 20, 80, 30, 70, 40, 60, 5, 95, 2, 98, 0.5, 99.5, 0.2, 99.8),
    *range(15, 90, 5),
]
_FEW = 4  # ticks of these percentages; where fewer fit, others are beside them
_PAGE_WIDTH, _PAGE_HEIGHT, _PAGE_TOP, _LINE = 760, 420, 48, 18  # of the plot alone, pixels
_COLUMNS = 100  # characters that it has place for


@dataclass(frozen=True, kw_only=True)
class RobustnessPoint:
    """One model; proportions, 0 to 1."""

    label: str
    """The run's name, or the baseline's."""
    x: float
    """Accuracy without the shift."""
    y: float
    """Accuracy under it."""
    x_low: float
    """End of the 95 % interval, as are the next three."""
    x_high: float
    y_low: float
    y_high: float
    kind: Literal["run", "baseline"]
    """Whether it is shown for its own sake, or because the line was fitted on it."""
    expected: float | None = None
    """Accuracy under the shift by the line; None where there is no line."""
    extrapolated: bool = False
    """Whether the line was not fitted there."""


@dataclass(frozen=True, kw_only=True)
class FittedLine:
    """logit(y) = slope · logit(x) + intercept."""

    slope: float
    intercept: float
    low: float
    """Lowest accuracy without the shift that it was fitted on, 0 to 1; `high` is the highest."""
    high: float
    words: str
    """What it was fitted on and where it is from."""

    def at(self, x: float) -> float:
        """Its height where it is drawn: `x` and what comes back are logits."""
        return self.slope * x + self.intercept


@dataclass(frozen=True, kw_only=True)
class RobustnessPlot:
    """One shift with every model that was measured on it."""

    shift: str
    """The set under the shift."""
    in_distribution: str
    """The set without, with the classes where they are some of its own."""
    points: Sequence[RobustnessPoint]
    line: FittedLine | None = None
    """None where there is nothing to compare with."""
    note: str = ""
    """What a reader should know of this shift."""


def robustness_chart(
    plot: RobustnessPlot, *, runs: Sequence[str] = (), height: int = 340
) -> Markup:
    """The plot as a chart of the page; `runs` are those whose colours it has, in order."""
    title = f"Accuracy on {plot.shift} by accuracy on {plot.in_distribution}"
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart robustness" role="img" width="100%" height="{height}">'
        f"<title>{escaped(title)}</title>{_inside(plot, runs, height)}</svg>"
    )


def write_robustness_svg(plot: RobustnessPlot, out: Path) -> Path:
    """Write the plot alone as an svg file with its own colours, legend and words; its path."""
    runs = run_names(plot)
    legend = [
        (_colour(runs.index(point.label)), describe(point))
        for point in plot.points
        if point.kind == "run"
    ]
    if any(point.kind == "baseline" for point in plot.points):
        legend.append(("baseline", "what the line was fitted on"))
    sentences = [plot.line.words if plot.line else "", plot.note]
    words = [line for text in sentences for line in textwrap.wrap(text, _COLUMNS)]
    parts, y = [], _PAGE_TOP + _PAGE_HEIGHT + _LINE
    for kind, text in legend:
        parts.append(f'<circle class="dot {kind}" cx="61" cy="{y - 4}" r="4.5"/>')
        parts.append(f'<text class="label" x="74" y="{y}">{escaped(_short(text))}</text>')
        y += _LINE
    for text in words:
        y += _LINE
        parts.append(f'<text class="tick" x="53" y="{y - _LINE / 2}">{escaped(text)}</text>')
    height = y + _LINE
    title = _short(f"Accuracy on {plot.shift}, % (both axes: logit)")
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_PAGE_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_PAGE_WIDTH} {height:.0f}" role="img">'
        f"<title>{escaped(title)}</title><style>{_style()}</style>"
        f'<rect class="ground" width="100%" height="100%"/>'
        f'<text class="heading" x="53" y="30">{escaped(title)}</text>'
        f'<svg y="{_PAGE_TOP}" width="{_PAGE_WIDTH}" height="{_PAGE_HEIGHT}">'
        f"{_inside(plot, runs, _PAGE_HEIGHT)}</svg>{''.join(parts)}</svg>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(svg, encoding="utf-8")
    partial.replace(out)
    return out


def run_names(plot: RobustnessPlot) -> list[str]:
    """The runs of the plot, each once, in order."""
    return list(dict.fromkeys(point.label for point in plot.points if point.kind == "run"))


def describe(point: RobustnessPoint) -> str:
    """A model in words: both accuracies, and where it is from the line."""
    words = f"{point.label}: {100 * point.x:.1f} → {100 * point.y:.1f} %"
    if point.expected is None:
        return words
    above = point.y - point.expected
    side = "above" if above >= 0 else "below"
    words += f", {100 * abs(above):.1f} points {side} the line"
    return words + " (extrapolated)" * point.extrapolated


def _short(words: str) -> str:
    return words if len(words) <= _COLUMNS else words[: _COLUMNS - 1] + "…"


def _inside(plot: RobustnessPlot, runs: Sequence[str], height: int) -> str:
    """Axes, line and points."""
    x_ends, y_ends = _domain(plot)
    place = Plot(*x_ends, *y_ends, height)
    axes = place.axes(
        _ticks(*x_ends),
        _ticks(*y_ends),
        f"{plot.in_distribution}, %",
        x_words=_percent,
        y_words=_percent,
    )
    order = list(dict.fromkeys([*runs, *run_names(plot)]))
    # Runs are drawn last, over what the line was fitted on.
    points = sorted(plot.points, key=lambda point: point.kind == "run")
    drawn = [_point(place, plot, point, order) for point in points]
    return "".join([axes, *_line(place, plot.line), *drawn])


def _domain(plot: RobustnessPlot) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of both axes, as logits: all points with their intervals, and the fitted range."""
    xs = [end for point in plot.points for end in (point.x_low, point.x, point.x_high)]
    ys = [end for point in plot.points for end in (point.y_low, point.y, point.y_high)]
    if plot.line is not None:
        xs += [plot.line.low, plot.line.high]
        ys += [_share(plot.line.at(_logit(end))) for end in (plot.line.low, plot.line.high)]
    return _widen(xs), _widen(ys)


def _widen(shares: Sequence[float]) -> tuple[float, float]:
    low, high = _logit(min(shares, default=0.1)), _logit(max(shares, default=0.9))
    margin = max(_MARGIN * (high - low), 0.05)
    return low - margin, high + margin


def _line(place: Plot, line: FittedLine | None) -> list[str]:
    """Solid over the range it was fitted in, dashed beside it, cut where the plot ends."""
    if line is None:
        return []
    low, high = _logit(line.low), _logit(line.high)
    pieces = [("dashed", place.x_low, low), ("solid", low, high), ("dashed", high, place.x_high)]
    found = []
    for kind, start, stop in pieces:
        ends = _within(place, line, start, stop)
        if ends is not None:
            found.append(place.segment(f"fitted {kind}", *ends))
    return found


def _within(
    place: Plot, line: FittedLine, start: float, stop: float
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The part of the line from x = start to stop that the plot's height holds."""
    if line.slope:
        cuts = sorted((y - line.intercept) / line.slope for y in (place.y_low, place.y_high))
        start, stop = max(start, cuts[0]), min(stop, cuts[1])
    elif not place.y_low <= line.intercept <= place.y_high:
        return None
    if start >= stop:
        return None
    return (start, line.at(start)), (stop, line.at(stop))


def _point(place: Plot, plot: RobustnessPlot, point: RobustnessPoint, runs: Sequence[str]) -> str:
    x, y = _logit(point.x), _logit(point.y)
    across = place.segment("error", (_logit(point.x_low), y), (_logit(point.x_high), y))
    up = place.segment("error", (x, _logit(point.y_low)), (x, _logit(point.y_high)))
    is_run = point.kind == "run"
    kind = _colour(runs.index(point.label)) if is_run else "baseline"
    hollow = "" if all(_LEAST <= share <= 1 - _LEAST for share in (point.x, point.y)) else " hollow"
    words = escaped(describe(point))
    return (
        f"{across}{up}"
        f'<circle class="dot {kind}{hollow}" {place.at(x, y)} r="{5 if is_run else 3.5}">'
        f"<title>{words}</title></circle>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Logits of round percentages between the ends, far enough from each other to be read."""
    chosen: list[float] = []
    for place, percent in enumerate([*_ROUND, *range(3, 98)]):
        if place >= len(_ROUND) and len(chosen) >= _FEW:
            break
        tick = _logit(percent / 100)
        is_apart = all(abs(tick - other) >= _APART * (high - low) for other in chosen)
        if low <= tick <= high and is_apart:
            chosen.append(tick)
    return sorted(chosen)


def _percent(logit: float) -> str:
    return f"{100 * _share(logit):.3g}"


def _logit(share: float) -> float:
    inside = min(max(share, _LEAST), 1 - _LEAST)
    return math.log(inside / (1 - inside))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _colour(index: int) -> str:
    return f"c{index % NUM_COLOURS}"


def _style() -> str:
    """The rules of a plot that stands alone, with the page's colours, light and dark.

    Colours are written out: not every viewer of svg files knows css variables.
    """
    light, dark = _rules(LIGHT), _rules(DARK)
    return (
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:12px}"
        ".heading{font-size:14px;font-weight:600}.label{font-size:13px}.dot{stroke-width:1.5}"
        ".fitted{stroke-width:2}.dashed{stroke-dasharray:6 4}.error{stroke-width:1.2;opacity:.75}"
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
    )


def _rules(colours: dict[str, str]) -> str:
    dots = "".join(
        f".c{n}{{fill:{colours[f'c{n}']};stroke:{colours[f'c{n}']}}}" for n in range(NUM_COLOURS)
    )
    return (
        f"{dots}.baseline{{fill:{colours['faint']};stroke:{colours['faint']}}}"
        f".hollow,.ground{{fill:{colours['card']}}}.grid{{stroke:{colours['line']}}}"
        f".tick{{fill:{colours['faint']}}}.label,.heading{{fill:{colours['ink']}}}"
        f".error{{stroke:{colours['ink']}}}.fitted{{stroke:{colours['soft']}}}"
    )
