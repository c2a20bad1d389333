"""PSD: progressive self-distillation with soft alignments (Andonian et al., arXiv 2204.04588).

The model's own affinities become the targets of a growing share of the pairs:

    A^i2t_ij = softmax_j(k̄ t_i·x_j)    A^t2i_ij = softmax_j(k̄ x_i·t_j)      no gradient, swapped
    soft row:  loss_i = log Σ_j exp s_ij - Σ_j A_ij s_ij
    hard row:  loss_i = log Σ_j exp s_ij - s_ii                             as in InfoNCE
    share of soft rows at progress p:  a(p) = a_0 + (a_1 - a_0)(1 - cos πp) / 2

Certain from the paper's abstract: own knowledge, soft targets, a subset of each minibatch, updated
dynamically, no added cost. The swap, the schedule, the choice of the subset and the temperature
are our reading of what could not be recovered. a_0 = a_1 = 0 is InfoNCE.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from winnow.objectives.hashing import keyed_hash
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
class ProgressiveSelfDistillation:
    """Soft targets from the model itself, for a share of the pairs that grows with training."""

    initial_share: float = 0.0
    """Share of soft pairs at the start, in [0, 1]."""
    final_share: float = 0.2
    """Share of soft pairs at the end, in [0, 1]."""
    mode: Literal["subset", "blend"] = "subset"
    """`subset`: a share of the pairs is soft. `blend`: every target is (1 - a) one-hot + a soft."""
    choose: Literal["least-aligned", "random"] = "least-aligned"
    """Which pairs are soft: those whose own target mass is lowest, or any."""
    columns: Literal["all", "subset"] = "all"
    """Soft targets spread over the whole batch, or over the chosen pairs only."""
    teacher_temperature: float = 1.0
    """Divides the teacher's logits; above 1 softens its targets."""
    swap: bool = True
    """Each direction learns from the other. Off only shows that same weights then teach nothing."""

    def __post_init__(self) -> None:
        for name in ("initial_share", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} of ProgressiveSelfDistillation is {getattr(self, name)}; "
                    "it must lie in [0, 1]"
                )
        if not 0 < self.teacher_temperature < math.inf:
            raise InputError(
                "teacher_temperature of ProgressiveSelfDistillation is "
                f"{self.teacher_temperature}; it must be above 0"
            )

    def share(self, progress: float) -> float:
        """a(p): the share of soft pairs (`subset`) or the mass of the soft target (`blend`)."""
        ramp = (1 - math.cos(math.pi * progress)) / 2
        return self.initial_share + (self.final_share - self.initial_share) * ramp

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """The mass that the targets leave on each own pair, mean of both directions."""
        if self.mode == "blend" or self.choose == "random":
            return {}
        log_masses = []
        for query, key in DIRECTIONS:
            logits_CN = self._teacher_logits(rows, query, key)
            log_masses.append(rows.own(logits_CN) - log_partition(logits_CN, rows.allowed_CN))
        return {"own_mass": (log_masses[0].exp() + log_masses[1].exp()) / 2}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        own_C = rows.own(rows.logits("image", "text"))
        softness_C, allowed_CN = self._softness(rows, own_C)
        soft_S = softness_C.nonzero().squeeze(1)
        losses, partitions = [], []
        for query, key in DIRECTIONS:
            logits_CN = rows.logits(query, key)
            partition_C = log_partition(logits_CN, rows.allowed_CN)
            target_SN = self._targets(rows, query, key, soft_S, allowed_CN)
            expected_S = (target_SN * logits_CN[soft_S]).sum(1)
            aimed_S = own_C[soft_S].lerp(expected_S, softness_C[soft_S])
            losses.append(partition_C - own_C.index_copy(0, soft_S, aimed_S))
            partitions.append(partition_C)
        return RowLoss(
            loss_C=(losses[0] + losses[1]) / 2,
            diagnostics={"softness": softness_C} | own_pair_diagnostics(own_C, *partitions),
        )

    def _softness(self, rows: Rows, like_C: Tensor) -> tuple[Tensor, Tensor | None]:
        """(C,) mass of each pair's soft target, and the columns such targets spread over."""
        share = self.share(rows.progress)
        if self.mode == "blend":
            return torch.full_like(like_C, share), rows.allowed_CN
        chosen_N = self._chosen(rows, count=math.floor(share * len(rows.image_ND) + 0.5))
        allowed_CN = rows.allowed_CN
        if self.columns == "subset":
            # Rows that stay hard get a target too, which their softness of 0 leaves unused: the
            # own column keeps it finite.
            columns_CN = chosen_N.repeat(rows.size, 1)
            columns_CN = columns_CN.scatter(1, rows.positive_index_C[:, None], True)
            allowed_CN = columns_CN if allowed_CN is None else columns_CN & allowed_CN
        return chosen_N[rows.block].to(like_C.dtype), allowed_CN

    def _chosen(self, rows: Rows, *, count: int) -> Tensor:
        """(N,) whether each pair of the batch is soft. Ties fall to the smaller id."""
        id_N = rows.sample_id_N
        if self.choose == "random":
            order_N = keyed_hash(id_N, seed=rows.seed, step=rows.step).argsort(stable=True)
        else:
            by_id_N = id_N.argsort(stable=True)
            mass_N = rows.statistics_N["own_mass"]
            order_N = by_id_N[mass_N[by_id_N].argsort(stable=True)]
        return torch.zeros_like(id_N, dtype=torch.bool).index_fill(0, order_N[:count], True)

    def _targets(
        self,
        rows: Rows,
        query: Modality,
        key: Modality,
        soft_S: Tensor,
        allowed_CN: Tensor | None,
    ) -> Tensor:
        """(S, N) A for the soft rows of the block: the teacher's distribution, sums to 1."""
        logits_SN = self._teacher_logits(rows, query, key)[soft_S]
        if allowed_CN is not None:
            logits_SN = logits_SN.masked_fill(~allowed_CN[soft_S], -torch.inf)
        return logits_SN.softmax(1)

    def _teacher_logits(self, rows: Rows, query: Modality, key: Modality) -> Tensor:
        """(C, N) what the targets of the rows of `query` are made of: the other direction's."""
        source = (key, query) if self.swap else (query, key)
        logits_CN = rows.logits(*source, teacher=True)
        if self.teacher_temperature == 1:
            return logits_CN
        return logits_CN / self.teacher_temperature
