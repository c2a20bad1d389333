"""Along an axis: what a method gains at every level, and how that grows.

At a level the cells of one seed are paired: a method less the baseline there, and a method less
itself at the axis' base level. Both are of a family's macro mean, over the tasks that all cells
along the axis have, with an interval over seeds and pictures; over seeds alone where some picture's
score is not known.

    growth b:   d_sl = a_s + b x_l + error      x = log10(training pairs), or where the level stands

Seeds of one level alone, as the base often has, say nothing of growth and are left out. Each seed
that has every level has its own least-squares slope b_s, with weights w_l that are the same for
all, and so has each picture: Σ_l w_l (its gain at l). The interval is over the S slopes and the
pictures, S two or more. With fewer such seeds one slope is fitted to all cells, with an intercept
a_s for each seed, and has no interval: slopes vary from seed to seed, which the residuals of one
line do not show.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from winnow.evaluation.study.base import common, macro_difference, macro_value, picture_parts
from winnow.evaluation.study.estimates import (
    ONE_SEED,
    Estimate,
    Part,
    over_seeds,
    over_seeds_and_parts,
)
from winnow.evaluation.study.pictures import Pair, PictureScores, UnknownScoresError
from winnow.evaluation.study.reading import FAMILIES, Cell, Quantity, Study

SIZE = "size"
"""The axis whose levels stand at the logarithm of their training pairs."""
SLOPES = "t over the slopes of seeds"
SLOPES_AND_PICTURES = "t over the slopes of seeds and pictures"
POOLED = "an interval needs 2 seeds that have every level"


@dataclass(frozen=True, kw_only=True)
class LevelRow:
    """One method at one level, in one family."""

    axis: str
    level: str
    family: str
    method: str
    place: float | None
    """Where the level stands; of the axis `size` log10 of its pairs. None of kinds."""
    pairs: int | None
    """That a cell there was trained on: the median over seeds."""
    tasks: int
    """Numbers averaged over."""
    mean: Estimate | None
    difference: Estimate | None = None
    """To the baseline at this level."""
    to_base_level: Estimate | None = None
    """Of the method to itself at the axis' base level."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the difference to the baseline changes along an axis, per unit of `place`."""

    axis: str
    family: str
    method: str
    levels: int
    estimate: Estimate | None
    note: str = ""


class Point(NamedTuple):
    """A difference of one seed at one place."""

    seed: int
    x: float
    y: float


def axis_tables(study: Study, scores: PictureScores) -> tuple[list[LevelRow], list[Growth]]:
    """Every method at every level of every axis, and the growth where levels have places."""
    rows: list[LevelRow] = []
    growths: list[Growth] = []
    for axis in study.facts.axes:
        for family in FAMILIES:
            along = _Along.of(study, axis, family, scores)
            if along is None:
                continue
            rows += along.rows()
            if all(place is not None for place in along.places.values()):
                growths += [along.growth(method) for method in study.others if along.has(method)]
    return rows, growths


def fit_growth(points: Sequence[Point], parts: Sequence[Part] = ()) -> Estimate | None:
    """The slope of y over x with its interval; None where no seed has two places.

    `parts` are what varies besides seeds in the mean slope of `whole_seeds`.
    """
    usable = _with_two_places(points)
    if not usable:
        return None
    whole = whole_seeds(points)
    if len(whole) < 2:
        return _pooled([point for own in usable.values() for point in own], len(usable))
    slopes = [_slope(own) for own in whole.values()]
    found = over_seeds_and_parts(slopes, parts) if parts else over_seeds(slopes)
    if found.freedom is None:
        return found
    return replace(found, how=SLOPES_AND_PICTURES if parts else SLOPES)


def whole_seeds(points: Sequence[Point]) -> dict[int, list[Point]]:
    """The points of each seed that has every place there is, two at least, in order of place."""
    usable = _with_two_places(points)
    places = {point.x for own in usable.values() for point in own}
    return {
        seed: sorted(own, key=lambda point: point.x)
        for seed, own in usable.items()
        if {point.x for point in own} == places
    }


def _with_two_places(points: Sequence[Point]) -> dict[int, list[Point]]:
    by_seed: dict[int, list[Point]] = {}
    for point in points:
        by_seed.setdefault(point.seed, []).append(point)
    return {seed: own for seed, own in by_seed.items() if len({point.x for point in own}) > 1}


def _slope(points: Sequence[Point]) -> float:
    return statistics.linear_regression([p.x for p in points], [p.y for p in points]).slope


def _slope_weights(places: Sequence[float]) -> list[float]:
    """w with Σ w_l y_l the least-squares slope of y over the places."""
    mean = statistics.fmean(places)
    squares = math.fsum((x - mean) ** 2 for x in places)
    return [(x - mean) / squares for x in places]


def _pooled(points: Sequence[Point], seeds: int) -> Estimate:
    """The within-seed estimator: every seed's points are taken about their own mean."""
    centred: list[tuple[float, float]] = []
    for seed in dict.fromkeys(point.seed for point in points):
        own = [point for point in points if point.seed == seed]
        x, y = (statistics.fmean(values) for values in zip(*((p.x, p.y) for p in own), strict=True))
        centred += [(point.x - x, point.y - y) for point in own]
    squares = math.fsum(x * x for x, _ in centred)
    slope = math.fsum(x * y for x, y in centred) / squares
    return Estimate(value=slope, seeds=seeds, how=ONE_SEED if seeds < 2 else POOLED)


