"""A forest plot: one row per number of a task, in it one dot per run with its interval.

Each row is a chart of its own beside its label, so that labels wrap where the window is narrow and
a page of forty tasks can break between rows. All rows have one axis, from 0.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.axes import number, ticks_around
from winnow.reports.colours import NUM_COLOURS
from winnow.reports.hostile import escaped

_START, _SPAN = 1, 97  # of the axis, percent of the row: half of the last tick's words is beside it
_LANE, _AROUND = 11, 8  # pixels of height: each run's, and what is above and below them


class Mark(NamedTuple):
    """A dot with the ends of its interval; proportions, 0 to 1."""

    value: float
    low: float
    high: float
    words: str
    """What it says when it is pointed at."""
    style: str = ""
    """"hollow" for what the other dots are compared with."""


class ForestRow(NamedTuple):
    """One number of a task, or two that are compared, over all runs."""

    title: str
    detail: str
    lanes: Sequence[Sequence[Mark]]
    """The dots of every run, in order; none where it was not measured."""
    chance: float | None


class DrawnRow(NamedTuple):
    """A row as the page shows it."""

    title: str
    detail: str
    height: int
    """Pixels that it needs at least."""
    chart: Markup


def draw_forest(rows: Sequence[ForestRow]) -> tuple[list[DrawnRow], Markup]:
    """Every row, and the axis that belongs below them."""
    ends = [mark.high for row in rows for lane in row.lanes for mark in lane]
    ticks = ticks_around(0.0, max([*ends, *(row.chance or 0.0 for row in rows)], default=1.0))
    drawn = [
        DrawnRow(row.title, row.detail, _LANE * len(row.lanes) + _AROUND, _draw_row(row, ticks))
        for row in rows
    ]
    return drawn, drawn_axis({_across(tick, ticks): tick for tick in ticks})


def drawn_axis(ticks: Mapping[str, float]) -> Markup:
    """Ticks, fractions by how far across they stand, in %; the rows' tables say them in words."""
    words = [
        f'<text class="tick" x="{across}" y="13" text-anchor="middle">{number(100 * tick)}</text>'
        for across, tick in ticks.items()
    ]
    axis = f'<svg class="chart" width="100%" height="18" aria-hidden="true">{"".join(words)}</svg>'
    return Markup(axis)  # noqa: S704 - numbers alone


def _draw_row(row: ForestRow, ticks: Sequence[float]) -> Markup:
    parts = [
        f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="100%"/>'
        for x in (_across(tick, ticks) for tick in ticks)
    ]
    if row.chance is not None:
        x = _across(row.chance, ticks)
        parts.append(f'<line class="chance" x1="{x}" x2="{x}" y1="0" y2="100%"/>')
    for index, lane in enumerate(row.lanes):
        y = f"{100 * (index + 0.5) / len(row.lanes):.2f}%"
        for mark in lane:
            parts.append(_draw_mark(mark, f"c{index % NUM_COLOURS}", y, ticks))
    return Markup(  # noqa: S704 - numbers, and text that is escaped
        f'<svg class="chart" role="img" width="100%" height="100%">'
        f"<title>{escaped(f'{row.title} {row.detail}')}</title>{''.join(parts)}</svg>"
    )


def _draw_mark(mark: Mark, colour: str, y: str, ticks: Sequence[float]) -> str:
    low, high = _across(mark.low, ticks), _across(mark.high, ticks)
    return (
        f'<line class="whisker {colour}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot {colour} {mark.style}" cx="{_across(mark.value, ticks)}" cy="{y}" '
        f'r="4"><title>{escaped(mark.words)}</title></circle>'
    )


def _across(value: float, ticks: Sequence[float]) -> str:
    return f"{_START + _SPAN * value / ticks[-1]:.2f}%"
