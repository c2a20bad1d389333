"""Concept distillation: the image tower learns what a frozen teacher sees, beside the captions.

    L = L_contrastive + Σ_h w_h (1/N) Σ_i CE(q_hi, softmax(W_h x_i + b_h))

h is objects or attributes, x_i the image embedding before it is normalised, q_hi the teacher's most
probable concepts for picture i, renormalised (`data/concept_targets.py`). The teacher does not run
in training, and the heads W_h, b_h are left behind when the model is exported. Radenovic et al.
(DiHT), CVPR 2023, arXiv 2301.02280, section 3.2: equal weights, ten times the learning rate and a
hundredth of the weight decay for the heads.

A per-sample term, not a rule: it adds to whatever contrastive rule a run has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class ConceptDistillation:
    """Two linear heads on the image embedding, trained on a teacher's concepts."""

    object_weight: float = 1.0
    """Weight of the objects' cross-entropy in the loss."""
    attribute_weight: float = 1.0
    """Weight of the attributes' cross-entropy in the loss."""
    learning_rate_factor: float = 10.0
    """The heads' learning rate over the towers'."""
    weight_decay_factor: float = 0.01
    """The heads' weight decay over the towers'."""

    def __post_init__(self) -> None:
        weights = (self.object_weight, self.attribute_weight, self.weight_decay_factor)
        numbers = (*weights, self.learning_rate_factor)
        if not (all(map(math.isfinite, numbers)) and min(weights) >= 0 < self.learning_rate_factor):
            raise InputError(
                "object_weight, attribute_weight and weight_decay_factor of ConceptDistillation "
                f"must be at least 0 and learning_rate_factor above 0 (given: {self})"
            )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each head's cross-entropy."""
        return {"objects": self.object_weight, "attributes": self.attribute_weight}


class ConceptHeads(nn.Module):
    """A linear classifier over each vocabulary, on un-normalised image embeddings.

    They begin at zero: softmax regression needs no chance to begin with, the model draws the same
    random numbers with and without them, and a head pulls at the embedding only as it learns.
    """

    def __init__(self, config: ConceptDistillation, width: int, sizes: Mapping[str, int]) -> None:
        """On embeddings of `width`; `sizes` has the concepts of every head. Raises InputError."""
        super().__init__()
        if sizes.keys() != config.weights.keys():
            raise InputError(
                f"the concept targets are of the heads {', '.join(sizes)}; concept distillation "
                f"has {', '.join(config.weights)}"
            )
        self.config = config
        self.linear = nn.ModuleDict({head: _linear(width, sizes[head]) for head in config.weights})

    def forward(
        self, image_BD: Tensor, targets: Mapping[str, tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        """(B,) cross-entropy in nats by head, unweighted; `targets` has (index_BK, mass_BK)."""
        return {
            head: soft_cross_entropy(linear(image_BD), *targets[head])
            for head, linear in self.linear.items()
        }

    def term_B(self, losses: Mapping[str, Tensor]) -> Tensor:
        """(B,) what the heads add to the loss of each pair."""
        return torch.stack([w * losses[head] for head, w in self.config.weights.items()]).sum(0)


def soft_cross_entropy(logits_BV: Tensor, index_BK: Tensor, mass_BK: Tensor) -> Tensor:
    """(B,) Σ_k m_k (log Σ_v e^{z_v} - z_{i_k}), in float32 or wider.

    Neither the loss nor its gradient builds a dense matrix of targets: the gradient is the softmax
    with the masses taken off at their places. Indices are int64 and distinct in a row; a row whose
    masses sum to 0 counts for nothing.
    """
    dtype = torch.promote_types(logits_BV.dtype, torch.float32)
    return _SoftCrossEntropy.apply(logits_BV.to(dtype), index_BK, mass_BK.to(dtype))


class _SoftCrossEntropy(torch.autograd.Function):
    """autograd's own way keeps a second (B, V) matrix of zeros for the gradient of the gather."""

    @staticmethod
    def forward(ctx: Any, logits_BV: Tensor, index_BK: Tensor, mass_BK: Tensor) -> Tensor:
        """See soft_cross_entropy."""
        log_sum_B = logits_BV.logsumexp(dim=1)
        ctx.save_for_backward(logits_BV, log_sum_B, index_BK, mass_BK)
        return (mass_BK * (log_sum_B[:, None] - logits_BV.gather(1, index_BK))).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        """Σ_k m_k softmax(z) - m, times what comes from above."""
        logits_BV, log_sum_B, index_BK, mass_BK = ctx.saved_tensors
        mass_BK = mass_BK * upstream[0][:, None]
        gradient_BV = (logits_BV - log_sum_B[:, None]).exp_()
        gradient_BV *= mass_BK.sum(dim=1, keepdim=True)
        return gradient_BV.scatter_add_(1, index_BK, -mass_BK), None, None


def _linear(width: int, size: int) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, width, size)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