@dataclass(frozen=True, kw_only=True)
class _Along:
    """The cells of one axis that have anything of one family."""

    study: Study
    axis: str
    family: str
    cells: Mapping[tuple[str, str], dict[int, Cell]]
    """By method and level, then by seed."""
    shared: Sequence[Quantity]
    scores: PictureScores

    @classmethod
    def of(cls, study: Study, axis: str, family: str, scores: PictureScores) -> "_Along | None":
        """None where nothing of the family was measured on any cell."""
        names = study.facts.axes[axis].levels
        every = {
            (method, level): study.seeds_of(method, axis, level)
            for method in study.facts.methods
            for level in names
        }
        # A method that has base cells alone was not taken along this axis.
        along = {
            method
            for (method, level), found in every.items()
            if found and level != study.facts.axes[axis].base
        }
        every = {key: found for key, found in every.items() if key[0] in along}
        having, shared = common(
            (cell for found in every.values() for cell in found.values()), family
        )
        if not shared:
            return None
        names_of_having = {cell.facts.name for cell in having}
        kept = {
            key: {seed: cell for seed, cell in found.items() if cell.facts.name in names_of_having}
            for key, found in every.items()
        }
        return cls(study=study, axis=axis, family=family, cells=kept, shared=shared, scores=scores)

    @property
    def levels(self) -> tuple[str, ...]:
        return self.study.facts.axes[self.axis].levels

    @property
    def places(self) -> dict[str, float | None]:
        """Where each level that has cells stands."""
        facts = self.study.facts.axes[self.axis]
        places = dict(zip(facts.levels, facts.values, strict=True))
        there = [level for level in self.levels if self._pairs(level) is not None]
        if self.axis != SIZE:
            return {level: places[level] for level in there}
        return {level: math.log10(max(1, self._pairs(level) or 1)) for level in there}

    def has(self, method: str) -> bool:
        return any(found for (name, _), found in self.cells.items() if name == method)

    def rows(self) -> list[LevelRow]:
        """Level by level, the baseline first."""
        methods = [name for name in self.study.facts.methods if self.has(name)]
        methods.sort(key=lambda name: name != self.study.facts.baseline)
        return [self._row(level, method) for level in self.levels for method in methods]

    def growth(self, method: str) -> Growth:
        pairs = {
            Point(seed, place, self._difference(pair)): pair
            for level, place in self.places.items()
            for seed, pair in self._pairs_of(method, level).items()
            if place is not None
        }
        points = list(pairs)
        estimate = fit_growth(points, self._growth_parts(pairs)) if points else None
        return Growth(
            axis=self.axis,
            family=self.family,
            method=method,
            levels=len({point.x for point in points}),
            estimate=estimate,
            note="" if estimate else "no seed has two levels of both methods",
        )

    def _growth_parts(self, pairs: Mapping[Point, Pair]) -> list[Part]:
        """What other pictures would change in the mean slope; empty where that is not known."""
        whole = whole_seeds(list(pairs))
        if len(whole) < 2:
            return []
        used = [point for own in whole.values() for point in own]
        weights = [
            weight / len(whole)
            for own in whole.values()
            for weight in _slope_weights([point.x for point in own])
        ]
        with suppress(UnknownScoresError):
            return picture_parts(
                self.shared, [pairs[point] for point in used], self.scores, weights
            )
        return []

    def _row(self, level: str, method: str) -> LevelRow:
        cells = self.cells.get((method, level), {})
        values = [macro_value(cell, self.shared) for cell in cells.values()]
        to_baseline = list(self._pairs_of(method, level).values())
        base = self.study.facts.axes[self.axis].base
        own = self.cells.get((method, base), {}) if base is not None and level != base else {}
        to_own = [Pair(own[seed], cells[seed]) for seed in cells if seed in own]
        is_other = method != self.study.facts.baseline
        return LevelRow(
            axis=self.axis,
            level=level,
            family=self.family,
            method=method,
            place=self.places.get(level),
            pairs=self._pairs(level),
            tasks=len(self.shared),
            mean=over_seeds(values) if values else None,
            difference=self._estimate(to_baseline) if is_other else None,
            to_base_level=self._estimate(to_own),
            note="" if values else "not measured",
        )

    def _estimate(self, pairs: Sequence[Pair]) -> Estimate | None:
        return macro_difference(pairs, self.shared, self.scores) if pairs else None

    def _difference(self, pair: Pair) -> float:
        return macro_value(pair.second, self.shared) - macro_value(pair.first, self.shared)

    def _pairs_of(self, method: str, level: str) -> dict[int, Pair]:
        """The baseline and a method, by seed."""
        own = self.cells.get((method, level), {})
        base = self.cells.get((self.study.facts.baseline, level), {})
        return {seed: Pair(base[seed], own[seed]) for seed in own if seed in base}

    def _pairs(self, level: str) -> int | None:
        pairs = [
            cell.facts.pairs
            for (_, at), found in self.cells.items()
            if at == level
            for cell in found.values()
        ]
        return round(statistics.median(pairs)) if pairs else None
