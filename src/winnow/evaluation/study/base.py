"""The base table: every method in every number, seed by seed against the baseline.

Equal seeds are equal weights at first, equal order and equal chance, so what is compared is the
difference of the two cells of one seed. Of each number there are two intervals: over seeds, which
speaks of these pictures, and over seeds and pictures, which speaks of others of their kind too and
decides where there is one. Holm's correction is over the numbers of one family and method.

A family's macro mean is one number per seed, over the tasks that all cells compared have. Its
interval holds the pictures of its tasks: those of different sets vary by themselves, those of one
set are taken to vary together, the careful side.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from winnow.evaluation.study.estimates import (
    Estimate,
    Part,
    over_seeds,
    over_seeds_and_parts,
    over_seeds_and_pictures,
    picture_part,
)
from winnow.evaluation.study.pictures import Pair, PictureScores, UnknownScoresError
from winnow.evaluation.study.reading import FAMILIES, OWN_PROBE, Cell, Quantity, Study
from winnow.statistics import holm_adjusted

LEVEL = 0.05
"""Holm-adjusted p below it is a win or a loss."""
Outcome = Literal["win", "loss", "unresolved", "not measured"]


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One method in one number."""

    family: str
    quantity: Quantity
    method: str
    mean: Estimate | None
    """Of the method itself, over its seeds."""
    over_seeds: Estimate | None = None
    """The difference to the baseline; None of the baseline, as is all below."""
    over_both: Estimate | None = None
    adjusted_p: float | None = None
    """Holm's, of what decides."""
    outcome: Outcome = "not measured"
    note: str = ""
    """Why something is missing."""

    @property
    def decides(self) -> Estimate | None:
        """The difference that the outcome goes by."""
        return _with_interval(self.over_both, self.over_seeds)


@dataclass(frozen=True, kw_only=True)
class MacroRow:
    """One method in the mean over a family's tasks."""

    family: str
    method: str
    tasks: int
    """Numbers averaged over."""
    mean: Estimate | None
    """Of the method, over the seeds that are compared."""
    over_seeds: Estimate | None = None
    over_both: Estimate | None = None
    wins: int = 0
    losses: int = 0
    unresolved: int = 0
    """Of the family's numbers, after Holm's correction."""
    note: str = ""

    @property
    def decides(self) -> Estimate | None:
        """The difference that a verdict goes by."""
        return _with_interval(self.over_both, self.over_seeds)


def base_tables(study: Study, scores: PictureScores) -> tuple[list[TaskRow], list[MacroRow]]:
    """Both tables, family by family, the baseline first in each."""
    tasks: list[TaskRow] = []
    macros: list[MacroRow] = []
    for family in FAMILIES:
        base = study.seeds_of(study.facts.baseline)
        wanted = list(_every(study, family))
        tasks += [_alone(quantity, study.facts.baseline, base) for quantity in wanted]
        macros += [_macro_alone(family, study.facts.baseline, base.values())] if wanted else []
        for method in study.others:
            cells = study.seeds_of(method)
            pairs = [Pair(base[seed], cells[seed]) for seed in base if seed in cells]
            rows = _adjusted([_against(q, method, cells, pairs, scores) for q in wanted])
            tasks += rows
            if wanted:
                macros.append(_macro(family, method, cells.values(), pairs, scores, rows))
    return tasks, macros


def of_family(quantities: Iterable[Quantity], family: str) -> list[Quantity]:
    """Those that a family is the mean of; of few-shot probes the one that starts from the text."""
    return [
        one
        for one in quantities
        if one.protocol == family and (family != "few-shot" or one.probe == OWN_PROBE)
    ]


def common(cells: Iterable[Cell], family: str) -> tuple[list[Cell], list[Quantity]]:
    """The cells that have anything of a family, and the numbers that all of these have."""
    having = [cell for cell in cells if of_family(cell.numbers, family)]
    if not having:
        return [], []
    shared = [
        one
        for one in of_family(having[0].numbers, family)
        if all(one in cell.numbers for cell in having)
    ]
    return having, shared


def macro_value(cell: Cell, quantities: Sequence[Quantity]) -> float:
    """The mean over numbers that the cell has, at least one."""
    return math.fsum(cell.values(quantities)) / len(quantities)


def macro_difference(
    pairs: Sequence[Pair], quantities: Sequence[Quantity], scores: PictureScores
) -> Estimate:
    """Of the second cells' macro means to the first's, over seeds and pictures.

    Over seeds alone where there are not two of them, or some picture's score is not known.
    """
    values = [
        macro_value(pair.second, quantities) - macro_value(pair.first, quantities) for pair in pairs
    ]
    if len(pairs) > 1:
        with suppress(UnknownScoresError):
            parts = picture_parts(quantities, pairs, scores, [1 / len(pairs)] * len(pairs))
            return over_seeds_and_parts(values, parts)
    return over_seeds(values)


