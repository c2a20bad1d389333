"""Effective robustness over a study: each cell against the line of the baseline's cells.

Each shift names the set without it that accuracy under it is relative to. Its line goes through
every cell of the baseline, whatever its axis, level and seed (robustness.py has the fit). ρ of a
method is the mean over its cells of one seed, then over seeds, at the levels that all its seeds
have: else seeds would differ by their levels. It is compared with the baseline's own ρ at the same
axis, level and seed: what a level does to all methods, and an error of the line, are then in both.

The line was fitted on the baseline's cells, so theirs are residuals, of mean about 0.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from winnow.evaluation.robustness import Accuracy, Line, effective_robustness, fit_line
from winnow.evaluation.study.estimates import Estimate, over_seeds
from winnow.evaluation.study.reading import Cell, Study
from winnow.types import InputError

FEWEST = 3
"""Baseline cells of different accuracy, for a line that has residuals."""
MEAN = "mean"
"""The row over all shifts."""


@dataclass(frozen=True, kw_only=True)
class CellAtShift:
    """One cell under one shift; fractions."""

    method: str
    axis: str
    level: str
    seed: int
    x: float
    """Accuracy without the shift."""
    x_n: int
    """Pictures."""
    y: float
    """Accuracy under it."""
    y_n: int
    value: float
    """ρ."""
    half_width: float
    """Of its 95 % interval."""
    expected: float
    """Accuracy under the shift by the line."""
    extrapolated: bool


@dataclass(frozen=True, kw_only=True)
class ShiftTable:
    """One shift with its line and all cells."""

    shift: str
    in_distribution: str
    slope: float | None = None
    """Of the line on logit axes; None, as are the next five, where there is no line."""
    intercept: float | None = None
    low: float | None = None
    """The range of accuracies that it was fitted on, with `high`."""
    high: float | None = None
    r_squared: float | None = None
    scatter: float | None = None
    """How far one baseline cell lies from it under the shift, standard deviation."""
    cells: tuple[CellAtShift, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RobustnessRow:
    """One method under one shift, or in the mean over shifts."""

    shift: str
    in_distribution: str
    """The set without the shift; empty of the mean over shifts."""
    method: str
    cells: int
    """Whose mean it is."""
    mean: Estimate | None
    """ρ; None where seeds share no level."""
    difference: Estimate | None
    """To the baseline's ρ; None of the baseline itself, and where no cells are paired."""
    note: str = ""
    """What was left out."""


def shift_tables(study: Study) -> tuple[list[ShiftTable], list[RobustnessRow]]:
    """Both empty where the study names no shift."""
    tables = [_table(study, without, shift) for shift, without in study.facts.shifts.items()]
    rows = [
        row
        for table in tables
        for row in _rows(study, table.shift, table.in_distribution, _by_method(table.cells))
    ]
    fitted = [table for table in tables if table.cells]
    if len(fitted) > 1:
        rows += _rows(study, MEAN, "", _mean_over(fitted))
    return tables, rows


_Place = tuple[str, str, int]
"""Axis, level and seed."""


def _table(study: Study, without: str, shift: str) -> ShiftTable:
    found = {
        key: (_accuracy(cell, without), _accuracy(cell, shift))
        for key, cell in study.cells.items()
        if without in cell.accuracies and shift in cell.accuracies
    }
    points = [pair for key, pair in found.items() if key[0] == study.facts.baseline]
    table = ShiftTable(shift=shift, in_distribution=without)
    if len({accuracy.value for accuracy, _ in points}) < FEWEST:
        note = f"not measured: the line needs {FEWEST} baseline cells of different accuracy"
        return replace(table, note=note)
    try:
        line = fit_line(points, source=f"the {len(points)} cells of {study.facts.baseline}")
    except InputError as error:
        return replace(table, note=f"not measured: {error}")
    return replace(
        table,
        slope=line.slope,
        intercept=line.intercept,
        low=line.low,
        high=line.high,
        r_squared=line.r_squared,
        scatter=line.scatter,
        cells=tuple(_at(key, *pair, line) for key, pair in found.items()),
    )


def _accuracy(cell: Cell, task: str) -> Accuracy:
    row = cell.accuracies[task]
    return Accuracy(row.value, row.n)


def _at(
    key: tuple[str, str, str, int], accuracy_in: Accuracy, accuracy_shift: Accuracy, line: Line
) -> CellAtShift:
    method, axis, level, seed = key
    found = effective_robustness(accuracy_in, accuracy_shift, line)
    return CellAtShift(
        method=method,
        axis=axis,
        level=level,
        seed=seed,
        x=accuracy_in.value,
        x_n=accuracy_in.n,
        y=accuracy_shift.value,
        y_n=accuracy_shift.n,
        value=found.value,
        half_width=found.half_width,
        expected=found.expected,
        extrapolated=found.extrapolated,
    )


def _by_method(cells: Sequence[CellAtShift]) -> dict[str, dict[_Place, float]]:
    found: dict[str, dict[_Place, float]] = {}
    for cell in cells:
        found.setdefault(cell.method, {})[cell.axis, cell.level, cell.seed] = cell.value
    return found


def _mean_over(tables: Sequence[ShiftTable]) -> dict[str, dict[_Place, float]]:
    """Of the cells that every shift has."""
    each = [_by_method(table.cells) for table in tables]
    return {
        method: {
            place: statistics.fmean(one[method][place] for one in each)
            for place in each[0][method]
            if all(place in one.get(method, {}) for one in each)
        }
        for method in each[0]
    }


def _rows(
    study: Study, shift: str, without: str, by_method: Mapping[str, Mapping[_Place, float]]
) -> list[RobustnessRow]:
    base = by_method.get(study.facts.baseline, {})
    rows = []
    for method in study.facts.methods:
        own = by_method.get(method, {})
        if not own:
            continue
        kept = _of_shared_levels(own)
        gains = _of_shared_levels(
            {place: own[place] - base[place] for place in own if place in base}
        )
        is_other = method != study.facts.baseline
        rows.append(
            RobustnessRow(
                shift=shift,
                in_distribution=without,
                method=method,
                cells=len(kept),
                mean=over_seeds(_by_seed(kept)) if kept else None,
                difference=over_seeds(_by_seed(gains)) if gains and is_other else None,
                note=_left_out(len(own), len(kept)),
            )
        )
    return rows


def _of_shared_levels(values: Mapping[_Place, float]) -> dict[_Place, float]:
    """Those at the levels that all seeds have."""
    seeds = {seed for _, _, seed in values}
    return {
        (axis, level, seed): value
        for (axis, level, seed), value in values.items()
        if all((axis, level, other) in values for other in seeds)
    }


def _left_out(cells: int, kept: int) -> str:
    if kept == cells:
        return ""
    if not kept:
        return "not measured: its seeds share no level"
    return f"{cells - kept} of {cells} cells left out: not all seeds have their levels"


def _by_seed(values: Mapping[_Place, float]) -> list[float]:
    """The mean of each seed's cells."""
    seeds = sorted({seed for _, _, seed in values})
    return [
        statistics.fmean(value for place, value in values.items() if place[2] == seed)
        for seed in seeds
    ]
