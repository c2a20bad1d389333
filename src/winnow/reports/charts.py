"""Charts as inline SVG: no script, no font, colours from the page's style (light and dark).

Positions across are percentages, so a chart takes the width it is given and its text keeps its
size. Series take the classes `c0`, `c1`, ... whose colours are defined in style.css.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from winnow.reports.axes import LEFT, TOP, WIDTH, Plot, number, power, ticks_around
from winnow.reports.colours import NUM_COLOURS
from winnow.reports.hostile import escaped

MAX_POINTS = 300
"""Points of a line: beyond that, a curve of some hundred pixels shows no more."""

_LEAST = 1e-6  # of a logarithmic axis: smaller shares are as good as none


class Line(NamedTuple):
    """One curve of at least one point, all finite; x rises from 0 or above."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    series: int | None = None
    """Whose colour it has; that of its place among the lines where None."""
    style: Literal["solid", "dashed"] = "solid"


class Bar(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


class Dot(NamedTuple):
    """A point whose two values would be equal; 0 to 1."""

    x: float
    y: float
    words: str
    """What it says when it is pointed at."""


class BarGroup(NamedTuple):
    """One bar per series, None where there is no value; proportions, 0 to 1."""

    label: str
    bars: Sequence[Bar | None]
    chance: float


def line_chart(
    lines: Sequence[Line], *, x_label: str, smooth_over: float = 0.0, height: int = 240
) -> Markup:
    """Every line faintly as it is, and strongly as a mean over a share of its points (0 to 1)."""
    points = [list(zip(line.x, line.y, strict=True)) for line in lines]
    means = [_smooth(line, smooth_over) for line in points]
    x_ticks = ticks_around(0.0, max(x for line in points for x, _ in line))
    values = [y for line in points for _, y in line]
    y_ticks = ticks_around(min(values), max(values))
    plot = Plot(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1], height)
    curves = []
    for index, (line, drawn, mean) in enumerate(zip(lines, points, means, strict=True)):
        colour = f"c{(index if line.series is None else line.series) % NUM_COLOURS}"
        curves.append(
            f'<path class="raw {colour}" d="{plot.path(_thin(drawn))}"/>'
            f'<path class="smooth {colour} {line.style}" d="{plot.path(_thin(mean))}"/>'
        )
    names = ", ".join(line.name for line in lines)
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart" role="img" width="100%" height="{height}">'
        f"<title>{escaped(f'{names} by {x_label}')}</title>"
        f"<desc>{escaped('; '.join(map(_words, lines)))}</desc>"
        f"{plot.axes(x_ticks, y_ticks, x_label)}"
        f'<svg x="{LEFT}%" y="{TOP}" width="{WIDTH}%" height="{plot.inner}" '
        f'viewBox="0 0 1000 1000" preserveAspectRatio="none">{"".join(curves)}</svg></svg>'
    )


def bar_chart(groups: Sequence[BarGroup]) -> Markup:
    """Bars with their 95 % interval, and a dashed mark where chance is."""
    highs = [bar.high for group in groups for bar in group.bars if bar] or [1.0]
    full = ticks_around(0.0, max([*highs, *(group.chance for group in groups)]))[-1]
    parts, y = [], 0
    for group in groups:
        end = y + 22 + 22 * len(group.bars)
        label = escaped(group.label, longest=60)
        parts.append(f'<text class="label" x="0" y="{y + 14}">{label}</text>')
        for index, bar in enumerate(group.bars):
            parts.append(_bar(bar, index, y + 22 + 22 * index, full))
        chance = _percent(group.chance / full)
        parts.append(f'<line class="chance" x1="{chance}" x2="{chance}" y1="{y + 18}" y2="{end}"/>')
        y = end + 16
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart bars" role="img" width="100%" height="{y}">'
        f"<title>Values with 95 % intervals</title>{''.join(parts)}</svg>"
    )


