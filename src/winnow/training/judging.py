"""Evaluation while training: what is measured every n steps, and the best model so far, kept.

Training imports no evaluation. It is handed a function that measures a model, and it has one
measure of its own: the loss of held-out pairs, as they are, without augmentation.
"""

import json
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from winnow.config import write_json
from winnow.data.batch import Batch
from winnow.distributed import from_the_first, largest, stopping_together, world
from winnow.models.towers import Towers, unwrapped
from winnow.objectives import contrastive_loss
from winnow.training.assembly import clip_weights, whole_weights
from winnow.training.checkpoint_files import told
from winnow.training.interrupts import BrokenOff, StopRequest
from winnow.training.parallel import autocast
from winnow.training.recipe import Recipe
from winnow.training.step import unit_norm
from winnow.types import InputError

Judge = Callable[[Towers], Mapping[str, float]]
"""Measures of a model, higher is better, by name; called on every rank, the first one's count.

The model is whole, in eval mode, and the caller's again afterwards.
"""

VALIDATION_LOSS = "validation_loss"
BEST_FOLDER, BEST_FILE = "best", "best.json"
UNJUDGED_FILE = "unjudged.json"
"""The row of a step whose evaluation was broken off: it is made, and the row written, when the run
goes on."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What an evaluation consists of."""

    recipe: Recipe
    judge: Judge | None
    validation_batches: Callable[[Towers, StopRequest], Generator[Batch, None, None]] | None
    """A new pass over the batches of held-out pairs, which ends early where a stop is asked for."""
    device: torch.device
    request: StopRequest
    """What breaks an evaluation off: the validation loss at its next batch. The judge ends at once
    in one process; several go through it to its end, since none can leave the others alone."""

    def is_due(self, step: int) -> bool:
        """Whether the model after `step` steps is evaluated."""
        every = self.recipe.runtime.evaluate_every
        if self.judge is None and self.validation_batches is None:
            return False
        return step == self.recipe.steps or (every > 0 and step % every == 0)

    def measure(self, towers: nn.Module, *, step: int) -> dict[str, float]:
        """Numbers for the row of `step`, on every rank the first one's. Collective.

        Those of the judge are called `evaluation/NAME`. Raises BrokenOff, on every rank, where a
        stop was asked for.
        """
        row: dict[str, float] = {}
        was_training = towers.training
        towers.eval()
        try:
            if self.validation_batches is not None:
                row[VALIDATION_LOSS] = self._validation_loss(towers, step)
            if self.judge is not None:
                self._stop_if_asked()
                whole = _whole(towers, self.recipe, self.device)
                is_alone = world().size == 1
                with self.request.at_once() if is_alone else nullcontext(), stopping_together():
                    measures = self.judge(whole)
                row |= {f"evaluation/{name}": value for name, value in measures.items()}
        finally:
            towers.train(was_training)
        return from_the_first(row)

    @torch.no_grad()
    def _validation_loss(self, towers: nn.Module, step: int) -> float:
        """The rule's loss, at the progress of `step`, as a mean over batches."""
        assert self.validation_batches is not None
        losses = []
        with closing(self.validation_batches(unwrapped(towers), self.request)) as batches:
            while True:
                # One rank may find a picture that cannot be read; all stop before they compute.
                with stopping_together():
                    batch = next(batches, None)
                self._stop_if_asked()
                if batch is None:
                    break
                losses.append(self._loss(towers, batch.to(self.device), step))
        return torch.stack(losses).mean().item()

    def _stop_if_asked(self) -> None:
        """Raise BrokenOff, on every rank, where a stop was asked for on any."""
        agreed = largest(self.request.signal_number)
        if agreed:
            raise BrokenOff(agreed)

    def _loss(self, towers: nn.Module, batch: Batch, step: int) -> Tensor:
        recipe = self.recipe
        with autocast(recipe.precision, self.device):
            own = towers(batch.image_BCHW, batch.text_BT)
        return contrastive_loss(
            recipe.objective,
            unit_norm(own.image_BD),
            unit_norm(own.text_BD),
            own.scale,
            bias=own.bias,
            context=recipe.mask.context(batch, seed=recipe.seed),
            progress=(step - 1) / max(1, recipe.steps - 1),
            step=step,
        ).total


