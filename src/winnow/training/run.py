"""One training run: from a recipe and a selection to a model, resumable at any step.

The order of the data is a pure function of (selection, seed), so resuming is a step number; with
the optimizer's and torch's random state from the checkpoint, N steps are k steps, a kill, and
N - k steps, bit for bit on a CPU.
"""

import warnings
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from winnow.config import as_dict, write_json
from winnow.data.concept_targets import ConceptTargets
from winnow.data.folder import claimed
from winnow.data.loader import Batch, load_batches
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.models.devices import usable_device
from winnow.models.towers import Towers
from winnow.objectives import ConceptHeads
from winnow.progress import track
from winnow.training.chance import random_state, set_random_state
from winnow.training.checkpoint import Checkpoints
from winnow.training.interrupts import stop_on_signals
from winnow.training.metrics import Clock, MetricsFile, progress_note
from winnow.training.optimizer import build_optimizer, set_learning_rate
from winnow.training.recipe import Recipe
from winnow.training.refusals import (
    DATA_FILE,
    RECIPE_FILE,
    data_facts,
    refuse_another_run,
    refuse_batch_statistics,
    refuse_few_pairs,
    refuse_wrong_targets,
    warn_of_sigmoids_without_bias,
)
from winnow.training.step import StepReport, training_step
from winnow.types import InputError, Interrupted

MODEL_FOLDER = "model"
HEADS_FILE = "concept_heads.safetensors"
"""The heads of a finished run: `{head}.weight` (concepts, D) and `{head}.bias`."""


def train(
    recipe: Recipe, selection: Selection, out: Path, *, targets: ConceptTargets | None = None
) -> Path:
    """Train `recipe` on `selection` in the folder `out`, or go on where it was; the model's folder.

    `targets` are for a recipe with concept distillation, whose heads learn them. A finished run is
    left as it is. Raises Interrupted after saving, when asked to stop by SIGINT or SIGTERM;
    NonFiniteError before a weight moves; InputError where `out` holds another run, the selection
    has no pairs, or the targets are missing or another selection's.
    """
    refuse_wrong_targets(recipe, selection, targets)
    refuse_another_run(out, recipe, data_facts(selection, targets))
    refuse_few_pairs(recipe, selection)
    model_folder = out / MODEL_FOLDER
    if (model_folder / "open_clip_config.json").is_file():
        return model_folder
    torch.manual_seed(recipe.seed)
    device = usable_device(recipe.runtime.device)
    towers = _build(recipe, targets).to(device).train()
    refuse_batch_statistics(towers, recipe.micro_batches)
    warn_of_sigmoids_without_bias(recipe.objective, towers)
    optimizer = build_optimizer(towers, recipe.optimizer, recipe.concept_distillation)
    # Only now is it known that the recipe can be built: a refused one leaves the folder free.
    with claimed(out, doing="training in"):
        write_json(out / DATA_FILE, data_facts(selection, targets))
        write_json(out / RECIPE_FILE, as_dict(recipe))
        checkpoints = Checkpoints(out / "checkpoints", keep=recipe.runtime.keep_checkpoints)
        first_step = _restore(checkpoints, towers, optimizer)
        run = _Run(recipe, towers, optimizer, checkpoints, device)
        # Closing ends the workers, which leave every signal to this process.
        loading = closing(_batches(recipe, selection, targets, towers, first_step))
        with MetricsFile(out, resumed_at=first_step) as metrics, loading as batches:
            run.go(batches, metrics, first_step)
        _save_heads(towers, out / HEADS_FILE)
        towers.export(model_folder)
    return model_folder


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    towers: Towers
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    device: torch.device

    def go(self, batches: Iterator[Batch], metrics: MetricsFile, first_step: int) -> None:
        """All steps from `first_step` on."""
        steps, runtime = self.recipe.steps, self.recipe.runtime
        clock, note = Clock(self.recipe.batch_size), ""
        bar = track("training", total=steps, unit="steps", done=first_step)
        with stop_on_signals() as request, bar as advance:
            for done in range(first_step + 1, steps + 1):
                with clock.waiting_for_data():
                    batch = self._next(batches, done - 1, first_step)
                report, learning_rate = self._step(batch, done - 1)
                clock.step_done()
                if done % runtime.log_every == 0 or done == steps:
                    seen = {"samples": done * self.recipe.batch_size}
                    row = seen | report.row() | {"learning_rate": learning_rate} | clock.lap()
                    metrics.append(done, row)
                    note = progress_note(row)
                advance(1, note)
                if request.asked or done % runtime.checkpoint_every == 0 or done == steps:
                    self._save(done)
                if request.asked and done < steps:
                    raise Interrupted(
                        f"stopped and saved at step {done} of {steps}; "
                        "the same command goes on from there",
                        request.signal_number,
                    )

    def _next(self, batches: Iterator[Batch], done: int, first_step: int) -> Batch:
        """The next batch; where the data has an error, what was learned so far is saved first."""
        try:
            return next(batches)
        except InputError:
            if done > first_step:
                self._save(done)
            raise

    def _step(self, batch: Batch, step: int) -> tuple[StepReport, float]:
        recipe = self.recipe
        learning_rate = set_learning_rate(
            self.optimizer, recipe.optimizer, step=step, steps=recipe.steps
        )
        report = training_step(
            self.towers,
            self.optimizer,
            batch.to(self.device),
            rule=recipe.objective,
            mask=recipe.mask,
            step=step,
            progress=step / max(1, recipe.steps - 1),
            seed=recipe.seed,
            micro_batches=recipe.micro_batches,
            max_gradient_norm=recipe.optimizer.max_gradient_norm,
            precision=_precision(recipe.precision, self.device),
        )
        return report, learning_rate

    def _save(self, step: int) -> None:
        state = {
            "towers": self.towers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random_state": random_state(),
        }
        self.checkpoints.save(step, state)


