"""The training step, the only one: any rule, any number of micro-batches, exactly.

A contrastive loss needs the whole batch, so micro-batches are embedded first without a graph, the
engine gives the loss and its gradient in the embeddings of the whole batch, and each micro-batch
is embedded again, with its random numbers replayed, and back-propagates its own slice
(gradient caching; Gao et al. 2021, arXiv 2101.06983). With one micro-batch there is one pass.

What heads on the image embedding lose is a term of each pair by itself: it enters with the pass
that has a graph, divided by the pairs of the whole batch.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from winnow.data.batch import Batch
from winnow.distributed import all_sum, local_gradients, world
from winnow.models.towers import Embeddings, unwrapped
from winnow.objectives import ConceptHeads, Loss, Rule, Teacher, contrastive_loss
from winnow.training.chance import random_state, set_random_state
from winnow.training.loss_scale import LossScale
from winnow.training.mask import Mask
from winnow.types import InputError


class NonFiniteError(InputError):
    """The loss or its gradient is not finite; the weights were left as they were."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step has to say."""

    loss: float
    """All that was minimised, over all ranks."""
    gradient_norm: float
    """Before clipping, over all ranks."""
    scale: float
    """exp(logit_scale) that the step computed with."""
    bias: float | None
    """logit_bias that the step computed with; None where the model has none."""
    loss_B: Tensor
    """The contrastive loss of every pair of this rank."""
    diagnostics: dict[str, Tensor]
    """The rule's, per pair of this rank; NaN where one says nothing of a pair."""
    direction_sums: dict[str, Tensor]
    """(D,) sums of this rank's unit embeddings, by `image` and `text`."""
    parts: dict[str, float] = field(default_factory=dict)
    """What the loss is made of, unweighted, where that is more than the contrastive loss."""
    is_skipped: bool = False
    """Whether a gradient overflowed in fp16, so that no weight was moved."""

    def row(self) -> dict[str, float]:
        """The report as plain numbers, the same on every rank, all of which have to ask for it.

        Diagnostics are means over the pairs that have them; `image_similarity` and
        `text_similarity` are mean cosines between different pairs' embeddings. A number that there
        is not is left out: json has no NaN.
        """
        numbers = {"loss": self.loss, "gradient_norm": self.gradient_norm, "scale": self.scale}
        numbers |= {f"loss_{name}": part for name, part in self.parts.items()}
        if self.bias is not None:
            numbers["bias"] = self.bias
        numbers |= self._similarities() | means(self.diagnostics)
        return {name: number for name, number in numbers.items() if math.isfinite(number)}

    def _similarities(self) -> dict[str, float]:
        count = len(self.loss_B) * world().size
        if count < 2:
            return {}
        return {
            f"{name}_similarity": (all_sum(sum_D).square().sum().item() - count)
            / (count * (count - 1))
            for name, sum_D in self.direction_sums.items()
        }


