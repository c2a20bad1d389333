"""What a method costs beside the baseline: the ratio of their base cells, seed by seed.

Ratios are of a step's median seconds and of peak memory, as runs wrote them, and of cells alone
that were trained with no other beside them: what shares a machine slows each other down. They are
of equal work only where all ran on one machine that did nothing else, which nothing here can see.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from winnow.evaluation.study.estimates import Estimate, ratio_over_seeds
from winnow.evaluation.study.reading import Cell, CellFacts, Study

BESIDE = "cells ran beside each other"
_Of = Callable[[CellFacts], float | None]


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One method."""

    method: str
    seconds: float | None
    """Of a step, the median over seeds that ran alone, without any over all; None where none was
    recorded, as is `memory`."""
    memory: float | None
    """GB at most, likewise."""
    time_ratio: Estimate | None
    """To the baseline: geometric mean with its interval. None of the baseline itself, and where
    none of both ran alone with one seed."""
    median_time_ratio: float | None
    memory_ratio: Estimate | None
    note: str = ""
    """Why there is no ratio, or whose it is."""


def cost_table(study: Study) -> list[CostRow]:
    """Every method that has base cells."""
    return [_row(study, name) for name in study.facts.methods if study.seeds_of(name)]


def _row(study: Study, method: str) -> CostRow:
    every, base = study.seeds_of(method), study.seeds_of(study.facts.baseline)
    own, of_base = _alone(every), _alone(base)
    time = _ratios(own, of_base, _seconds)
    space = _ratios(own, of_base, _memory)
    is_other = method != study.facts.baseline
    return CostRow(
        method=method,
        seconds=_median(own or every, _seconds),
        memory=_median(own or every, _memory),
        time_ratio=ratio_over_seeds(time) if time and is_other else None,
        median_time_ratio=statistics.median(time) if time and is_other else None,
        memory_ratio=ratio_over_seeds(space) if space and is_other else None,
        note=_note(every, own, ratios=len(time or space)),
    )


def _seconds(cell: CellFacts) -> float | None:
    return cell.seconds_per_step


def _memory(cell: CellFacts) -> float | None:
    return cell.peak_memory_gb


def _alone(cells: dict[int, Cell]) -> dict[int, Cell]:
    return {seed: cell for seed, cell in cells.items() if cell.facts.alone}


def _note(every: dict[int, Cell], own: dict[int, Cell], *, ratios: int) -> str:
    if all(_seconds(cell.facts) is None and _memory(cell.facts) is None for cell in every.values()):
        return ""
    if not own:
        return BESIDE
    if not ratios:
        return "no cell of the baseline ran alone with its seed"
    return (
        ""
        if ratios == len(every)
        else f"of the {ratios} of {len(every)} seeds whose cells ran alone"
    )


def _median(cells: dict[int, Cell], of: _Of) -> float | None:
    values = [value for cell in cells.values() if (value := of(cell.facts)) is not None]
    return statistics.median(values) if values else None


def _ratios(own: dict[int, Cell], base: dict[int, Cell], of: _Of) -> list[float]:
    """By seed, where both are recorded and above 0."""
    theirs_by_seed = {seed: of(cell.facts) for seed, cell in base.items()}
    return [
        ours / theirs
        for seed, cell in own.items()
        if (ours := of(cell.facts)) and (theirs := theirs_by_seed.get(seed))
        if ours > 0 and theirs > 0
    ]
