"""Tuning: every method gets the same number of trials, on validation sets, and keeps its best.

A trial is a cell of its own folder, STUDY/tuning, which measures the validation sets alone; the
study's tasks are not opened before the choice is made. STUDY/tuned.json has every trial's score.
"""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from winnow.evaluation.results import Result, read_results
from winnow.recipes.ablations.cells import Cell
from winnow.recipes.ablations.changes import Fields, with_fields
from winnow.recipes.ablations.study import TUNING, Study, Tuning
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One combination of a method's grid, trained once for every seed of the tuning."""

    method: str
    number: int
    fields: Fields

    @property
    def level(self) -> str:
        """What its cells are called."""
        return f"trial{self.number:02d}"


def trials_of(study: Study) -> tuple[Trial, ...]:
    """Every method's trials, in the order of its grid; none where nothing is tuned."""
    if study.tuning is None:
        return ()
    return tuple(
        Trial(method=method, number=number, fields=fields)
        for method in study.names
        for number, fields in enumerate(_combinations(study.tuning.grids[method]))
    )


def cells_of_trial(study: Study, tuning: Tuning, trial: Trial) -> Iterator[Cell]:
    """One cell for every seed of the tuning."""
    method = next(method for method in study.methods if method.name == trial.method)
    for seed in tuning.seeds:
        recipe = method.of(replace(study.base, seed=seed))
        recipe = with_fields(recipe, tuning.fields, where="the fields of the tuning")
        recipe = with_fields(recipe, trial.fields, where=f"the grid of {trial.method!r}")
        yield Cell(
            method=trial.method,
            axis=TUNING,
            level=trial.level,
            seed=seed,
            recipe=recipe,
            data=study.data,
        )


def score(evaluations: Sequence[Path], tuning: Tuning) -> float:
    """The mean of the metric over tasks and seeds; `evaluations` are one trial's folders.

    Raises InputError where a task has no such metric.
    """
    return statistics.fmean(
        _value(read_results(folder), task, tuning.metric)
        for folder in evaluations
        for task in tuning.tasks
    )


def choose(scores: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """The number of each method's best trial; of equals the first."""
    return {
        method: max(range(len(values)), key=lambda number: (values[number], -number))
        for method, values in scores.items()
    }


def account(
    tuning: Tuning, trials: Sequence[Trial], scores: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """What tuned.json says: what was tried, what came of it, and what was chosen."""
    chosen = choose(scores)
    return {
        "budget": tuning.budget,
        "tasks": list(tuning.tasks),
        "metric": tuning.metric or "main",
        "seeds": list(tuning.seeds),
        "fields": dict(tuning.fields),
        "methods": {
            method: {
                "chosen": dict(_of(trials, method)[number].fields),
                "score": scores[method][number],
                "trials": [
                    {"fields": dict(trial.fields), "score": value}
                    for trial, value in zip(_of(trials, method), scores[method], strict=True)
                ],
            }
            for method, number in chosen.items()
        },
    }


def _of(trials: Sequence[Trial], method: str) -> list[Trial]:
    return [trial for trial in trials if trial.method == method]


def _combinations(grid: Mapping[str, tuple[object, ...]]) -> Iterator[Fields]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _value(results: Sequence[Result], task: str, metric: str | None) -> float:
    of_task = [row for row in results if row.task == task]
    found = [
        row.value for row in of_task if (row.is_main if metric is None else row.metric == metric)
    ]
    if not found:
        there = ", ".join(dict.fromkeys(row.metric for row in of_task)) or "nothing"
        wanted = "main metric" if metric is None else f"metric {metric!r}"
        raise InputError(f"the tuning's task {task!r} has no {wanted}; it has {there}")
    return statistics.fmean(found)
