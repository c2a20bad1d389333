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
from typing import Literal, get_args

import torch
from torch import Tensor

from winnow.objectives.closed_form import Measure, TargetTiles
from winnow.objectives.exponentials import mean_odds
from winnow.objectives.hashing import keyed_hash
from winnow.objectives.pairs import MASKED, Pairs
from winnow.objectives.rows import (
    DIRECTIONS,
    Modality,
    RowLoss,
    Rows,
    own_pair_costs,
    own_pair_diagnostics,
)
from winnow.objectives.softmax_form import SoftmaxForm, SoftTargets, target_diagnostics
from winnow.types import InputError

Mode = Literal["subset", "blend"]
Choice = Literal["least-aligned", "random"]
Columns = Literal["all", "subset"]


@dataclass(frozen=True, kw_only=True)
class ProgressiveSelfDistillation:
    """Soft targets from the model itself, for a share of the pairs that grows with training."""

    initial_share: float = 0.0
    """Share of soft pairs at the start, in [0, 1]."""
    final_share: float = 0.2
    """Share of soft pairs at the end, in [0, 1]."""
    mode: Mode = "subset"
    """`subset`: a share of the pairs is soft. `blend`: every target is (1 - a) one-hot + a soft."""
    choose: Choice = "least-aligned"
    """Which pairs are soft: those whose own target mass is lowest, or any."""
    columns: Columns = "all"
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
        for name, type_ in (("mode", Mode), ("choose", Choice), ("columns", Columns)):
            if getattr(self, name) not in get_args(type_):
                raise InputError(
                    f"{name} of ProgressiveSelfDistillation is {getattr(self, name)!r}; "
                    f"it must be one of {', '.join(get_args(type_))}"
                )
        if self.mode == "blend" and self.columns == "subset":
            raise InputError(
                "columns of ProgressiveSelfDistillation is 'subset', and mode 'blend' has no "
                "subset: all pairs are soft. It must be 'all'"
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
        """Log-odds of the mass that the teacher leaves on each own pair, both ways' mean.

        Their order is that of the masses, and survives where those would round to 0 or 1.
        """
        decided = self.mode == "blend" or self.choose == "random"
        if decided or not self._has_soft_pairs(rows.pairs):
            return {}
        odds = []
        for direction in DIRECTIONS:
            logits_CN = self._teacher_logits(rows, *direction)
            odds.append(rows.own(logits_CN) - rows.negatives(logits_CN).logsumexp(1))
        return {"own_odds": mean_odds(torch.stack(odds))}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        image_C, text_C = own_pair_costs(rows)
        gap_C, diagnostics = self.gaps(rows)
        return RowLoss(
            loss_C=(image_C + text_C) / 2 + gap_C,
            diagnostics=own_pair_diagnostics(rows) | diagnostics,
        )

    def closed_form(self, pairs: Pairs, measure: Measure) -> SoftmaxForm:
        """The same loss for the tiled and triton executions."""
        if not self._has_soft_pairs(pairs):
            return SoftmaxForm(soft=SoftTargets(tiles=None, soften=torch.zeros_like))
        all_columns = TargetTiles(swap=self.swap, temperature=self.teacher_temperature)
        form = SoftmaxForm(
            soft=SoftTargets(tiles=all_columns, soften=lambda odds_N: self._soften(pairs, odds_N))
        )
        if self.mode == "blend" or self.columns == "all":
            return form
        # Which columns targets spread over must be known before targets can be summed.
        odds_N = None
        if self.choose == "least-aligned":
            odds_N = form.target_odds(measure(form))
        softness_N = self._soften(pairs, odds_N)
        chosen_columns = TargetTiles(
            swap=self.swap, temperature=self.teacher_temperature, columns_N=softness_N.bool()
        )
        return SoftmaxForm(soft=SoftTargets(tiles=chosen_columns, soften=lambda _: softness_N))

    def gaps(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """(C,) the mean of s_ii - s_ij under each pair's target, both ways; diagnostics."""
        own_C = rows.own(rows.logits("image", "text"))
        softness_N = self._soften(rows.pairs, rows.statistics_N.get("own_odds"))
        softness_C = softness_N[rows.block]
        soft_S = softness_C.nonzero().squeeze(1)
        gaps, masses, entropies = [], [], []
        for direction in DIRECTIONS:
            target_SN = self._targets(rows, *direction, soft_S, softness_N)
            behind_SN = own_C[soft_S, None] - rows.logits(*direction)[soft_S]
            gap_S = (target_SN * behind_SN).sum(1)
            gaps.append(torch.zeros_like(own_C).index_copy(0, soft_S, gap_S))
            own_S = target_SN.gather(1, rows.positive_index_C[soft_S, None]).squeeze(1)
            masses.append(torch.ones_like(own_C).index_copy(0, soft_S, own_S))
            entropy_S = -torch.xlogy(target_SN, target_SN).sum(1)
            entropies.append(torch.zeros_like(own_C).index_copy(0, soft_S, entropy_S))
        diagnostics = target_diagnostics(
            softness_C, torch.stack(masses).mean(0), torch.stack(entropies).mean(0)
        )
        return (gaps[0] + gaps[1]) / 2, diagnostics

    def _has_soft_pairs(self, pairs: Pairs) -> bool:
        share = self.share(pairs.progress)
        return share > 0 if self.mode == "blend" else self._soft_count(pairs) > 0

    def _soft_count(self, pairs: Pairs) -> int:
        return math.floor(self.share(pairs.progress) * len(pairs) + 0.5)

    def _soften(self, pairs: Pairs, odds_N: Tensor | None) -> Tensor:
        """(N,) σ, the mass of each pair's soft target. Ties fall to the smaller id."""
        if not self._has_soft_pairs(pairs):
            return torch.zeros_like(pairs.weight_N)
        if self.mode == "blend":
            return torch.full_like(pairs.weight_N, self.share(pairs.progress))
        id_N = pairs.sample_id_N
        if self.choose == "random":
            order_N = keyed_hash(id_N, seed=pairs.seed, step=pairs.step).argsort(stable=True)
        else:
            assert odds_N is not None, "prepare found it"
            by_id_N = id_N.argsort(stable=True)
            order_N = by_id_N[odds_N[by_id_N].argsort(stable=True)]
        chosen_S = order_N[: self._soft_count(pairs)]
        return torch.zeros_like(pairs.weight_N).index_fill(0, chosen_S, 1.0)

    def _targets(
        self, rows: Rows, query: Modality, key: Modality, soft_S: Tensor, softness_N: Tensor
    ) -> Tensor:
        """(S, N) (1 - σ) one-hot + σ A for the soft rows of the block; each sums to 1."""
        logits_SN = self._teacher_logits(rows, query, key)[soft_S]
        own_S1 = rows.positive_index_C[soft_S, None]
        forbidden_SN = rows.forbidden_CN[soft_S]
        if self.mode == "subset" and self.columns == "subset":
            forbidden_SN = forbidden_SN | (softness_N == 0)
        forbidden_SN = forbidden_SN.scatter(1, own_S1, False)
        target_SN = logits_SN.masked_fill(forbidden_SN, MASKED).softmax(1)
        softness_S1 = softness_N[rows.block][soft_S, None]
        return (softness_S1 * target_SN).scatter_add(1, own_S1, 1 - softness_S1)

    def _teacher_logits(self, rows: Rows, query: Modality, key: Modality) -> Tensor:
        """(C, N) what the targets of the rows of `query` are made of: the other direction's."""
        source = (key, query) if self.swap else (query, key)
        return rows.logits(*source, teacher=True) / self.teacher_temperature
