"""The engine: any rule on any batch, exactly, on any number of ranks.

`dense`    autograd on the rule over all of a rank's rows: the oracle.
`blocked`  autograd on the rule, block of rows by block: any rule in little memory.
`tiled`    closed-form gradients of the built-in rules, tile by tile: the fastest without a kernel.
`triton`   the same as fused kernels.
`auto`     tiled for a rule that has a closed form; else dense for a small batch, and blocked.

All give the same loss and the same gradient up to rounding. Under a process group the batch is that
of all ranks. `.total` is then the same on every rank, and its backward pass leaves in features,
scale and bias the world size times this rank's share, so that DDP's and FSDP2's averaging gives the
gradient that one process would have found.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from winnow.objectives.batch import Embedded, Loss
from winnow.objectives.checks import check_batch
from winnow.objectives.closed_form import ClosedFormRule
from winnow.objectives.pairs import Context, Pairs, gather_pairs
from winnow.objectives.row_blocks import row_blocks
from winnow.objectives.rows import Rule, Teacher
from winnow.objectives.tiled import TiledWalks
from winnow.objectives.two_pass import two_pass
from winnow.types import InputError

Execution = Literal["auto", "dense", "blocked", "tiled", "triton"]

_DENSE_UP_TO = 1 << 22
"""`auto` goes dense while a rank's logits stay under 16 MB in float32."""
_BLOCK_LOGITS = 1 << 21
"""Logits in a block of rows where no block size is given: 8 MB in float32."""


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
    """The loss of `rule` on the unit-norm embeddings of this rank's pairs, among all ranks' pairs.

    Row i of `image_BD` belongs to row i of `text_BD`; `scale` is exp(logit_scale), `bias` is added
    to every logit, both with one element; `progress` lies in [0, 1]. `block_size` is the rows of a
    block, or the side of a tile. float64 stays float64, everything shorter is computed in float32.
    Raises InputError where shapes, sizes or weights cannot be right, where ranks differ in what
    they bring, on all of them alike, and where an execution does not know the rule.
    """
    _check_execution(execution, block_size)
    context = context or Context()
    given = [tensor for tensor in (image_BD, text_BD, scale, bias) if tensor is not None]
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    with torch.autocast(image_BD.device.type, enabled=False):
        check_batch(
            image_BD,
            text_BD,
            scale,
            bias=bias,
            teacher=teacher,
            context=context,
            progress=progress,
            step=step,
            needs_gradient=needs_gradient,
        )
        pairs = gather_pairs(
            context,
            count=len(image_BD),
            like=image_BD.new_empty(0, dtype=_computed_in(image_BD, text_BD)),
            progress=progress,
            step=step,
        )
        batch = _embedded(image_BD, text_BD, scale, bias, teacher, pairs, needs_gradient)
        if execution == "auto":
            execution = _choose(rule, batch)
        if execution == "dense":
            return row_blocks(rule, batch, len(image_BD))
        if execution == "blocked":
            return row_blocks(rule, batch, block_size or max(1, _BLOCK_LOGITS // len(batch.pairs)))
        if not isinstance(rule, ClosedFormRule):
            raise InputError(
                f"{type(rule).__name__} states no closed form, which the {execution} execution "
                "runs: take execution 'auto', 'blocked' or 'dense'"
            )
        if execution == "tiled":
            return two_pass(rule, batch, TiledWalks(batch, block_size))
        from winnow.objectives.fused import FusedWalks

        return two_pass(rule, batch, FusedWalks(batch, block_size))


def _choose(rule: Rule, batch: Embedded) -> Execution:
    if isinstance(rule, ClosedFormRule):
        return "tiled"
    small = len(batch.image_BD) * len(batch.pairs) <= _DENSE_UP_TO
    return "dense" if small else "blocked"


def _check_execution(execution: str, block_size: int | None) -> None:
    if execution not in get_args(Execution):
        raise InputError(
            f"execution is {execution!r}; it must be one of {', '.join(get_args(Execution))}"
        )
    if block_size is not None and block_size < 1:
        raise InputError(f"block_size is {block_size}; it must be at least 1")


def _computed_in(image_BD: Tensor, text_BD: Tensor) -> torch.dtype:
    either = torch.promote_types(image_BD.dtype, text_BD.dtype)
    return torch.float64 if either == torch.float64 else torch.float32


def _embedded(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    teacher: Teacher | None,
    pairs: Pairs,
    needs_gradient: bool,
) -> Embedded:
    """The rank's batch in the precision it is computed in, on the pictures' device."""
    dtype, device = _computed_in(image_BD, text_BD), image_BD.device
    features = [image_BD, text_BD]
    if teacher is not None:
        features += [teacher.image_BD, teacher.text_BD]
        teacher = Teacher(
            image_BD=teacher.image_BD.detach().to(device, dtype),
            text_BD=teacher.text_BD.detach().to(device, dtype),
            scale=teacher.scale.detach().to(device, dtype).reshape(()),
        )
    all_short = all(tensor.dtype == torch.bfloat16 for tensor in features)
    return Embedded(
        image_BD=image_BD.to(dtype),
        text_BD=text_BD.to(dtype),
        feature_dtype=torch.bfloat16 if all_short else dtype,
        scale=scale.to(device, dtype).reshape(()),
        bias=None if bias is None else bias.to(device, dtype).reshape(()),
        teacher=teacher,
        pairs=pairs,
        needs_gradient=needs_gradient,
    )
