"""How the number behind each rule is spread over the sample, and where its threshold lies."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from winnow.reports.axes import ticks_within
from winnow.reports.charts import histogram
from winnow.reports.insight import RuleMeasure

NUM_BINS = 40
MAX_HISTOGRAMS = 24
"""Measures that are shown: there may be any number of rules on scores."""

_TAIL = 0.005  # share of the values at either end that goes into the end bins


class Histogram(NamedTuple):
    """One measure of one rule."""

    rule: str
    name: str
    chart: Markup
    n: int
    """Pairs it is known of."""
    outside: float
    """Share of them beyond a threshold, 0 to 1."""
    limits: str
    """The thresholds in words."""
    cut: bool
    """Whether the end bars also hold what lies beyond the axis."""


def histograms(measures: Sequence[RuleMeasure]) -> list[Histogram]:
    """One per measure that is known of any pair, in the order of the rules."""
    found = [_histogram(measure) for measure in measures[:MAX_HISTOGRAMS]]
    return [one for one in found if one is not None]


def _histogram(measure: RuleMeasure) -> Histogram | None:
    values = measure.values[np.isfinite(measure.values)]
    if not len(values):
        return None
    is_whole = bool(np.array_equal(values, np.round(values)))
    least, most = measure.least, measure.most
    low, high = _range(values, least, most)
    if is_whole:
        # Bars around whole numbers, and thresholds between two of them, with the bars they keep.
        least = None if least is None else math.ceil(least) - 0.5
        most = None if most is None else math.floor(most) + 0.5
    edges = _edges(low, high, least if least is not None else most, is_whole)
    counts, _ = np.histogram(values.clip(low, high), bins=edges)
    outside = np.zeros(len(values), dtype=bool)
    if measure.least is not None:
        outside |= values < measure.least
    if measure.most is not None:
        outside |= values > measure.most
    ticks = [tick for tick in ticks_within(edges[0], edges[-1]) if not is_whole or tick % 1 == 0]
    chart = histogram(
        counts.tolist(),
        edges.tolist(),
        low=least,
        high=most,
        x_ticks=ticks,
        x_label=measure.name,
    )
    return Histogram(
        rule=measure.rule,
        name=measure.name,
        chart=chart,
        n=len(values),
        outside=float(outside.mean()),
        limits=_limits(measure),
        cut=bool(values.min() < low or values.max() > high),
    )


def _range(values: np.ndarray, least: float | None, most: float | None) -> tuple[float, float]:
    """From where to where: without far tails; with the thresholds, unless that squeezes all."""
    low, high = float(values.min()), float(values.max())
    is_whole = np.array_equal(values, np.round(values))
    if high - low > NUM_BINS or not is_whole:
        low, high = (float(end) for end in np.quantile(values, [_TAIL, 1 - _TAIL]))
    span = high - low
    # What is beyond a threshold has a bar of its own there, however little it is.
    bar = 1.0 if is_whole else span / NUM_BINS
    if least is not None and low - span <= least <= high + span:
        low, high = min(low, least - bar * (values.min() < least)), max(high, least)
    if most is not None and low - span <= most <= high + span:
        low, high = min(low, most), max(high, most + bar * (values.max() > most))
    if high <= low:
        half = max(abs(low) / 2, 1e-6)
        return low - half, high + half
    return low, high


def _edges(low: float, high: float, anchor: float | None, is_whole: bool) -> np.ndarray:
    """Edges of equal bars from `low` to `high`, the anchor one of them if it is within."""
    if is_whole:
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
    width = (high - low) / NUM_BINS
    if is_whole:
        width = math.ceil(width)
    if anchor is not None and low < anchor < high:
        low = anchor - width * math.ceil((anchor - low) / width - 1e-9)
    return low + width * np.arange(math.ceil((high - low) / width - 1e-9) + 1)


def _limits(measure: RuleMeasure) -> str:
    words = [
        f"{word} {limit:.6g}"
        for word, limit in (("from", measure.least), ("to", measure.most))
        if limit is not None
    ]
    return f"kept {' '.join(words)}" if words else "no threshold"
