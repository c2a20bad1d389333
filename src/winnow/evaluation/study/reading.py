"""The finished cells of a study and what was measured of each.

    STUDY/study.json                        methods, baseline, axes, robustness's sets
    STUDY/cells/NAME/cell.json              which cell it is and what it cost; present means done
    STUDY/cells/NAME/run/evaluation/        results.jsonl, predictions

Of every cell the numbers that its tasks count by are kept (`task_table.py: main_metrics`), few-shot
probes as means over their subsets. Cells are compared in numbers of the same pictures, prompts and
training pictures alone: one that was measured on others than the first cell is left out, and
said so. Accuracies for effective robustness are kept of every set, those that count in no mean too.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from winnow.config import from_dict, read_json
from winnow.evaluation.comparing import FITTED_ON
from winnow.evaluation.results import Result, read_results
from winnow.evaluation.task_table import main_metrics
from winnow.types import InputError

BASE = "base"
"""The axis of cells that are the base level of every axis."""
FAMILIES = ("zero-shot", "retrieval", "linear-probe", "few-shot")
"""Protocols whose tasks are taken together."""
FIT_NOTHING = ("zero-shot", "retrieval")
"""Those of them that are measured without fitting anything."""
OWN_PROBE, PLAIN_PROBE, NO_PROBE = "text-initialised", "from-zero", "zero-shot"
"""Few-shot methods: the one that counts, the one that forgets the text, and none at all."""
EVALUATION = Path("run", "evaluation")
"""Of a cell's folder, where its results are."""

_Facts = TypeVar("_Facts")


class Quantity(NamedTuple):
    """One number that cells can be compared in."""

    task: str
    split: str
    protocol: str
    probe: str
    """Which few-shot probe; else empty."""
    shots: int | None
    metric: str


