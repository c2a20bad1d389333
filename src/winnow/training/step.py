"""The training step, the only one: any rule, any number of micro-batches, exactly.

A contrastive loss needs the whole batch, so micro-batches are embedded first without a graph, the
engine gives the loss and its gradient in the embeddings of the whole batch, and each micro-batch
is embedded again, with its random numbers replayed, and back-propagates its own slice
(gradient caching; Gao et al. 2021, arXiv 2101.06983). With one micro-batch there is one pass.
"""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.data.loader import Batch
from winnow.models.towers import Embeddings, Towers
from winnow.objectives import Context, Loss, Rule, contrastive_loss
from winnow.training.chance import random_state, set_random_state
from winnow.types import InputError


class NonFiniteError(InputError):
    """The loss or its gradient is not finite; the weights were left as they were."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step has to say."""

    loss: float
    gradient_norm: float
    """Before clipping."""
    scale: float
    """exp(logit_scale) that the step computed with."""
    diagnostics: dict[str, Tensor]
    """The rule's, per pair."""

    def row(self) -> dict[str, float]:
        """The report as plain numbers; diagnostics as means over the batch."""
        means = {name: value.mean().item() for name, value in self.diagnostics.items()}
        numbers = {"loss": self.loss, "gradient_norm": self.gradient_norm, "scale": self.scale}
        return numbers | means


def training_step(
    towers: Towers,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    rule: Rule,
    step: int,
    progress: float,
    seed: int,
    micro_batches: int,
    max_gradient_norm: float,
    precision: AbstractContextManager,
) -> StepReport:
    """One update on one batch. Raises NonFiniteError before any weight moves."""
    optimizer.zero_grad(set_to_none=True)
    slices = _slices(len(batch.image_BCHW), micro_batches)
    random_states, parts = [], []
    with torch.set_grad_enabled(micro_batches == 1):
        for part in slices:
            random_states.append(random_state())
            with precision:
                parts.append(towers(batch.image_BCHW[part], batch.text_BT[part]))
    embeddings = parts[0] if micro_batches == 1 else _joined_leaves(parts)
    loss = _loss(rule, embeddings, batch, step=step, progress=progress, seed=seed)
    loss.total.backward()
    if micro_batches > 1:
        for part, state in zip(slices, random_states, strict=True):
            set_random_state(state)
            with precision:
                again = towers(batch.image_BCHW[part], batch.text_BT[part])
            _backward_slice(again, embeddings, part)
    norm = torch.nn.utils.clip_grad_norm_(towers.parameters(), max_gradient_norm).item()
    value, scale = loss.total.item(), embeddings.scale.item()
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFiniteError(
            f"step {step}: the loss is {value}, its gradient's norm {norm}, the scale {scale:.1f}; "
            "no weight was moved. Lower the learning rate or warm up longer, in another --out."
        )
    optimizer.step()
    towers.clamp_scale()
    return StepReport(loss=value, gradient_norm=norm, scale=scale, diagnostics=loss.diagnostics)


def _loss(
    rule: Rule, embeddings: Embeddings, batch: Batch, *, step: int, progress: float, seed: int
) -> Loss:
    return contrastive_loss(
        rule,
        _unit(embeddings.image_BD),
        _unit(embeddings.text_BD),
        embeddings.scale,
        context=Context(sample_id_B=batch.id_B, seed=seed),
        progress=progress,
        step=step,
    )


def _unit(feature_BD: Tensor) -> Tensor:
    """Unit-norm features, in float32 or wider: a norm taken in bf16 is off by up to 1 %."""
    dtype = torch.promote_types(feature_BD.dtype, torch.float32)
    return F.normalize(feature_BD.to(dtype), dim=1)


def _slices(count: int, parts: int) -> list[slice]:
    size = math.ceil(count / parts)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _joined_leaves(parts: list[Embeddings]) -> Embeddings:
    """The whole batch's embeddings as leaves that collect the loss's gradient."""
    return Embeddings(
        image_BD=torch.cat([part.image_BD for part in parts]).requires_grad_(),
        text_BD=torch.cat([part.text_BD for part in parts]).requires_grad_(),
        scale=parts[-1].scale.detach().requires_grad_(),
    )


def _backward_slice(again: Embeddings, whole: Embeddings, part: slice) -> None:
    """Send a micro-batch's share of the gradient into the towers.

    The scale belongs to no micro-batch: its gradient enters with the last one, once.
    """
    tensors: list[Tensor] = [again.image_BD, again.text_BD]
    gradients = [_gradient(whole.image_BD)[part], _gradient(whole.text_BD)[part]]
    if part.stop == len(whole.image_BD):
        tensors.append(again.scale)
        gradients.append(_gradient(whole.scale))
    torch.autograd.backward(tensors, gradients)


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None, "the loss depends on every embedding and on the scale"
    return leaf.grad
