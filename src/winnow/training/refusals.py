"""What is refused before a run begins, with the reason: data, targets and folders that do not fit.

A folder remembers the recipe and the data that its run began with; it goes on with these alone.
"""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from winnow.config import differences, load
from winnow.data.concept_targets import ConceptTargets
from winnow.data.selection import Selection
from winnow.models.towers import Towers
from winnow.objectives import Rule, SigLIP
from winnow.training.recipe import Recipe, Runtime
from winnow.types import InputError

RECIPE_FILE, DATA_FILE = "recipe.json", "data.json"


def refuse_wrong_targets(
    recipe: Recipe, selection: Selection, targets: ConceptTargets | None
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
            f"`winnow concepts {selection.directory} --teacher NAME`"
        )
    if targets is not None and targets.facts.selection_fingerprint != selection.fingerprint:
        made_from = targets.facts.selection_fingerprint[:12]
        raise InputError(
            f"the concept targets in {targets.folder} are those of the selection "
            f"{targets.facts.selection!r} ({made_from}), not of {selection.directory} "
            f"({selection.fingerprint[:12]}): make its own with "
            f"`winnow concepts {selection.directory} --teacher NAME`"
        )


def refuse_few_pairs(recipe: Recipe, selection: Selection) -> None:
    """Refuse a selection that does not fill a batch."""
    if len(selection) < recipe.batch_size:
        raise InputError(
            f"the selection in {selection.directory} has {len(selection)} pairs, fewer than a "
            f"batch of {recipe.batch_size}: a pair would be its own negative. Lower --batch-size"
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
    if changed:
        raise InputError(
            f"{out} holds a run of another recipe or selection ({'; '.join(changed)}): "
            "give it back what it began with, or choose another --out"
        )


def data_facts(selection: Selection, targets: ConceptTargets | None) -> dict[str, Any]:
    """What a folder remembers of the data that its run began with."""
    return {
        "selection": str(selection.directory),
        "fingerprint": selection.fingerprint,
        "pairs": len(selection),
        "concepts": None if targets is None else _concept_facts(targets),
    }


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


def refuse_batch_statistics(towers: nn.Module, micro_batches: int) -> None:
    """With batch normalisation a picture's embedding depends on its micro-batch: not exact."""
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in towers.modules())
    if micro_batches > 1 and has_batch_norm:
        raise InputError(
            f"the towers use batch normalisation, so {micro_batches} micro_batches would not give "
            "the gradient of the whole batch: use micro_batches 1 or towers without it"
        )


def warn_of_sigmoids_without_bias(objective: Rule, towers: Towers) -> None:
    """A comparison with SigLIP is unfair where it starts without what its paper gives it."""
    if isinstance(objective, SigLIP) and towers.clip.logit_bias is None:
        warnings.warn(
            "SigLIP trains here without a bias, so its many negatives swamp the start: "
            "--model.logit-bias -10 --model.logit-scale 2.303 is what its paper starts from",
            stacklevel=3,
        )
