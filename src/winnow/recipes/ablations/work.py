"""What one process does for one cell: train, evaluate, and say that it is done."""

import hashlib
import shutil
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from winnow.config import read_json, write_json
from winnow.data.concept_targets import ConceptTargets
from winnow.data.selection import Selection
from winnow.evaluation.evaluate import FIT_NOTHING, Evaluation
from winnow.evaluation.protocols import Protocols
from winnow.recipes.ablations.cells import Cell, recipe_hash
from winnow.recipes.ablations.data import Prepared
from winnow.recipes.ablations.study import Sets
from winnow.recipes.evaluate import evaluate_model
from winnow.training.metrics import read_metrics
from winnow.training.refusals import data_facts, refuse_another_run, refuse_few_pairs
from winnow.training.run import CHECKPOINTS, MODEL_FOLDER, train
from winnow.types import InputError

CELL_FILE, RUN_FOLDER, LOG_FILE = "cell.json", "run", "log.txt"
_EMBEDDINGS = "embeddings"
_BESIDE = "beside"
"""Of a cell's folder: there where any of its training was beside another's, whoever ends it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell with all that a process needs for it; it can be pickled."""

    cell: Cell
    folder: Path
    data: Prepared
    targets: Path | None
    """A teacher's concepts, for a recipe that distils them."""
    tasks: Sets
    probes: Sets
    probing: Protocols
    beside: int = 0
    """Cells that may be trained beside it at the same time."""

    @property
    def run(self) -> Path:
        """The folder of its training run."""
        return self.folder / RUN_FOLDER

    @property
    def evaluation(self) -> Path:
        """The folder of its results."""
        return self.run / "evaluation"

    @property
    def log(self) -> Path:
        """What is said while it is at work."""
        return self.folder / LOG_FILE

    @property
    def measured(self) -> str:
        """16 hex digits of what is measured: which sets, where, and how."""
        asked = [sorted((name, str(place)) for name, place in sets.items()) for sets in self._sets]
        return hashlib.sha256(repr((asked, self.probing)).encode()).hexdigest()[:16]

    @property
    def _sets(self) -> tuple[Sets, Sets]:
        return self.tasks, self.probes

    def is_done(self) -> bool:
        """Whether it was trained and measured, by what is asked for now."""
        path = self.folder / CELL_FILE
        return path.is_file() and read_json(path).get("measured") == self.measured

    def refuse(self) -> None:
        """Raise InputError where it cannot run, or its folder holds another recipe or data."""
        selection, targets = self._opened()
        refuse_few_pairs(self.cell.recipe, selection)
        facts = data_facts(selection, targets, None)
        refuse_another_run(self.run, self.cell.recipe, facts)

    def do(self) -> None:
        """Train and evaluate what is not yet; a run that is stopped goes on where it was.

        Of what is there in the end, checkpoints and features go: model, metrics, results and
        predictions stay.
        """
        selection, targets = self._opened()
        if self.beside and not (self.run / MODEL_FOLDER).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _BESIDE).touch()
        train(self.cell.recipe, selection, self.run, targets=targets)
        self._evaluate()
        shutil.rmtree(self.run / CHECKPOINTS, ignore_errors=True)
        shutil.rmtree(self.evaluation / _EMBEDDINGS, ignore_errors=True)
        write_json(self.folder / CELL_FILE, self._facts(len(selection)))

    def _opened(self) -> tuple[Selection, ConceptTargets | None]:
        targets = None if self.targets is None else ConceptTargets.open(self.targets)
        return Selection.open(self.data.selection), targets

    def _evaluate(self) -> None:
        for sets, protocols in ((self.tasks, FIT_NOTHING), (self.probes, self.probing)):
            if sets:
                device = self.cell.recipe.runtime.device
                done = evaluate_model(
                    str(self.run),
                    sets,
                    out=self.evaluation,
                    protocols=protocols,
                    device=device,
                )
                _refuse_gaps(done, sets, protocols.names)

    def _facts(self, pairs: int) -> dict[str, Any]:
        cell, recipe = self.cell, self.cell.recipe
        rows = read_metrics(self.run)
        return {
            "name": cell.name,
            "method": cell.method,
            "axis": cell.axis,
            "level": cell.level,
            "seed": cell.seed,
            "pairs": pairs,
            "noise": self.data.noise,
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
            "samples": recipe.steps * recipe.batch_size,
            "seconds_per_step": statistics.median(
                recipe.batch_size / row["samples_per_second"] for row in rows
            ),
            "peak_memory_gb": max(row["memory_gb"] for row in rows),
            "alone": not (self.folder / _BESIDE).exists(),
            "parameters": _parameters(self.run / MODEL_FOLDER),
            "recipe_hash": recipe_hash(recipe),
            "measured": self.measured,
        }


def _refuse_gaps(done: Evaluation, sets: Sets, protocols: Iterable[str]) -> None:
    """Raise InputError where something was asked for and not measured: no table may have holes."""
    measured = {(row.task, row.protocol) for row in done.results}
    tasks = {task for task, _ in measured}
    gaps = [f"{one.task}: {one.why}" for one in done.skipped if one.is_missing or one.is_broken]
    gaps += [f"{name}: nothing measures it" for name in sets if name not in tasks]
    gaps += [
        f"{name}: no {protocol}"
        for name in sets
        for protocol in protocols
        if name in tasks and (name, protocol) not in measured
    ]
    if gaps:
        raise InputError(
            f"not all was measured: {'; '.join(gaps)}; mend the sets or leave them out"
        )


def _parameters(model: Path) -> int:
    """Weights of both towers; heads that learn concepts are no part of the model."""
    count = 0
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no dict
                size = 1
                for length in file.get_slice(name).get_shape():
                    size *= length
                count += size
    return count
