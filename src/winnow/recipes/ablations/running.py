"""Run a study: make its data, tune, train and measure every cell that is not done, and tell.

    STUDY/study.json    the methods, axes and tasks, for whoever reads the cells
    STUDY/tuned.json    every trial's score, and what was chosen
    STUDY/tables.json, tables.md, study.html    what the cells that are there say
    STUDY/data/, STUDY/features/, STUDY/tuning/, STUDY/cells/

Whatever is stopped goes on by the same command. What a cell began with it keeps: another recipe or
other data for it is refused with the difference, before anything runs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from winnow.config import write_json
from winnow.data.folder import Folder, claimed
from winnow.evaluation.protocols import Protocols
from winnow.evaluation.sets import splits_of
from winnow.evaluation.study.tables import (
    as_json,
    markdown,
    rich_tables,
    study_tables,
    write_study_tables,
)
from winnow.progress import track
from winnow.recipes.ablations.cells import Cell, cells_of
from winnow.recipes.ablations.changes import Fields
from winnow.recipes.ablations.data import Prepared, make_targets, prepare
from winnow.recipes.ablations.study import BASE, Study, TrainingData, Tuning
from winnow.recipes.ablations.tuning import account, cells_of_trial, score, trials_of
from winnow.recipes.ablations.work import Job
from winnow.recipes.ablations.workers import carry_out
from winnow.reports.study import study_page
from winnow.types import InputError

Say = Callable[..., None]

TABLES_STEM = "tables"
PAGE_FILE = "study.html"
STUDY_FILE, TUNED_FILE = "study.json", "tuned.json"
CELLS, TRIALS = "cells", "tuning"


def run_study(study: Study, out: Path, *, jobs: int = 1, say: Say) -> None:
    """Do all of `study` that is not done in the folder `out`, `jobs` cells at a time.

    With `jobs` processes on a GPU all share it. Cells that fail are told in a line each and do not
    stop the others. Raises InputError in the end where any failed, and at once where a cell in
    `out` was begun with another recipe or other data; KeyboardInterrupt once what was under way is
    saved. A script that calls this needs the usual `if __name__ == "__main__"`.
    """
    _refuse_missing_sets(study)
    planned = facts(study, {})
    with claimed(out, doing="running a study in"):
        maker = _Maker(study, out, say, jobs=jobs)
        write_json(out / STUDY_FILE, planned)
        tuned: dict[str, Fields] = {}
        if study.tuning is not None:
            told = _tune(study, study.tuning, maker, out, jobs=jobs, say=say)
            tuned = {method: one["chosen"] for method, one in told["methods"].items()}
        write_json(out / STUDY_FILE, facts(study, tuned))
        cells = cells_of(study, tuned)
        failed = _run([maker.job(cell) for cell in cells], what="cells", processes=jobs, say=say)
        _tell(out, say)
        _refuse_failed(failed, what="cells")


def run_tuning(study: Study, out: Path, *, jobs: int = 1, say: Say) -> dict[str, Any]:
    """The trials of `study` alone, as far as they are not done; what tuned.json says of them.

    For constants that are chosen once and written down: `methods.*.chosen` are the fields that each
    method takes. Raises what `run_study` raises, and InputError where nothing is to be tuned.
    """
    if study.tuning is None:
        raise InputError("the study has no tuning: give it one, with a grid for every method")
    _refuse_missing_sets(study)
    with claimed(out, doing="tuning in"):
        return _tune(
            study, study.tuning, _Maker(study, out, say, jobs=jobs), out, jobs=jobs, say=say
        )


def facts(study: Study, tuned: Mapping[str, Fields]) -> dict[str, Any]:
    """What study.json says; `tuned` are the fields chosen for each method."""
    return {
        "methods": list(study.names),
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "axes": {
            axis.name: {
                "levels": [level.name for level in axis.levels],
                "values": [level.value for level in axis.levels],
                "base": axis.base,
            }
            for axis in study.axes
        },
        "tasks": list(study.tasks),
        "probes": list(study.probes),
        "shifts": dict(study.shifts),
        "counted": None if study.counted is None else list(study.counted),
        "claims": None if study.claims is None else list(study.claims),
        "tuned": {method: dict(fields) for method, fields in tuned.items()},
        "cells": [cell.name for cell in cells_of(study, tuned)],
    }


def _refuse_missing_sets(study: Study) -> None:
    """What is not there is said before hours of training."""
    trained = {} if study.tuning is None else study.tuning.tasks
    for place in (*study.tasks.values(), *trained.values()):
        splits_of(place)
    for name, place in study.probes.items():
        if "train" not in splits_of(place):
            raise InputError(f"the probes of {name!r} need a training split, and {place} has none")


class _Maker:
    """Makes jobs of cells; data and targets that several need are made once."""

    def __init__(self, study: Study, out: Path, say: Say, *, jobs: int) -> None:
        self._study, self._out, self._say, self._jobs = study, out, say, jobs
        self._data: dict[TrainingData, Prepared] = {}
        self._targets: dict[TrainingData, Path] = {}

    def job(self, cell: Cell) -> Job:
        """One that measures the study's tasks. Raises InputError; see Job.refuse."""
        study = self._study
        folder = self._out / CELLS / cell.name
        probing = study.probing
        if cell.axis != BASE and study.probing_along_axes is not None:
            probing = study.probing_along_axes
        return self._job(cell, folder, tasks=study.tasks, probes=study.probes, probing=probing)

    def trial(self, cell: Cell) -> Job:
        """One that measures the validation sets of the tuning, and nothing else."""
        assert self._study.tuning is not None
        folder = self._out / TRIALS / cell.name
        tasks = self._study.tuning.tasks
        return self._job(cell, folder, tasks=tasks, probes={}, probing=Protocols())

    def _job(self, cell: Cell, folder: Path, **measured: Any) -> Job:
        data = self._prepared(cell.data)
        distils = cell.recipe.concept_distillation is not None
        job = Job(
            cell=cell,
            folder=folder,
            data=data,
            targets=self._targets_of(cell.data, data) if distils else None,
            beside=self._jobs - 1,
            **measured,
        )
        job.refuse()
        return job

    def _prepared(self, data: TrainingData) -> Prepared:
        if data not in self._data:
            self._data[data] = prepare(data, self._out)
        return self._data[data]

    def _targets_of(self, data: TrainingData, made: Prepared) -> Path:
        if data not in self._targets:
            asked = self._study.concepts
            folder = make_targets(made.selection, self._out, asked, say=self._say)
            self._targets[data] = folder
        return self._targets[data]