def histogram(
    counts: Sequence[int],
    edges: Sequence[float],
    *,
    low: float | None,
    high: float | None,
    x_ticks: Sequence[float],
    x_label: str,
    height: int = 170,
) -> Markup:
    """Bars of `counts` between `edges`; those not between `low` and `high` are coloured as dropped.

    A limit inside is a dashed line; one outside is told at the end where it is.
    """
    y_ticks = ticks_around(0.0, max(counts))
    plot = Plot(edges[0], edges[-1], 0.0, y_ticks[-1], height)
    bars = []
    for count, start, stop in zip(counts, edges, edges[1:], strict=False):
        middle = (start + stop) / 2
        is_out = (low is not None and middle < low) or (high is not None and middle > high)
        box = plot.box(start, stop, count)
        bars.append(f'<rect class="{"dropped" if is_out else "kept"}" {box}/>')
    limits = [plot.limit(limit) for limit in (low, high) if limit is not None]
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart histogram" role="img" width="100%" height="{height}">'
        f"<title>{escaped(x_label)}</title>"
        f"{plot.axes(x_ticks, y_ticks, x_label)}{''.join(bars)}{''.join(limits)}</svg>"
    )


def agreement_chart(dots: Sequence[Dot], *, x_label: str, height: int = 240) -> Markup:
    """Dots over two logarithmic axes that end at 1, and a dashed line where x = y.

    What is below both axes (0 too) lies on their edge, hollow.
    """
    seen = [value for dot in dots for value in (dot.x, dot.y) if value >= _LEAST]
    low = min(-1, math.floor(math.log10(min(seen, default=_LEAST))))
    plot = Plot(low, 0, low, 0, height)
    ticks = range(0, low - 1, -math.ceil(-low / 5))
    parts = [plot.axes(ticks, ticks, x_label, x_words=power, y_words=power), plot.diagonal()]
    for dot in dots:
        x, y = (math.log10(max(value, 10.0**low)) for value in (dot.x, dot.y))
        kind = "dot" if min(dot.x, dot.y) >= _LEAST else "dot hollow"
        parts.append(
            f'<circle class="{kind} c0" {plot.at(x, y)} r="4.5"><title>{escaped(dot.words)}</title>'
            "</circle>"
        )
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart" role="img" width="100%" height="{height}">'
        f"<title>{escaped(f'{len(dots)} dots by {x_label}')}</title>{''.join(parts)}</svg>"
    )


def _words(line: Line) -> str:
    """A curve for those who do not see it."""
    first, last = number(line.y[0]), number(line.y[-1])
    span = f"between {number(min(line.y))} and {number(max(line.y))}"
    return f"{line.name}: from {first} to {last}, {span}"


def _bar(bar: Bar | None, index: int, y: int, full: float) -> str:
    if bar is None:
        return f'<text class="tick" x="0" y="{y + 13}">not measured</text>'
    low, high = _percent(bar.low / full), _percent(bar.high / full)
    middle = y + 9
    return (
        f'<rect class="c{index % NUM_COLOURS}" x="0" y="{y}" width="{_percent(bar.value / full)}" '
        f'height="18" rx="2"/>'
        f'<line class="error" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
        f'<line class="error" x1="{low}" x2="{low}" y1="{middle - 4}" y2="{middle + 4}"/>'
        f'<line class="error" x1="{high}" x2="{high}" y1="{middle - 4}" y2="{middle + 4}"/>'
        f'<text class="value" x="{high}" dx="8" y="{y + 13}">{100 * bar.value:.1f} %</text>'
    )


def _percent(share: float) -> str:
    # The rest of the width is for the value beside the bar.
    return f"{88 * share:.2f}%"


def _smooth(points: Sequence[tuple[float, float]], share: float) -> list[tuple[float, float]]:
    """The mean over a window around each point: symmetric, so that it does not lag behind."""
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    reach, last = round(share * len(points) / 2), len(points) - 1
    smoothed = []
    for index, (x, _) in enumerate(points):
        half = min(reach, index, last - index)
        total = sums[index + half + 1] - sums[index - half]
        smoothed.append((x, total / (2 * half + 1)))
    return smoothed


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of the points, the last among them."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return list(points[::-1][::stride][::-1])
