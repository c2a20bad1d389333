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

from winnow.objectives.rows import (
    DIRECTIONS,
    Modality,
    RowLoss,
    Rows,
    log_partition,
    own_pair_diagnostics,
)
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
        losses = [self._direction(rows, query, key) for query, key in DIRECTIONS]
        partitions = [
            log_partition(rows.logits(query, key).detach(), rows.allowed_CN)
            for query, key in DIRECTIONS
        ]
        return RowLoss(
            loss_C=(losses[0] + losses[1]) / 2,
            diagnostics=own_pair_diagnostics(own_C, *partitions),
        )

    def _direction(self, rows: Rows, query: Modality, key: Modality) -> Tensor:
        logits_CN = rows.logits(query, key)
        own_C = rows.own(logits_CN)
        negative_C = self._log_negatives(logits_CN, _negatives(rows))
        return torch.logaddexp(math.log(self.alpha) + own_C, negative_C) - own_C

    def _log_negatives(self, logits_CN: Tensor, negative_CN: Tensor) -> Tensor:
        """neg_i: log of the weighted sum over the negatives, -inf where a row has none."""
        count_C = negative_CN.sum(1).to(logits_CN.dtype)
        some_C1 = (count_C > 0)[:, None]
        # A row without negatives sums finite numbers here, so that its gradient is 0, not NaN.
        summed_CN = negative_CN | ~some_C1
        weighing_CN = self.beta * (logits_CN.detach() if self.detach_weights else logits_CN)
        normaliser_C = log_partition(weighing_CN, summed_CN)
        weighted_C = log_partition(logits_CN + weighing_CN, summed_CN)
        negative_C = count_C.log() + weighted_C - normaliser_C
        return negative_C.where(some_C1.squeeze(1), -torch.inf)


def _negatives(rows: Rows) -> Tensor:
    """(C, N) the columns that are negatives of their row: the allowed ones but the own pair."""
    allowed_CN = rows.allowed_CN
    if allowed_CN is None:
        allowed_CN = torch.ones(
            rows.size, len(rows.image_ND), dtype=torch.bool, device=rows.image_ND.device
        )
    return allowed_CN.scatter(1, rows.positive_index_C[:, None], False)