def _tune(
    study: Study, tuning: Tuning, maker: _Maker, out: Path, *, jobs: int, say: Say
) -> dict[str, Any]:
    """Every trial's score, and what was chosen for every method."""
    trials = trials_of(study)
    todo = {
        (trial.method, trial.number): [
            maker.trial(cell) for cell in cells_of_trial(study, tuning, trial)
        ]
        for trial in trials
    }
    every = [job for some in todo.values() for job in some]
    _refuse_failed(_run(every, what="trials", processes=jobs, say=say), what="trials")
    scores: dict[str, list[float]] = {method: [] for method in study.names}
    for (method, _), some in todo.items():
        scores[method].append(score([job.evaluation for job in some], tuning))
    told = account(tuning, trials, scores)
    write_json(out / TUNED_FILE, told)
    return told


def _run(jobs: Sequence[Job], *, what: str, processes: int, say: Say) -> list[str]:
    """Carry out those that are not done; the names of those that failed."""
    todo = [job for job in jobs if not job.is_done()]
    bar = track(what, total=len(jobs), unit=what, done=len(jobs) - len(todo))
    failed: list[str] = []
    with closing(carry_out(todo, processes=processes)) as outcomes, bar as advance:
        for outcome in outcomes:
            job = todo[outcome.number]
            if outcome.error is not None:
                failed.append(job.cell.name)
                say(f"{job.cell.name} failed: {outcome.error} (see {job.log})", markup=False)
            advance(1, job.cell.name)
    return failed


def _refuse_failed(failed: Sequence[str], *, what: str) -> None:
    if failed:
        raise InputError(
            f"{len(failed)} of the {what} failed ({', '.join(failed)}); the same command goes on "
            "with these"
        )


def _tell(out: Path, say: Say) -> None:
    """What the cells that are there say, on the terminal and in files."""
    tables = study_tables(out)
    for table in rich_tables(tables):
        say(table)
    for problem in tables.problems:
        say(problem, markup=False)
    write_study_tables(tables, out / f"{TABLES_STEM}.json")
    with Folder.at(out).writing(f"{TABLES_STEM}.md") as path:
        path.write_text(markdown(tables), encoding="utf-8")
    page = study_page(as_json(tables), out / PAGE_FILE)
    say(f"tables: {out / TABLES_STEM}.json, {out / TABLES_STEM}.md; page: {page}", markup=False)