@dataclass(frozen=True, kw_only=True)
class AxisFacts:
    """An axis as the study says it."""

    levels: tuple[str, ...]
    values: tuple[float | None, ...]
    """Where each level stands; None where levels are kinds."""
    base: str | None = None
    """The level that the base cells are of; None where they are of none."""

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.values):
            raise InputError("an axis needs one value, or null, for each of its levels")


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """What study.json says."""

    methods: tuple[str, ...]
    baseline: str
    axes: dict[str, AxisFacts]
    shifts: dict[str, str] = field(default_factory=dict)
    """The set under each shift, and the one without that it is compared with."""
    counted: tuple[str, ...] | None = None
    """The sets of which zero-shot and retrieval count in tables and means; None: all."""
    claims: tuple[str, ...] | None = None
    """The claims, by name, that the study is to decide; None: all."""
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was chosen for each method."""
    cells: tuple[str, ...] | None = None
    """The cells there are to be; None: those that there are."""

    def counts(self, quantity: "Quantity") -> bool:
        """Whether a number is in tables and means; those of probes always are."""
        if self.counted is None or quantity.protocol not in FIT_NOTHING:
            return True
        return quantity.task in self.counted


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """What cell.json says."""

    name: str
    method: str
    axis: str
    level: str
    seed: int
    pairs: int
    """That it was trained on."""
    noise: float = 0.0
    """The share of them with a wrong caption, where that is known."""
    seconds_per_step: float | None = None
    peak_memory_gb: float | None = None
    alone: bool = False
    """Whether no other cell was trained beside it, so that its cost is its own."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A finished cell."""

    facts: CellFacts
    evaluation: Path
    numbers: Mapping[Quantity, Result]
    """Those that tasks count by, of sets that count."""
    accuracies: Mapping[str, Result]
    """Top-1 of zero-shot on every set, whatever it counts by."""

    def values(self, wanted: Iterable[Quantity]) -> list[float]:
        """Of numbers that it has."""
        return [self.numbers[quantity].value for quantity in wanted]


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that is there of a study."""

    facts: StudyFacts
    cells: Mapping[tuple[str, str, str, int], Cell]
    """By method, axis, level and seed."""
    problems: tuple[str, ...]
    """What is missing or was left out, in sentences."""

    @property
    def others(self) -> tuple[str, ...]:
        """The methods that are compared with the baseline."""
        return tuple(name for name in self.facts.methods if name != self.facts.baseline)

    def seeds_of(self, method: str, axis: str = BASE, level: str = BASE) -> dict[int, Cell]:
        """The cells of a level by seed, in order; a base cell is of the base level of each axis."""
        if axis != BASE and level == self.facts.axes[axis].base:
            axis = level = BASE
        found = {
            seed: cell
            for (name, of, at, seed), cell in self.cells.items()
            if (name, of, at) == (method, axis, level)
        }
        return dict(sorted(found.items()))


def read_study(folder: Path) -> Study:
    """Raises InputError where study.json or what a finished cell holds is missing or damaged."""
    facts = _read(StudyFacts, folder / "study.json")
    _check(facts, folder / "study.json")
    done = sorted((folder / "cells").glob("*/cell.json"))
    problems: list[str] = []
    read = [_read(CellFacts, path) for path in done]
    names = {cell.name for cell in read}
    for name in facts.cells or ():
        if name not in names:
            problems.append(f"the cell {name} is not done")
    cells: dict[tuple[str, str, str, int], Cell] = {}
    first: dict[Quantity, Result] = {}
    for path, cell in zip(done, read, strict=True):
        if why := _not_of(facts, cell):
            problems.append(f"the cell {cell.name} is left out: {why}")
            continue
        key = (cell.method, cell.axis, BASE if cell.axis == BASE else cell.level, cell.seed)
        if key in cells:
            raise InputError(
                f"{path} and another cell are both of {cell.method}, {cell.axis} {cell.level}, "
                f"seed {cell.seed}: delete one of the two folders"
            )
        evaluation = path.parent / EVALUATION
        every, others = _comparable(_newest(evaluation), first)
        problems += [f"the cell {cell.name}: {other}" for other in others]
        cells[key] = Cell(
            facts=cell,
            evaluation=evaluation,
            numbers={
                quantity: row for quantity, row in _main(every).items() if facts.counts(quantity)
            },
            accuracies={
                quantity.task: row
                for quantity, row in every.items()
                if (quantity.protocol, quantity.metric) == ("zero-shot", "top1")
            },
        )
    return Study(facts=facts, cells=cells, problems=tuple(problems))


def _read(kind: type[_Facts], path: Path) -> _Facts:
    """Those fields of a json file that are known here."""
    values = read_json(path)
    if isinstance(values, dict):
        known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
        values = {name: value for name, value in values.items() if name in known}
    return from_dict(kind, values, where=str(path))


def _check(facts: StudyFacts, path: Path) -> None:
    if facts.baseline not in facts.methods:
        raise InputError(
            f"{path}: the baseline {facts.baseline} is not among the methods "
            f"{', '.join(facts.methods)}: name one of them"
        )


def _not_of(facts: StudyFacts, cell: CellFacts) -> str:
    """Why a cell is not of the study; empty where it is."""
    if facts.cells is not None and cell.name not in facts.cells:
        return "study.json does not name it"
    if cell.method not in facts.methods:
        return f"the study has no method {cell.method}"
    if cell.axis == BASE:
        return ""
    if cell.axis not in facts.axes:
        return f"the study has no axis {cell.axis}"
    if cell.level not in facts.axes[cell.axis].levels:
        return f"the axis {cell.axis} has no level {cell.level}"
    return ""


def _newest(evaluation: Path) -> dict[Quantity, Result]:
    """The newest row of every number; of few-shot probes the means over subsets."""
    rows = [row for row in read_results(evaluation) if row.subset is None]
    found: dict[Quantity, Result] = {}
    for row in rows:
        if row.protocol in FAMILIES:
            found[
                Quantity(row.task, row.split, row.protocol, row.method, row.shots, row.metric)
            ] = row
    return found


def _main(found: Mapping[Quantity, Result]) -> dict[Quantity, Result]:
    """The numbers that tasks count by."""
    there: dict[tuple[str, str], set[str]] = {}
    for quantity in found:
        there.setdefault((quantity.task, quantity.protocol), set()).add(quantity.metric)
    main = {which: main_metrics(*which, metrics) for which, metrics in there.items()}
    return {
        quantity: row
        for quantity, row in found.items()
        if quantity.metric in main[quantity.task, quantity.protocol]
    }


def _comparable(
    numbers: Mapping[Quantity, Result], first: dict[Quantity, Result]
) -> tuple[dict[Quantity, Result], list[str]]:
    """The numbers on what the first cell was measured on, and what is said of the others."""
    kept: dict[Quantity, Result] = {}
    others: dict[str, None] = {}
    for quantity, row in numbers.items():
        of_first = first.setdefault(quantity, row)
        if why := "; ".join(_differing(row, of_first)):
            others[f"{quantity.task} ({quantity.protocol}) is left out: {why}"] = None
        else:
            kept[quantity] = row
    return kept, list(others)


def _differing(row: Result, first: Result) -> Iterator[str]:
    if row.dataset_fingerprint != first.dataset_fingerprint:
        yield "its pictures, labels or captions are not those of the first cell"
    if row.prompts != first.prompts:
        yield "its class names or prompts are not those of the first cell"
    for name, words in FITTED_ON.items():
        if row.settings.get(name) != first.settings.get(name):
            yield f"its {words} pictures are not those of the first cell"
    if not math.isclose(row.n, first.n):
        yield f"it is over {row.n:,} pictures, that of the first cell over {first.n:,}"
