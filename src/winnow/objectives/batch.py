"""A rank's embeddings as every execution takes them, and the loss as every execution returns it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from winnow.objectives.pairs import Pairs
from winnow.objectives.rows import Teacher


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch."""

    total: Tensor
    """Weighted mean over the pairs of all ranks; differentiable in features, scale and bias."""
    per_pair_B: Tensor
    """(i2t_i + t2i_i) / 2 of every pair of this rank, without gradient."""
    diagnostics: dict[str, Tensor]
    """Named quantities per pair of this rank, each (B,), no gradient; they depend on the rule."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A rank's pairs in the precision they are computed in, and the facts of all pairs."""

    image_BD: Tensor
    text_BD: Tensor
    feature_dtype: torch.dtype
    """bfloat16 where all embeddings came in it, the teacher's too; else what is computed in."""
    scale: Tensor
    """Scalar."""
    bias: Tensor | None
    """Scalar."""
    teacher: Teacher | None
    pairs: Pairs
    needs_gradient: bool
    """Whether anyone will ask for the gradient."""

    @property
    def inputs(self) -> list[Tensor]:
        """What the loss is differentiable in: image, text, scale and, where there is one, bias."""
        inputs = (self.image_BD, self.text_BD, self.scale, self.bias)
        return [tensor for tensor in inputs if tensor is not None]

    def own_B(self) -> Tensor:
        """(B,) s_ii."""
        own_B = self.scale * inner_products(self.image_BD, self.text_BD)
        return own_B if self.bias is None else own_B + self.bias

    def teacher_own_B(self) -> Tensor:
        """(B,) the teacher's own logits; without a separate teacher the model's."""
        if self.teacher is None:
            return self.own_B()
        return self.teacher.scale * inner_products(self.teacher.image_BD, self.teacher.text_BD)


def inner_products(left_BD: Tensor, right_BD: Tensor) -> Tensor:
    """(B,) of each row with its own, without a matrix of products in between."""
    return torch.einsum("bd,bd->b", left_BD, right_BD)


def with_gradients(total: Tensor, inputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """`total` as a function of `inputs` whose gradients are known already."""
    return _KnownGradient.apply(total, gradients, *inputs)


class _KnownGradient(torch.autograd.Function):
    """A scalar whose gradients were found on the way forward."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        """`total`; `gradients` are its gradients in `inputs`."""
        ctx.save_for_backward(*gradients)
        return total.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """The known gradients, scaled."""
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad[2:], strict=True)
        return (None, None, *(upstream[0] * known if wants else None for known, wants in wanted))