def picture_parts(
    quantities: Sequence[Quantity],
    pairs: Sequence[Pair],
    scores: PictureScores,
    weight_P: Sequence[float],
) -> list[Part]:
    """What other pictures of every set would change in Σ_p weight_p (difference of pair p).

    The difference is of the mean over `quantities`. Raises UnknownScoresError where some picture's
    score is not known.
    """
    by_set: dict[str, list[Part]] = {}
    for quantity in quantities:
        fingerprint = pairs[0].first.numbers[quantity].dataset_fingerprint
        gain_PC = scores.gains(quantity, pairs)
        if gain_PC.shape[1] < 2:
            raise UnknownScoresError(f"{quantity.task} has one picture alone")
        weighed_1C = np.asarray(weight_P)[None] @ gain_PC
        by_set.setdefault(fingerprint, []).append(picture_part(weighed_1C))
    return [
        Part(
            (math.fsum(math.sqrt(part.variance) for part in parts) / len(quantities)) ** 2,
            min(part.freedom for part in parts),
        )
        for parts in by_set.values()
    ]


def _every(study: Study, family: str) -> dict[Quantity, None]:
    """What any base cell has of a family, in order."""
    return {
        quantity: None
        for method in study.facts.methods
        for cell in study.seeds_of(method).values()
        for quantity in of_family(cell.numbers, family)
    }


def _alone(quantity: Quantity, method: str, cells: dict[int, Cell]) -> TaskRow:
    values = [cell.numbers[quantity].value for cell in cells.values() if quantity in cell.numbers]
    return TaskRow(
        family=quantity.protocol,
        quantity=quantity,
        method=method,
        mean=over_seeds(values) if values else None,
        note="" if values else "not measured",
    )


def _against(
    quantity: Quantity,
    method: str,
    cells: dict[int, Cell],
    pairs: Sequence[Pair],
    scores: PictureScores,
) -> TaskRow:
    row = _alone(quantity, method, cells)
    both = [pair for pair in pairs if all(quantity in cell.numbers for cell in pair)]
    if not both:
        return row if row.note else replace(row, note="the baseline was not measured with its seed")
    differences = [
        pair.second.numbers[quantity].value - pair.first.numbers[quantity].value for pair in both
    ]
    row = replace(row, over_seeds=over_seeds(differences), outcome="unresolved")
    if len(both) == 1:
        return replace(row, note=row.over_seeds.how if row.over_seeds else "")
    try:
        return replace(row, over_both=over_seeds_and_pictures(scores.gains(quantity, both)))
    except UnknownScoresError as error:
        return replace(row, note=f"over seeds alone: {error}")


def _adjusted(rows: Sequence[TaskRow]) -> list[TaskRow]:
    """The rows of one method and family with Holm's p, and who wins by it."""
    p_values = {
        row.quantity: row.decides.p_value
        for row in rows
        if row.decides is not None and row.decides.p_value is not None
    }
    by_quantity = dict(zip(p_values, holm_adjusted(list(p_values.values())), strict=True))
    return [
        replace(row, adjusted_p=p, outcome=_outcome(row.decides, p))
        if (p := by_quantity.get(row.quantity)) is not None
        else row
        for row in rows
    ]


def _outcome(difference: Estimate | None, adjusted_p: float) -> Outcome:
    if difference is None or adjusted_p >= LEVEL:
        return "unresolved"
    return "win" if difference.value > 0 else "loss"


def _macro_alone(family: str, method: str, cells: Iterable[Cell]) -> MacroRow:
    having, shared = common(cells, family)
    if not shared:
        return MacroRow(family=family, method=method, tasks=0, mean=None, note="not measured")
    values = [macro_value(cell, shared) for cell in having]
    return MacroRow(family=family, method=method, tasks=len(shared), mean=over_seeds(values))


def _macro(
    family: str,
    method: str,
    cells: Iterable[Cell],
    pairs: Sequence[Pair],
    scores: PictureScores,
    rows: Sequence[TaskRow],
) -> MacroRow:
    row = replace(
        _macro_alone(family, method, cells),
        wins=sum(one.outcome == "win" for one in rows),
        losses=sum(one.outcome == "loss" for one in rows),
        unresolved=sum(one.outcome == "unresolved" for one in rows),
    )
    having, shared = common([cell for pair in pairs for cell in pair], family)
    both = [pair for pair in pairs if all(cell in having for cell in pair)]
    if not both or not shared:
        return row
    values = [macro_value(pair.second, shared) - macro_value(pair.first, shared) for pair in both]
    row = replace(
        row,
        tasks=len(shared),
        mean=over_seeds([macro_value(pair.second, shared) for pair in both]),
        over_seeds=over_seeds(values),
    )
    left_out = {one.quantity for one in rows} - set(shared)
    if left_out:
        names = ", ".join(sorted({one.task for one in left_out}))
        row = replace(row, note=f"not in every cell, left out: {names}")
    if len(both) == 1:
        return row
    try:
        parts = picture_parts(shared, both, scores, [1 / len(both)] * len(both))
    except UnknownScoresError as error:
        return replace(row, note="; ".join(filter(None, [row.note, f"over seeds alone: {error}"])))
    return replace(row, over_both=over_seeds_and_parts(values, parts))


def _with_interval(*estimates: Estimate | None) -> Estimate | None:
    """The first that has an interval; without any, the first."""
    there = [one for one in estimates if one is not None]
    return next((one for one in there if one.low is not None), there[0] if there else None)