class Best:
    """The best model so far: `best/` as open_clip loads it, `best.json` says of which step."""

    def __init__(self, out: Path, rows: Iterable[Mapping[str, float]], *, by: str | None) -> None:
        """`rows` are those of the steps that count; `by` names a measure, None the first there."""
        self._out, self._asked = out, by
        self._best: float | None = None
        for row in rows:
            self._take(row)

    def is_best(self, row: Mapping[str, float]) -> bool:
        """Whether the measure of this row is better than all before; it counts from now on.

        Raises InputError where what was asked for is not measured.
        """
        return self._take(row)

    def keep(self, towers: nn.Module, *, step: int, row: Mapping[str, float]) -> None:
        """Export these towers as the best. Collective."""
        weights = clip_weights(whole_weights(towers))
        measure = self._measure(row)
        with stopping_together(), told(self._out, self._out):
            if world().rank > 0 or measure is None:
                return
            # The file is what says that there is a best one, so it goes first and comes last.
            (self._out / BEST_FILE).unlink(missing_ok=True)
            unwrapped(towers).export(self._out / BEST_FOLDER, weights)
            facts = {"step": step, "measure": measure, "value": row[measure]}
            write_json(self._out / BEST_FILE, facts)

    def _take(self, row: Mapping[str, float]) -> bool:
        measure = self._measure(row)
        if measure is None:
            return False
        value = -row[measure] if measure == VALIDATION_LOSS else row[measure]
        if not value > (-math.inf if self._best is None else self._best):
            return False  # nor is it with NaN
        self._best = value
        return True

    def _measure(self, row: Mapping[str, float]) -> str | None:
        """What the best is chosen by; None for a row of no evaluation."""
        measured = [name for name in row if name.startswith("evaluation/")]
        measured += [VALIDATION_LOSS] if VALIDATION_LOSS in row else []
        if not measured or self._asked is None:
            return measured[0] if measured else None
        asked = (self._asked, f"evaluation/{self._asked}")
        named = [name for name in measured if name in asked]
        if not named:
            raise InputError(
                f"best_by {self._asked!r} is not measured; there are: "
                f"{', '.join(name.removeprefix('evaluation/') for name in measured)}"
            )
        return named[0]


def keep_unjudged(run: Path, *, step: int, row: Mapping[str, float]) -> None:
    """Remember the row of `step`, which lacks its evaluation, in the run's folder."""
    write_json(run / UNJUDGED_FILE, {"step": step} | dict(row))


def unjudged_row(run: Path, *, step: int) -> dict[str, float] | None:
    """What is remembered of `step`; None where nothing is, or it is of another step."""
    if not (run / UNJUDGED_FILE).is_file():
        return None
    row = json.loads((run / UNJUDGED_FILE).read_text(encoding="utf-8"))
    return row if row.pop("step") == step else None


def forget_unjudged(run: Path) -> None:
    """Remove what is remembered."""
    (run / UNJUDGED_FILE).unlink(missing_ok=True)


def _whole(towers: nn.Module, recipe: Recipe, device: torch.device) -> Towers:
    """The towers themselves, or, where they are sharded, a copy of all of them on every rank."""
    inner = unwrapped(towers)
    if not isinstance(inner, FSDPModule):
        return inner
    whole = Towers(recipe.model)
    whole.set_preprocessing(inner.preprocessing)
    whole.to(device).eval()
    options = StateDictOptions(full_state_dict=True)
    weights = get_model_state_dict(towers, options=options)
    whole.load_state_dict({n: w for n, w in weights.items() if not n.startswith("heads.")})
    return whole
