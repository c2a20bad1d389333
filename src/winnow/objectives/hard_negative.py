"""HN-NCE: harder negatives weigh more (DiHT, Radenovic et al., arXiv 2301.02280, section 3.3).

    i2t_i = -log exp s_ii / (α exp s_ii + Σ_{j≠i} w_ij exp s_ij)
    w_ij  = n_i exp(β s_ij) / Σ_{k≠i} exp(β s_ik)            n_i negatives, N - 1 without masks

and t2i alike on the columns, with its own normaliser. Computed in logarithms:

    neg_i = log n_i + LSE_{j≠i} (1 + β) s_ij - LSE_{j≠i} β s_ij
    i2t_i = -s_ii + log(exp(log α + s_ii) + exp neg_i)

(α, β) = (1, 0) is InfoNCE. The formula is the paper's as recalled and as two public
re-implementations have it; whether gradient flows through w is our reading (it does).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from winnow.objectives.rows import DIRECTIONS, RowLoss, Rows, own_pair_diagnostics
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class HardNegativeNCE:
    """Negatives re-weighted by their own similarity."""

    alpha: float = 1.0
    """Weight of the own pair in the denominator, in (0, 1]; below 1 allows for false negatives."""
    beta: float = 0.25
    """Hardness, at least 0: concentration of the weights on the most similar negatives."""
    detach_weights: bool = False
    """Treat the weights as constants. With them, easy negatives are slightly attracted."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise InputError(f"alpha of HardNegativeNCE is {self.alpha}; it must lie in (0, 1]")
        if not 0 <= self.beta < math.inf:
            raise InputError(f"beta of HardNegativeNCE is {self.beta}; it must be at least 0")

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Nothing is needed of the whole batch: both normalisers belong to a row."""
        return {}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        own_C = rows.own(rows.logits("image", "text"))
        negative_CN = _negatives(rows)
        losses, partitions = [], []
        for query, key in DIRECTIONS:
            log_weighted_C, log_plain_C = _LogNegatives.apply(
                rows.logits(query, key), negative_CN, self.beta, self.detach_weights
            )
            losses.append(torch.logaddexp(math.log(self.alpha) + own_C, log_weighted_C) - own_C)
            partitions.append(torch.logaddexp(own_C.detach(), log_plain_C))
        return RowLoss(
            loss_C=(losses[0] + losses[1]) / 2,
            diagnostics=own_pair_diagnostics(own_C, *partitions),
        )


class _LogNegatives(torch.autograd.Function):
    """neg_i, and log Σ_{j≠i} exp s_ij beside it; both -inf where a row has no negatives.

    With e = exp(s - max), both sums come from e^β and e^(1+β), and so does the gradient:

        d neg_i / d s_ij = (1 + β) e^(1+β)_ij / Σ_k e^(1+β)_ik - β e^β_ij / Σ_k e^β_ik

    With detached weights, the factors β of the gradient are 0. Written out because autograd would
    pass over the matrix three times as often.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_CN: Tensor, negative_CN: Tensor, beta: float, detach_weights: bool
    ) -> tuple[Tensor, Tensor]:
        """(neg_C, log-sum of the negatives' plain exponentials)."""
        count_C = negative_CN.sum(1)
        shifted_CN = logits_CN.masked_fill(~negative_CN, -torch.inf)
        max_C = shifted_CN.amax(1).nan_to_num(neginf=0.0)
        shifted_CN -= max_C[:, None]
        weight_CN = (beta * shifted_CN).exp_() if beta else negative_CN.to(logits_CN.dtype)
        hard_CN = shifted_CN.exp_()
        plain_C = hard_CN.sum(1)
        hard_CN *= weight_CN
        # The largest term of a sum is 1; a row without negatives has sums of 0 and gradient 0.
        hard_C, weight_C = hard_CN.sum(1).clamp(min=1), weight_CN.sum(1).clamp(min=1)
        ctx.save_for_backward(hard_CN, weight_CN, hard_C, weight_C)
        ctx.beta, ctx.detach_weights = beta, detach_weights
        log_mean_C = (count_C.to(logits_CN.dtype) / weight_C).log() + hard_C.log()
        log_plain_C = max_C + plain_C.log()
        ctx.mark_non_differentiable(log_plain_C)
        return max_C + log_mean_C, log_plain_C

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of neg_i in the logits."""
        hard_CN, weight_CN, hard_C, weight_C = ctx.saved_tensors
        through_weights = 0.0 if ctx.detach_weights else ctx.beta
        gradient_CN = hard_CN * ((1 + through_weights) * upstream[0] / hard_C)[:, None]
        if through_weights:
            gradient_CN.addcmul_(weight_CN, (-through_weights * upstream[0] / weight_C)[:, None])
        return gradient_CN, None, None, None


def _negatives(rows: Rows) -> Tensor:
    """(C, N) the columns that are negatives of their row: the allowed ones but the own pair."""
    allowed_CN = rows.allowed_CN
    if allowed_CN is None:
        allowed_CN = torch.ones(
            rows.size, len(rows.image_ND), dtype=torch.bool, device=rows.image_ND.device
        )
    return allowed_CN.scatter(1, rows.positive_index_C[:, None], False)
