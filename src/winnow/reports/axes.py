"""Axes of a chart: round ticks, and where on the picture a value is.

Across is percent of the chart's width, down is pixels, so that a chart takes the width it is given
and its text keeps its size.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from winnow.reports.hostile import escaped

LEFT, WIDTH = 7, 91
"""Of the plot between the axes, percent of the chart."""
TOP, BOTTOM = 8, 40
"""Of its margins, pixels."""

_LONGEST = 60
"""Characters of the words below an axis: it has no more place."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """A value of an axis, short."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def power(exponent: float) -> str:
    """A power of ten, short enough for the side of a chart."""
    if exponent >= -2:
        return number(10.0**exponent)
    return "10" + str(int(exponent)).translate(_RAISED)


def ticks_within(low: float, high: float) -> list[float]:
    """About four round numbers from `low` to `high`."""
    return [tick for tick in ticks_around(low, high) if low <= tick <= high]


def ticks_around(low: float, high: float) -> list[float]:
    """About five round numbers that enclose `low` and `high`."""
    span = high - low if high > low else max(abs(high), 1.0)
    magnitude = 10 ** math.floor(math.log10(span / 4))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - 4.5))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * count for count in range(first, max(last, first + 1) + 1)]


class Plot(NamedTuple):
    """Where values are: percent across, pixels down."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: int

    @property
    def inner(self) -> int:
        """Pixels between the plot's upper and lower edge."""
        return self.height - TOP - BOTTOM

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """In a box of 1000 by 1000."""
        return "M" + "L".join(f"{1000 * self._x(x):.1f} {1000 * self._y(y):.1f}" for x, y in points)

    def axes(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_label: str,
        *,
        x_words: Callable[[float], str] = number,
        y_words: Callable[[float], str] = number,
    ) -> str:
        """Grid, ticks and the words below."""
        parts = []
        right, bottom = LEFT + WIDTH, TOP + self.inner
        for tick in y_ticks:
            y = TOP + self.inner * self._y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}%" x2="{right}%" y1="{y}" y2="{y}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 1}%" y="{y + 4}" text-anchor="end">'
                f"{y_words(tick)}</text>"
            )
        for tick in x_ticks:
            x = LEFT + WIDTH * self._x(tick)
            parts.append(
                f'<text class="tick" x="{x}%" y="{bottom + 17}" text-anchor="middle">'
                f"{x_words(tick)}</text>"
            )
        middle = LEFT + WIDTH / 2
        parts.append(
            f'<text class="tick" x="{middle}%" y="{bottom + 35}" text-anchor="middle">'
            f"{escaped(x_label, longest=_LONGEST)}</text>"
        )
        return "".join(parts)

    def box(self, start: float, stop: float, height: float) -> str:
        """Place and size of a bar from 0 up, as attributes; a hair narrower than its bin."""
        x, right = (LEFT + WIDTH * self._x(end) for end in (start, stop))
        y = self.inner * self._y(height)
        return (
            f'x="{x:.2f}%" y="{TOP + y:.1f}" width="{max(right - x - 0.12, 0.1):.2f}%" '
            f'height="{self.inner - y:.1f}"'
        )

    def at(self, x: float, y: float) -> str:
        """The middle of a dot, as attributes."""
        across, down = LEFT + WIDTH * self._x(x), TOP + self.inner * self._y(y)
        return f'cx="{across:.2f}%" cy="{down:.1f}"'

    def segment(self, kind: str, start: tuple[float, float], stop: tuple[float, float]) -> str:
        """A straight line between two points, of the class `kind`."""
        (x1, y1), (x2, y2) = (
            (LEFT + WIDTH * self._x(x), TOP + self.inner * self._y(y)) for x, y in (start, stop)
        )
        ends = f'x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"'
        return f'<line class="{kind}" {ends}/>'

    def diagonal(self) -> str:
        """From the lower left to the upper right."""
        ends = f'x1="{LEFT}%" y1="{TOP + self.inner}" x2="{LEFT + WIDTH}%" y2="{TOP}"'
        return f'<line class="chance" {ends}/>'

    def limit(self, value: float) -> str:
        """A dashed line at `value`, or a word on the side where it lies beyond the plot."""
        if not self.x_low <= value <= self.x_high:
            is_left = value < self.x_low
            at, anchor = (LEFT, "start") if is_left else (LEFT + WIDTH, "end")
            words = "← threshold" if is_left else "threshold →"
            place = f'x="{at}%" y="{TOP + 12}" text-anchor="{anchor}"'
            return f'<text class="tick" {place}>{words}</text>'
        x = LEFT + WIDTH * self._x(value)
        return (
            f'<line class="limit" x1="{x:.2f}%" x2="{x:.2f}%" y1="{TOP - 4}" '
            f'y2="{TOP + self.inner}"/>'
        )

    def _x(self, x: float) -> float:
        return (x - self.x_low) / (self.x_high - self.x_low)

    def _y(self, y: float) -> float:
        return 1 - (y - self.y_low) / (self.y_high - self.y_low)