def means(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Means over the pairs of all ranks that have a number; NaN where none has. Collective."""
    if not values:
        return {}
    # Flags and counts have no mean of their own kind, and bf16 would count no further than 256.
    sums = torch.stack([value.float().nansum() for value in values.values()])
    counts = torch.stack([(~value.float().isnan()).sum().float() for value in values.values()])
    sums, counts = all_sum(torch.stack([sums, counts]))
    return dict(zip(values, (sums / counts).tolist(), strict=True))


def training_step(
    towers: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    rule: Rule,
    mask: Mask,
    step: int,
    progress: float,
    seed: int,
    micro_batches: int,
    max_gradient_norm: float,
    precision: AbstractContextManager,
    teacher: nn.Module | None = None,
    loss_scale: LossScale | None = None,
) -> StepReport:
    """One update on one batch; `towers` are Towers, bare or in DDP or `fully_shard`.

    In a process group `batch` is this rank's part of the pairs, as large as every other's.
    `teacher`, towers too, says what soft targets are made of; without one the model itself does.
    Raises NonFiniteError before any weight moves.
    """
    optimizer.zero_grad(set_to_none=True)
    slices = _slices(len(batch.image_BCHW), micro_batches)
    random_states, passes = [], []
    with torch.set_grad_enabled(micro_batches == 1):
        for part in slices:
            random_states.append(random_state())
            with precision:
                passes.append(_forward(towers, batch, part))
    embeddings = passes[0] if micro_batches == 1 else _joined_leaves(passes)
    unit = Embeddings(
        image_BD=unit_norm(embeddings.image_BD),
        text_BD=unit_norm(embeddings.text_BD),
        scale=embeddings.scale,
        bias=embeddings.bias,
        head_losses={},
    )
    loss = contrastive_loss(
        rule,
        unit.image_BD,
        unit.text_BD,
        unit.scale,
        bias=unit.bias,
        teacher=None if teacher is None else _taught(teacher, batch, slices, precision),
        context=mask.context(batch, seed=seed),
        progress=progress,
        step=step,
    )
    factor = 1.0 if loss_scale is None else loss_scale.value
    if micro_batches == 1:
        ((loss.total + _head_term(towers, embeddings, batch)) * factor).backward()
    else:
        (loss.total * factor).backward()
        for index, (part, state) in enumerate(zip(slices, random_states, strict=True)):
            set_random_state(state)
            is_last = part is slices[-1]
            # Ranks add their gradients up once, when the last micro-batch has added its own.
            with nullcontext() if is_last else local_gradients(towers):
                with precision:
                    passes[index] = again = _forward(towers, batch, part)
                _backward_slice(
                    again, embeddings, part, _head_term(towers, again, batch), factor=factor
                )
    norm = _clip(towers, max_gradient_norm, factor=factor)
    value, parts = _value(towers, loss, passes, batch)
    report = StepReport(
        loss=value,
        gradient_norm=norm,
        scale=embeddings.scale.item(),
        bias=None if embeddings.bias is None else embeddings.bias.item(),
        loss_B=loss.per_pair_B,
        diagnostics=loss.diagnostics,
        direction_sums={"image": _sum(unit.image_BD), "text": _sum(unit.text_BD)},
        parts=parts,
        is_skipped=loss_scale is not None and not loss_scale.accepts(value + norm),
    )
    if not report.is_skipped:
        _refuse_non_finite(report, step)
        optimizer.step()
        unwrapped(towers).clamp_scale()
    return report


def _refuse_non_finite(report: StepReport, step: int) -> None:
    if not (math.isfinite(report.loss) and math.isfinite(report.gradient_norm)):
        raise NonFiniteError(
            f"step {step}: the loss is {report.loss}, its gradient's norm {report.gradient_norm}, "
            f"the scale {report.scale:.1f}; no weight was moved. Lower the learning rate or warm "
            "up longer, in another --out."
        )


def _taught(
    teacher: nn.Module, batch: Batch, slices: list[slice], precision: AbstractContextManager
) -> Teacher:
    with torch.no_grad(), precision:
        parts = [teacher(batch.image_BCHW[part], batch.text_BT[part]) for part in slices]
    return Teacher(
        image_BD=unit_norm(torch.cat([part.image_BD for part in parts])),
        text_BD=unit_norm(torch.cat([part.text_BD for part in parts])),
        scale=parts[-1].scale,
    )


def _sum(unit_BD: Tensor) -> Tensor:
    return unit_BD.detach().sum(dim=0)


def _forward(towers: nn.Module, batch: Batch, part: slice) -> Embeddings:
    """One pass over a part of the batch; the heads, who need no other pairs, wait for the graph."""
    targets = batch.targets_of(part) if torch.is_grad_enabled() else None
    return towers(batch.image_BCHW[part], batch.text_BT[part], targets)


def _head_term(towers: nn.Module, own: Embeddings, batch: Batch) -> Tensor | float:
    """What the heads add to the loss of the batch, in one pass over a part of it."""
    if not own.head_losses:
        return 0.0
    return _heads(towers).term_B(own.head_losses).sum() / len(batch.image_BCHW)


def _value(
    towers: nn.Module, loss: Loss, passes: list[Embeddings], batch: Batch
) -> tuple[float, dict[str, float]]:
    """The whole loss over all ranks, and its parts where heads make some."""
    contrastive = loss.total.item()
    if not passes[-1].head_losses:
        return contrastive, {}
    names = list(passes[-1].head_losses)
    sums = [torch.stack([one.head_losses[name].detach().sum() for one in passes]) for name in names]
    count = len(batch.image_BCHW) * world().size
    means = all_sum(torch.stack(sums).sum(dim=1)) / count
    parts = dict(zip(names, means.tolist(), strict=True))
    weights = _heads(towers).config.weights
    total = contrastive + sum(weights[name] * part for name, part in parts.items())
    return total, {"contrastive": contrastive} | parts


def _heads(towers: nn.Module) -> ConceptHeads:
    heads = unwrapped(towers).heads
    assert isinstance(heads, ConceptHeads), "whoever has head losses has heads"
    return heads


def _clip(towers: nn.Module, max_norm: float, *, factor: float) -> float:
    """Undo the loss's factor and clip the gradient by its norm over all ranks; the norm before."""
    if factor != 1.0:
        torch._foreach_div_([p.grad for p in towers.parameters() if p.grad is not None], factor)
    norm = torch.nn.utils.clip_grad_norm_(towers.parameters(), max_norm)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def unit_norm(feature_BD: Tensor) -> Tensor:
    """Unit-norm features, in float32 or wider: a norm taken in bf16 is off by up to 1 %."""
    dtype = torch.promote_types(feature_BD.dtype, torch.float32)
    return F.normalize(feature_BD.to(dtype), dim=1)


def _slices(count: int, parts: int) -> list[slice]:
    size = math.ceil(count / parts)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _joined_leaves(parts: list[Embeddings]) -> Embeddings:
    """The whole batch's embeddings as leaves that collect the loss's gradient."""
    bias = parts[-1].bias
    return Embeddings(
        image_BD=torch.cat([part.image_BD for part in parts]).requires_grad_(),
        text_BD=torch.cat([part.text_BD for part in parts]).requires_grad_(),
        scale=parts[-1].scale.detach().requires_grad_(),
        bias=None if bias is None else bias.detach().requires_grad_(),
        head_losses={},
    )


def _backward_slice(
    again: Embeddings,
    whole: Embeddings,
    part: slice,
    head_term: Tensor | float,
    *,
    factor: float,
) -> None:
    """Send a micro-batch's share of the gradient into the towers and the heads.

    Scale and bias belong to no micro-batch: their gradients enter with the last one, once.
    """
    tensors: list[Tensor] = [again.image_BD, again.text_BD]
    gradients = [_gradient(whole.image_BD)[part], _gradient(whole.text_BD)[part]]
    if isinstance(head_term, Tensor):
        tensors.append(head_term)
        gradients.append(torch.full_like(head_term, factor))
    if part.stop == len(whole.image_BD):
        tensors.append(again.scale)
        gradients.append(_gradient(whole.scale))
        if again.bias is not None and whole.bias is not None:
            tensors.append(again.bias)
            gradients.append(_gradient(whole.bias))
    # What a locked tower gives has no graph.
    learnt = [
        (tensor, gradient)
        for tensor, gradient in zip(tensors, gradients, strict=True)
        if tensor.requires_grad
    ]
    torch.autograd.backward([tensor for tensor, _ in learnt], [gradient for _, gradient in learnt])


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None, "the loss depends on every embedding, the scale and the bias"
    return leaf.grad
