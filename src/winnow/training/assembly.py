"""From a recipe to what a run is made of: towers, wrapped, their optimizer, and their average."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from winnow.distributed import world
from winnow.models.locking import lock
from winnow.models.starting import start_weights
from winnow.models.towers import Towers, unwrapped
from winnow.objectives import ConceptHeads
from winnow.progress import say_to_stderr
from winnow.training.average import averaged_copy
from winnow.training.flops import forward_flops_by_tokens, peak_flops
from winnow.training.loss_scale import LossScale
from winnow.training.optimizer import build_optimizer
from winnow.training.parallel import has_batch_statistics, spread
from winnow.training.recipe import Recipe
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """All that a step changes."""

    towers: nn.Module
    """What the step takes: Towers, in DDP, or sharded."""
    optimizer: torch.optim.Optimizer
    average: nn.Module | None
    """The running average of the weights, spread as the towers are."""
    loss_scale: LossScale | None
    """For fp16."""
    device: torch.device
    start: dict[str, Any] | None
    """Which weights the towers started from; None for random ones."""
    forward_flops: Callable[[int], float] | None
    """Of a pair; counted where it is known what the device could do."""

    @property
    def exported(self) -> nn.Module:
        """What is evaluated and exported: the average where there is one."""
        return self.towers if self.average is None else self.average

    def begin_anew(self) -> None:
        """Forget what asking for the state left in the optimizer: a step with no gradient."""
        self.optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """For a checkpoint: by names of parameters, whatever they are spread over."""
        model, optimizer = get_state_dict(self.towers, self.optimizer)
        state: dict[str, Any] = {"towers": model, "optimizer": optimizer}
        if self.average is not None:
            state["average"] = get_model_state_dict(self.average)
        if self.loss_scale is not None:
            state["loss_scale"] = self.loss_scale.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave once, perhaps in another number of processes."""
        set_state_dict(
            self.towers,
            self.optimizer,
            model_state_dict=state["towers"],
            optim_state_dict=state["optimizer"],
        )
        if self.average is not None:
            set_model_state_dict(self.average, state["average"])
        if self.loss_scale is not None:
            self.loss_scale.restore(state["loss_scale"])


def assemble(
    recipe: Recipe, *, device: torch.device, concept_sizes: Mapping[str, int] | None = None
) -> Assembly:
    """Build what a run of `recipe` trains, on `device`, alike on every rank of the process group.

    `concept_sizes` are a teacher's vocabularies, by head. Weights depend on the recipe alone.
    Raises InputError where the towers cannot do what the recipe asks of them.
    """
    torch.manual_seed(recipe.seed)
    towers = build_towers(recipe, concept_sizes)
    start = start_weights(towers, recipe.model)
    for note in () if start is None or world().rank > 0 else start.notes:
        say_to_stderr(note)
    lock(towers, recipe.fine_tuning)
    towers.to(device).train()
    refuse_batch_statistics(towers, recipe.micro_batches)
    flops = forward_flops_by_tokens(towers) if peak_flops(device, recipe.precision) else None
    average = averaged_copy(towers) if recipe.average is not None else None
    runtime = recipe.runtime
    if runtime.gradient_checkpointing:
        towers.set_gradient_checkpointing()
    if runtime.compile:
        towers.compile_towers()
    wrapped = spread(towers, runtime.parallel, precision=recipe.precision, device=device)
    return Assembly(
        towers=wrapped,
        optimizer=build_optimizer(
            unwrapped(wrapped),
            recipe.optimizer,
            recipe.concept_distillation,
            fine_tuning=recipe.fine_tuning,
        ),
        average=None if average is None else _spread_average(average, recipe, device),
        loss_scale=LossScale() if recipe.precision == "fp16" else None,
        device=device,
        forward_flops=flops,
        start=None if start is None else start.facts(),
    )


def build_towers(recipe: Recipe, concept_sizes: Mapping[str, int] | None = None) -> Towers:
    """The towers of a recipe, with the heads that it asks for; weights are drawn here."""
    if recipe.concept_distillation is None or concept_sizes is None:
        return Towers(recipe.model)
    width = recipe.model.open_clip_config()["embed_dim"]
    return Towers(
        recipe.model, heads=ConceptHeads(recipe.concept_distillation, width, dict(concept_sizes))
    )


def whole_weights(towers: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU by name, gathered on the first rank; every rank has to call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(towers, options=options))


def clip_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the open_clip model among them, by its own names."""
    prefix = "clip."
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def refuse_batch_statistics(towers: nn.Module, micro_batches: int) -> None:
    """With batch normalisation a picture's embedding depends on its micro-batch: not exact."""
    if micro_batches > 1 and has_batch_statistics(towers):
        raise InputError(
            f"the towers use batch normalisation, so {micro_batches} micro_batches would not give "
            "the gradient of the whole batch: use micro_batches 1 or towers without it"
        )


def _spread_average(average: Towers, recipe: Recipe, device: torch.device) -> nn.Module:
    """As the towers are, so that parameters lie beside each other; DDP would wait for gradients."""
    if recipe.runtime.parallel == "fsdp":
        return spread(average, "fsdp", precision=recipe.precision, device=device)
    return average