def _build(recipe: Recipe, targets: ConceptTargets | None) -> Towers:
    if recipe.concept_distillation is None or targets is None:
        return Towers(recipe.model)
    width = recipe.model.open_clip_config()["embed_dim"]
    heads = ConceptHeads(recipe.concept_distillation, width, targets.facts.sizes)
    return Towers(recipe.model, heads=heads)


def _save_heads(towers: Towers, path: Path) -> None:
    """For whoever asks what the heads have learnt; the exported model has none."""
    if towers.heads is None:
        return
    state = towers.heads.state_dict()
    named = {name.removeprefix("linear."): value.cpu() for name, value in state.items()}
    save_file(named, f"{path}.partial")
    Path(f"{path}.partial").replace(path)


def _restore(checkpoints: Checkpoints, towers: Towers, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest whole checkpoint, if any; returns how many steps are done."""
    found = checkpoints.load_newest()
    if found is None:
        return 0
    step, state, damaged = found
    for name in damaged:
        warnings.warn(f"checkpoint {name} is damaged; going on from step {step}", stacklevel=2)
    towers.load_state_dict(state["towers"])
    optimizer.load_state_dict(state["optimizer"])
    set_random_state(state["random_state"])
    return step


def _batches(
    recipe: Recipe,
    selection: Selection,
    targets: ConceptTargets | None,
    towers: Towers,
    first_step: int,
) -> Generator[Batch, None, None]:
    return load_batches(
        selection,
        Order(shard_counts=selection.shard_counts, seed=recipe.seed),
        tokenize=towers.tokenize,
        image_size=towers.image_size,
        augmentation=recipe.augmentation,
        workers=recipe.runtime.workers,
        batch_size=recipe.batch_size,
        first_step=first_step,
        last_step=recipe.steps,
        image_ids=recipe.mask.same_image,
        targets=targets,
    )


def _precision(name: str, device: torch.device) -> AbstractContextManager:
    if name == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
