"""Differences with their intervals, either side of a line at 0: one row a number, one dot a method.

As in forest_plot.py each row is a chart of its own beside its label, and all have one axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.axes import ticks_around
from winnow.reports.colours import NUM_COLOURS
from winnow.reports.forest_plot import DrawnRow, drawn_axis
from winnow.reports.hostile import escaped

_START, _SPAN = 2, 95  # of the axis, percent of the row
_LANE, _AROUND = 12, 8  # pixels of height: each method's, and what is above and below them


class Difference(NamedTuple):
    """A dot with the ends of its interval; fractions."""

    value: float
    low: float | None
    """None, as `high` is, where there is no interval: the dot is hollow then."""
    high: float | None
    series: int
    """Whose colour it has."""
    words: str
    """What it says when it is pointed at, and to who cannot see it."""


class DifferenceRow(NamedTuple):
    """One number, of all methods that have it."""

    title: str
    detail: str
    differences: Sequence[Difference]


def difference_forest(rows: Sequence[DifferenceRow]) -> tuple[list[DrawnRow], Markup]:
    """Every row, and the axis in points that belongs below them."""
    ends = [
        end
        for row in rows
        for one in row.differences
        for end in (one.value, one.low, one.high)
        if end is not None
    ]
    ticks = ticks_around(min([0.0, *ends]), max([0.0, *ends]))
    drawn = [
        DrawnRow(
            row.title, row.detail, _LANE * len(row.differences) + _AROUND, _draw_row(row, ticks)
        )
        for row in rows
    ]
    return drawn, drawn_axis({_across(tick, ticks): tick for tick in ticks})


def _draw_row(row: DifferenceRow, ticks: Sequence[float]) -> Markup:
    parts = [
        f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="100%"/>'
        for x in (_across(tick, ticks) for tick in ticks)
    ]
    zero = _across(0.0, ticks)
    parts.append(f'<line class="chance" x1="{zero}" x2="{zero}" y1="0" y2="100%"/>')
    for index, one in enumerate(row.differences):
        y = f"{100 * (index + 0.5) / len(row.differences):.2f}%"
        parts.append(_draw(one, y, ticks))
    said = "; ".join([f"{row.title} {row.detail}", *(one.words for one in row.differences)])
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart" role="img" width="100%" height="100%">'
        f"<title>{escaped(said)}</title>{''.join(parts)}</svg>"
    )


def _draw(one: Difference, y: str, ticks: Sequence[float]) -> str:
    colour = f"c{one.series % NUM_COLOURS}"
    whisker, kind = "", "dot hollow"
    if one.low is not None and one.high is not None:
        low, high = _across(one.low, ticks), _across(one.high, ticks)
        whisker = f'<line class="whisker {colour}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        kind = "dot"
    return (
        f'{whisker}<circle class="{kind} {colour}" cx="{_across(one.value, ticks)}" cy="{y}" '
        f'r="4"><title>{escaped(one.words)}</title></circle>'
    )


def _across(value: float, ticks: Sequence[float]) -> str:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return f"{_START + _SPAN * share:.2f}%"
