"""SigLIP: every pair of a picture and a caption is its own yes-or-no question (Zhai et al. 2023).

    i2t_i = log(1 + exp(-s_ii)) + Σ_{j≠i} log(1 + exp s_ij)          t2i_i alike on the columns

arXiv 2303.15343, section 3.2, which sums over all pairs (i, j) and divides by N: the mean over
pairs of (i2t_i + t2i_i) / 2 is that number. The logits carry a learnable bias, which starts at -10
so that the many negatives do not swamp the start; without one the loss starts near N log 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.objectives.closed_form import (
    GradientTerm,
    Measure,
    Observed,
    Settled,
    Statistics,
    TargetTiles,
)
from winnow.objectives.exponentials import flushed_
from winnow.objectives.pairs import Pairs
from winnow.objectives.rows import DIRECTION_NAMES, DIRECTIONS, RowLoss, Rows, margin, ranks_first

_NO = -80.0
"""A logit whose yes has a probability of 1e-35; where softplus nears 0 it is ten times as slow."""


@dataclass(frozen=True, kw_only=True)
class SigLIP:
    """Sigmoid loss: no normalisation over the batch."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Nothing is needed of the whole batch."""
        return {}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        own_C = rows.own(rows.logits("image", "text"))
        negatives = [rows.negatives(rows.logits(*direction)) for direction in DIRECTIONS]
        image_C, text_C = (F.softplus(negative_CN).sum(1) for negative_CN in negatives)
        with torch.no_grad():
            largest_2C = torch.stack([negative_CN.amax(1) for negative_CN in negatives])
        return RowLoss(
            loss_C=F.softplus(-own_C) + (image_C + text_C) / 2,
            diagnostics=_diagnostics(own_C.detach(), largest_2C, rows.scale),
        )

    def closed_form(self, pairs: Pairs, measure: Measure) -> "SigmoidForm":
        """The same loss for the tiled execution."""
        return SigmoidForm()


@dataclass(frozen=True, kw_only=True)
class SigmoidForm:
    """d loss_i / d s_ij = sigmoid s_ij for a negative, sigmoid s_ii - 1 for the own pair."""

    @property
    def targets(self) -> TargetTiles | None:
        """There is no teacher."""
        return None

    @property
    def identity(self) -> Mapping[str, float]:
        """Each statistic of no columns at all."""
        return {"largest": -torch.inf, "sum": 0.0}

    def observe(self, logits_RC: Tensor, target_RC: Tensor | None) -> Statistics:
        """(R,) the negatives' part of the loss."""
        return {"largest": logits_RC.amax(1), "sum": F.softplus(logits_RC.clamp(min=_NO)).sum(1)}

    def merge(self, parts_P: Statistics) -> Statistics:
        """Join what disjoint sets of columns gave."""
        return {"largest": parts_P["largest"].amax(0), "sum": parts_P["sum"].sum(0)}

    def settle(self, observed: Observed, pairs: Pairs) -> Settled:
        """The equations above."""
        statistics_2N, own_N = observed.statistics_2N, observed.own_N
        weight_N = pairs.weight_N / (2 * pairs.weight_N.sum())
        return Settled(
            loss_N=F.softplus(-own_N) + statistics_2N["sum"].mean(0),
            own_gradient_N=-2 * weight_N * own_N.neg().sigmoid(),
            gradient_terms=(
                GradientTerm(sign=1, power=1.0, shift_2N=-weight_N.log().expand(2, -1)),
            ),
            diagnostics_N=_diagnostics(own_N, statistics_2N["largest"], observed.scale),
        )

    def gradient(
        self,
        settled: Settled,
        direction: int,
        rows: slice,
        logits_RC: Tensor,
        target_RC: Tensor | None,
    ) -> Tensor:
        """(R, C) the weight of the pair times the sigmoid."""
        (term,) = settled.gradient_terms
        weight_R1 = (-term.shift_2N[direction, rows, None]).exp()
        return flushed_(logits_RC.sigmoid().mul_(weight_R1))


def _diagnostics(own_N: Tensor, largest_2N: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """The probability of a yes to the own pair, the same both ways, its margin, and its rank."""
    found = {}
    for name, largest_N in zip(DIRECTION_NAMES, largest_2N, strict=True):
        found[f"own_probability_{name}"] = own_N.sigmoid()
        found[f"margin_{name}"] = margin(own_N, largest_N)
        found[f"rank_1_{name}"] = ranks_first(own_N, largest_N, scale)
    return found
