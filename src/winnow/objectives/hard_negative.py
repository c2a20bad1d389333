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

import torch
from torch import Tensor

from winnow.objectives.closed_form import Measure
from winnow.objectives.exponentials import softplus
from winnow.objectives.pairs import Pairs
from winnow.objectives.rows import (
    DIRECTION_NAMES,
    DIRECTIONS,
    RowLoss,
    Rows,
    own_pair_diagnostics,
)
from winnow.objectives.softmax_form import SoftmaxForm
from winnow.types import InputError

_SMALLEST_BETA = 1e-6
"""Below it, β s of a masked column would no longer be far from β s of a negative."""


@dataclass(frozen=True, kw_only=True)
class HardNegativeNCE:
    """Negatives re-weighted by their own similarity."""

    alpha: float = 1.0
    """Weight of the own pair in the denominator, in (0, 1]; below 1 allows for false negatives."""
    beta: float = 0.25
    """Hardness, 0 or at least 1e-6: how much the weights favour the most similar negatives."""
    detach_weights: bool = False
    """Treat the weights as constants. With them, easy negatives are slightly attracted."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise InputError(f"alpha of HardNegativeNCE is {self.alpha}; it must lie in (0, 1]")
        if self.beta != 0 and not _SMALLEST_BETA <= self.beta < math.inf:
            raise InputError(
                f"beta of HardNegativeNCE is {self.beta}; it must be 0 or at least {_SMALLEST_BETA}"
            )

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Nothing is needed of the whole batch: both normalisers belong to a row."""
        return {}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        image_C, text_C = self.own_pair_costs(rows)
        return RowLoss(
            loss_C=(image_C + text_C) / 2,
            diagnostics=self.diagnostics(rows),
        )

    def closed_form(self, pairs: Pairs, measure: Measure) -> SoftmaxForm:
        """The same loss for the tiled and triton executions."""
        return SoftmaxForm(alpha=self.alpha, beta=self.beta, detach_weights=self.detach_weights)

    def own_pair_costs(self, rows: Rows) -> list[Tensor]:
        """(C,) log(α exp s_ii + Σ_j w_ij exp s_ij) - s_ii for both directions."""
        log_alpha, found = math.log(self.alpha), []
        for direction in DIRECTIONS:
            logits_CN = rows.logits(*direction)
            odds_C = self._log_negatives(rows, logits_CN) - rows.own(logits_CN) - log_alpha
            found.append(log_alpha + softplus(odds_C))
        return found

    @torch.no_grad()
    def diagnostics(self, rows: Rows) -> dict[str, Tensor]:
        """Of the own pair, and how many negatives the weights w amount to: (Σ w)² / Σ w²."""
        found = own_pair_diagnostics(rows)
        for direction, name in zip(DIRECTIONS, DIRECTION_NAMES, strict=True) if self.beta else ():
            weight_CN = (self.beta * rows.negatives(rows.logits(*direction))).softmax(1)
            found[f"effective_negatives_{name}"] = torch.where(
                rows.pairs.negatives_N[rows.block] > 0, 1 / weight_CN.square().sum(1), 0.0
            )
        return found

    def _log_negatives(self, rows: Rows, logits_CN: Tensor) -> Tensor:
        """(C,) neg_i; -inf without negatives."""
        negative_CN = rows.negatives(logits_CN)
        count_C = rows.pairs.negatives_N[rows.block]
        if not self.beta:
            return torch.where(count_C > 0, negative_CN.logsumexp(1), -torch.inf)
        weight_CN = self.beta * (negative_CN.detach() if self.detach_weights else negative_CN)
        return count_C.log() + (negative_CN + weight_CN).logsumexp(1) - weight_CN.logsumexp(1)
