"""The engine: any rule on any batch, exactly, without the rule knowing how it is executed.

`dense` runs the rule once on all rows with plain autograd: the oracle, and the fastest way for the
batches whose N x N matrices are small. `blocked` walks blocks of rows and takes each block's
gradient at once, so that memory is O(N·d + block·N).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from winnow.objectives.rows import Context, RowLoss, Rows, Rule, Teacher
from winnow.types import InputError

Execution = Literal["auto", "dense", "blocked"]

_DENSE_UP_TO = 2048
"""`auto` goes dense while a logits matrix stays under 16 MB in float32."""
_BLOCK_LOGITS = 1 << 21
"""Logits in a block of rows where no block size is given: 8 MB in float32."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch."""

    total: Tensor
    """Weighted mean over the batch's pairs; differentiable in features, scale and bias."""
    per_pair_B: Tensor
    """(i2t_i + t2i_i) / 2 of every pair, without gradient."""
    diagnostics: dict[str, Tensor]
    """Named quantities per pair, each (B,), without gradient; they depend on the rule."""


def contrastive_loss(
    rule: Rule,
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None = None,
    teacher: Teacher | None = None,
    context: Context | None = None,
    progress: float = 0.0,
    step: int = 0,
    block_size: int | None = None,
    execution: Execution = "auto",
) -> Loss:
    """The loss of `rule` on a batch of unit-norm embeddings.

    Row i of `image_BD` belongs to row i of `text_BD`; `scale` is exp(logit_scale), `bias` is added
    to every logit, both with one element. float64 stays float64, everything shorter is computed
    in float32. Raises InputError where shapes or sizes cannot be right.
    """
    _check(image_BD, text_BD, block_size)
    context = context or Context()
    with torch.autocast(image_BD.device.type, enabled=False):
        batch = _whole_batch(image_BD, text_BD, scale, bias, teacher, context)
        batch = replace(batch, progress=progress, step=step)
        if execution == "dense" or (execution == "auto" and len(image_BD) <= _DENSE_UP_TO):
            return _dense(rule, batch)
        return _blocked(rule, batch, block_size or max(1, _BLOCK_LOGITS // len(image_BD)))


def _check(image_BD: Tensor, text_BD: Tensor, block_size: int | None) -> None:
    if image_BD.ndim != 2 or image_BD.shape != text_BD.shape or not len(image_BD):
        raise InputError(
            f"image embeddings {tuple(image_BD.shape)} and text embeddings "
            f"{tuple(text_BD.shape)} must be two (B, D) matrices of the same shape, B > 0"
        )
    if block_size is not None and block_size < 1:
        raise InputError(f"block_size is {block_size}; it must be at least 1")


def _whole_batch(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    teacher: Teacher | None,
    context: Context,
) -> Rows:
    """The batch as one block, in the precision it is computed in."""
    dtype = torch.float64 if image_BD.dtype == torch.float64 else torch.float32
    count, device = len(image_BD), image_BD.device
    if teacher is not None:
        teacher = Teacher(
            image_BD=teacher.image_BD.detach().to(dtype),
            text_BD=teacher.text_BD.detach().to(dtype),
            scale=teacher.scale.detach().to(dtype),
        )
    masks = (context.caption_id_B, context.image_id_B)
    return Rows(
        image_ND=image_BD.to(dtype),
        text_ND=text_BD.to(dtype),
        scale=scale.to(dtype).reshape(()),
        bias=None if bias is None else bias.to(dtype).reshape(()),
        teacher=teacher,
        start=0,
        size=count,
        sample_id_N=_or_else(context.sample_id_B, lambda: torch.arange(count, device=device)),
        weight_N=_or_else(context.weight_B, lambda: torch.ones(count, device=device)).to(dtype),
        mask_ids_N=tuple(ids for ids in masks if ids is not None),
        progress=0.0,
        step=0,
        seed=context.seed,
    )


def _or_else(given: Tensor | None, default: Callable[[], Tensor]) -> Tensor:
    return default() if given is None else given


def _dense(rule: Rule, batch: Rows) -> Loss:
    with torch.no_grad():
        statistics_N = rule.prepare(batch)
    rows = rule(batch.with_statistics(statistics_N))
    total = (batch.weight_N * rows.loss_C).sum() / batch.weight_N.sum()
    return Loss(total=total, per_pair_B=rows.loss_C.detach(), diagnostics=rows.diagnostics)


def _blocked(rule: Rule, batch: Rows, block_size: int) -> Loss:
    inputs = [t for t in (batch.image_ND, batch.text_ND, batch.scale, batch.bias) if t is not None]
    statistics_N = _statistics(rule, _with_inputs(batch, [t.detach() for t in inputs]), block_size)
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    batch = _with_inputs(batch, leaves)
    blocks: list[RowLoss] = []
    total = torch.zeros((), dtype=batch.scale.dtype, device=batch.scale.device)
    for rows in _blocks(batch, block_size):
        with torch.enable_grad():
            block = rule(rows.with_statistics(statistics_N))
            block_total = (rows.weight_C * block.loss_C).sum() / batch.weight_N.sum()
        block_total.backward(inputs=leaves)
        total += block_total.detach()
        blocks.append(RowLoss(loss_C=block.loss_C.detach(), diagnostics=block.diagnostics))
    gradients = [leaf.grad for leaf in leaves]
    return Loss(
        total=_KnownGradient.apply(total, gradients, *inputs),
        per_pair_B=torch.cat([block.loss_C for block in blocks]),
        diagnostics={
            name: torch.cat([block.diagnostics[name] for block in blocks])
            for name in blocks[0].diagnostics
        },
    )


def _with_inputs(batch: Rows, inputs: list[Tensor]) -> Rows:
    """The batch on other tensors of the same values: image, text, scale and, if any, bias."""
    image_ND, text_ND, scale, *bias = inputs
    return replace(
        batch, image_ND=image_ND, text_ND=text_ND, scale=scale, bias=bias[0] if bias else None
    )


def _statistics(rule: Rule, batch: Rows, block_size: int) -> dict[str, Tensor]:
    """What `prepare` says of all blocks, joined; a rule that needs nothing costs nothing."""
    found: list[dict[str, Tensor]] = []
    for rows in _blocks(batch, block_size):
        statistics_C = rule.prepare(rows)
        if not statistics_C:
            return {}
        found.append(statistics_C)
    return {name: torch.cat([block[name] for block in found]) for name in found[0]}


def _blocks(batch: Rows, block_size: int) -> list[Rows]:
    count = len(batch.image_ND)
    return [
        replace(batch, start=start, size=min(block_size, count - start), cache={})
        for start in range(0, count, block_size)
    ]


class _KnownGradient(torch.autograd.Function):
    """A scalar whose gradients were found on the way forward."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        """`total`; `gradients` are its gradients in `inputs`."""
        ctx.gradients = gradients
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """The known gradients, scaled."""
        return (None, None, *(upstream[0] * gradient for gradient in ctx.gradients))
