"""Curves of a few points each, with intervals, over ticks that are named: shots, or strengths."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.axes import LEFT, TOP, WIDTH, Plot, number, ticks_around
from winnow.reports.colours import NUM_COLOURS
from winnow.reports.hostile import escaped

_APART = 0.07  # between the dots of two curves at one tick, in ticks, so that none hides another
_EDGE = 0.3  # of the axis beyond its first and last tick, in ticks


class CurvePoint(NamedTuple):
    """A value at a place, with the ends of its interval where it has one; proportions, 0 to 1."""

    x: float
    y: float
    low: float
    high: float
    words: str
    """What it says when it is pointed at."""
    is_chosen: bool = False
    """Whether it is ringed."""
    is_shared: bool = False
    """Whether other curves begin there too: then it is not moved aside."""


class Curve(NamedTuple):
    """One series of points in order of x."""

    name: str
    series: int
    """Whose colour it has."""
    points: Sequence[CurvePoint]
    faint: Sequence[tuple[float, float]] = ()
    """What the points are means of: x and y, drawn light."""


class Level(NamedTuple):
    """A dashed line across."""

    value: float
    words: str


def curve_chart(
    curves: Sequence[Curve],
    *,
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
    level: Level | None = None,
    height: int = 220,
) -> Markup:
    """The curves over an axis in percent; `x_ticks` are places with their words, from left."""
    values = [end for curve in curves for p in curve.points for end in (p.low, p.y, p.high)]
    values += [y for curve in curves for _, y in curve.faint]
    values += [level.value] if level else []
    y_ticks = ticks_around(min(values), max(values))
    ends = x_ticks[0][0] - _EDGE, x_ticks[-1][0] + _EDGE
    plot = Plot(*ends, y_ticks[0], y_ticks[-1], height)
    words = dict(x_ticks)
    parts = [
        plot.axes(
            list(words),
            y_ticks,
            x_label,
            x_words=lambda x: str(escaped(words[x])),
            y_words=lambda y: number(100 * y),
        )
    ]
    if level:
        parts.append(_level(plot, level, ends))
    for index, curve in enumerate(curves):
        parts += _curve(plot, curve, _APART * (index - (len(curves) - 1) / 2))
    names = ", ".join(curve.name for curve in curves)
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart" role="img" width="100%" height="{height}">'
        f"<title>{escaped(f'{names} by {x_label}')}</title>{''.join(parts)}</svg>"
    )


def _level(plot: Plot, level: Level, ends: tuple[float, float]) -> str:
    line = plot.segment("chance", (ends[0], level.value), (ends[1], level.value))
    return f"<g>{line}<title>{escaped(level.words)}</title></g>"


def _curve(plot: Plot, curve: Curve, aside: float) -> list[str]:
    """The line, then dots of single runs, then means with their intervals over both."""
    colour = f"c{curve.series % NUM_COLOURS}"
    places = [point.x + aside * (not point.is_shared) for point in curve.points]
    path = plot.path([(x, point.y) for x, point in zip(places, curve.points, strict=True)])
    parts = [
        f'<svg x="{LEFT}%" y="{TOP}" width="{WIDTH}%" height="{plot.inner}" '
        f'viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f'<path class="smooth {colour}" d="{path}"/></svg>'
    ]
    parts += [
        f'<circle class="dot single {colour}" {plot.at(x + aside, y)} r="2.5"/>'
        for x, y in curve.faint
    ]
    for x, point in zip(places, curve.points, strict=True):
        if point.high > point.low:
            parts.append(plot.segment(f"whisker {colour}", (x, point.low), (x, point.high)))
        if point.is_chosen:
            parts.append(f'<circle class="ring" {plot.at(x, point.y)} r="7"/>')
        parts.append(
            f'<circle class="dot {colour}" {plot.at(x, point.y)} r="3.5">'
            f"<title>{escaped(point.words)}</title></circle>"
        )
    return parts
