"""What is refused before a run begins, with the reason: data, targets and folders that do not fit.

A folder remembers the recipe and the data that its run began with; it goes on with these alone.
"""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from winnow.config import differences, load
from winnow.data.concept_targets import ConceptTargets
from winnow.data.mixture import Mixture
from winnow.data.selection import Selection
from winnow.distributed import World
from winnow.models.towers import Towers
from winnow.objectives import Rule, SigLIP
from winnow.training.recipe import Recipe, Runtime
from winnow.types import InputError

RECIPE_FILE, DATA_FILE = "recipe.json", "data.json"


def refuse_wrong_targets(
    recipe: Recipe, selection: Selection | Mixture, targets: ConceptTargets | None
) -> None:
    """Refuse targets without heads, heads without targets, and another selection's targets."""
    if recipe.concept_distillation is None and targets is not None:
        raise InputError(
            f"the concept targets in {targets.folder} are for a recipe with concept distillation, "
            "which this one has not: take `diht`, or leave them out"
        )
    if recipe.concept_distillation is not None and targets is None:
        raise InputError(
            "the recipe distils a teacher's concepts, and no targets are given: make them with "
            f"`winnow concepts {_directory(selection)} --teacher NAME`"
        )
    if targets is not None and isinstance(selection, Mixture):
        raise InputError(
            f"the concept targets in {targets.folder} are one selection's, and a mixture has "
            "several: curate the sources into one folder, and make targets of its selection"
        )
    if targets is not None and targets.facts.selection_fingerprint != selection.fingerprint:
        made_from = targets.facts.selection_fingerprint[:12]
        raise InputError(
            f"the concept targets in {targets.folder} are those of the selection "
            f"{targets.facts.selection!r} ({made_from}), not of {_directory(selection)} "
            f"({selection.fingerprint[:12]}): make its own with "
            f"`winnow concepts {_directory(selection)} --teacher NAME`"
        )


def _directory(selection: Selection | Mixture) -> str:
    return str(selection.directory) if isinstance(selection, Selection) else "SELECTION"


def refuse_few_pairs(recipe: Recipe, selection: Selection | Mixture) -> None:
    """Refuse a selection that does not fill a batch."""
    if selection.largest_batch < recipe.batch_size:
        raise InputError(
            f"{selection.description} has too few pairs for a batch of {recipe.batch_size}: with "
            f"more than {selection.largest_batch} one would be its own negative. Lower --batch-size"
        )


def refuse_unmeasured(recipe: Recipe, *, judged: bool, validated: bool) -> None:
    """Refuse to choose the best, or to evaluate, by what nobody measures."""
    runtime = recipe.runtime
    asked = {"best_by": runtime.best_by is not None, "evaluate_every": runtime.evaluate_every > 0}
    for name, is_asked in asked.items():
        if is_asked and not judged and not validated:
            raise InputError(
                f"--runtime.{name.replace('_', '-')} is set and there is nothing to evaluate on: "
                "give --tasks, or held-out pairs as --validation"
            )
    if runtime.best_by not in (None, "validation_loss") and not judged:
        raise InputError(
            f"best_by {runtime.best_by!r} is not measured without --tasks: there is validation_loss"
        )


def refuse_unshared_batch(recipe: Recipe, world: World) -> None:
    """Refuse a batch that the ranks cannot share evenly, or not in so many micro-batches."""
    if recipe.batch_size % world.size:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be shared by {world.size} processes: take a "
            f"multiple, such as --batch-size {-(-recipe.batch_size // world.size) * world.size}"
        )
    if recipe.micro_batches > recipe.batch_size // world.size:
        raise InputError(
            f"{recipe.micro_batches} micro_batches cannot share the "
            f"{recipe.batch_size // world.size} pairs of a process"
        )


def refuse_another_run(out: Path, recipe: Recipe, data: dict[str, Any]) -> None:
    """Refuse a folder that holds a run of another recipe or on other data."""
    if not (out / RECIPE_FILE).is_file():
        return
    before = load(Recipe, out / RECIPE_FILE)
    changed = differences(replace(before, runtime=Runtime()), replace(recipe, runtime=Runtime()))
    data_before = json.loads((out / DATA_FILE).read_text())
    if data_before["fingerprint"] != data["fingerprint"]:
        changed.append(f"data: {_describe(data_before)} -> {_describe(data)}")
    concepts, concepts_before = data["concepts"], data_before.get("concepts")
    if concepts and concepts_before and concepts_before["sha256"] != concepts["sha256"]:
        changed.append(
            f"concept targets: {_describe_concepts(concepts_before)} -> "
            f"{_describe_concepts(concepts)}"
        )
    if data["captions"] != data_before.get("captions"):
        changed.append("captions: other alternatives, or none")
    if changed:
        raise InputError(
            f"{out} holds a run of another recipe or selection ({'; '.join(changed)}): "
            "give it back what it began with, or choose another --out"
        )


def data_facts(
    selection: Selection | Mixture, targets: ConceptTargets | None, captions: Any
) -> dict[str, Any]:
    """What a folder remembers of the data that its run began with."""
    return {
        "selection": selection.description
        if isinstance(selection, Mixture)
        else str(selection.directory),
        "fingerprint": selection.fingerprint,
        "pairs": len(selection),
        "concepts": None if targets is None else _concept_facts(targets),
        "captions": None if captions is None else captions.fingerprint,
        "sources": _sources(selection),
    }


def _sources(selection: Selection | Mixture) -> list[dict[str, Any]]:
    """What a mixture is made of; nothing where there is one selection."""
    if isinstance(selection, Selection):
        return []
    parts = zip(selection.names, selection.selections, selection.weights, strict=True)
    return [
        {
            "name": name,
            "selection": str(one.directory),
            "fingerprint": one.fingerprint,
            "pairs": len(one),
            "weight": str(weight),
        }
        for name, one, weight in parts
    ]


def _concept_facts(targets: ConceptTargets) -> dict[str, str]:
    return {
        "folder": str(targets.folder),
        "teacher": targets.facts.teacher,
        "teacher_identity": targets.facts.teacher_identity,
        "vocabulary": targets.facts.vocabulary,
        "sha256": targets.sha256,
    }


def _describe(data: dict[str, Any]) -> str:
    return f"{data['pairs']} pairs of {data['selection']} ({data['fingerprint'][:12]})"


def _describe_concepts(concepts: dict[str, str]) -> str:
    return f"{concepts['folder']} by {concepts['teacher']} ({concepts['sha256'][:12]})"


def warn_of_sigmoids_without_bias(objective: Rule, towers: Towers) -> None:
    """A comparison with SigLIP is unfair where it starts without what its paper gives it."""
    if isinstance(objective, SigLIP) and towers.clip.logit_bias is None:
        warnings.warn(
            "SigLIP trains here without a bias, so its many negatives swamp the start: "
            "--model.logit-bias -10 --model.logit-scale 2.303 is what its paper starts from",
            stacklevel=3,
        )
