"""InfoNCE, HN-NCE, PSD and their composition as one closed form.

    loss_i = log D_i - (1 - σ_i) s_ii - σ_i Σ_j A_ij s_ij                    per direction
    D_i    = α exp s_ii + exp neg_i
    neg_i  = log n_i + LSE_{j≠i} (1 + β) s_ij - LSE_{j≠i} β s_ij             n_i negatives
    A_ij   = softmax_j t_ij over the own pair and the negatives              t the teacher's logits

with α = 1, β = 0 for plain negatives and σ = 0 for one-hot targets. For a negative j, with
q_i = exp(neg_i - log D_i), the share of the negatives in D_i,

    d loss_i / d s_ij = q_i (1 + β) exp((1 + β) s_ij - LSE (1 + β) s)
                        - q_i β exp(β s_ij - LSE β s)  - σ_i A_ij
    d loss_i / d s_ii = α exp s_ii / D_i - (1 - σ_i) - σ_i A_ii

Every statistic is the logarithm of a sum of exponentials, or a mean under such exponentials, and
the gradient a sum of shifted exponentials: nothing overflows at any scale. What concerns the own
pair is a function of the log-odds o_i = neg_i - s_ii - log α, so that nothing cancels either:

    log D_i - s_ii = log α + log(1 + exp o_i)        q_i = sigmoid o_i
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.objectives.closed_form import (
    GradientTerm,
    Observed,
    Settled,
    Statistics,
    TargetTiles,
)
from winnow.objectives.exponentials import exp_, flushed_, mean_odds, softplus
from winnow.objectives.pairs import MASKED, Pairs
from winnow.objectives.rows import DIRECTION_NAMES, margin, ranks_first

Soften = Callable[[Tensor], Tensor]
"""Log-odds of the mass that the teacher leaves on each own pair (N,) to σ (N,)."""


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """Where soft targets come from, and how much of them each pair takes."""

    tiles: TargetTiles | None
    """None where no pair is soft at this step: no teacher is asked."""
    soften: Soften


@dataclass(frozen=True, kw_only=True)
class SoftmaxForm:
    """Negatives of HN-NCE, targets of PSD, each optional."""

    alpha: float = 1.0
    beta: float = 0.0
    detach_weights: bool = False
    soft: SoftTargets | None = None

    @property
    def targets(self) -> TargetTiles | None:
        """The teacher's tiles that are wanted, if any."""
        return None if self.soft is None else self.soft.tiles

    @property
    def identity(self) -> Mapping[str, float]:
        """Each statistic of no columns at all: a sum of nothing is exp(-inf)."""
        names = ["largest", "plain"]
        if self.beta:
            names += ["easy", "hard", "easy_squared"]
        if self.targets is None:
            return dict.fromkeys(names, -math.inf)
        return dict.fromkeys([*names, "target"], -math.inf) | {"aim": 0.0, "target_aim": 0.0}

    def observe(self, logits_RC: Tensor, target_RC: Tensor | None) -> Statistics:
        """(R,) log-sums of exponentials, and means under the teacher's."""
        largest_R = logits_RC.amax(1)
        shifted_RC = logits_RC - largest_R[:, None]
        found = {"largest": largest_R}
        if self.beta:
            easy_RC = exp_(self.beta * shifted_RC)
            found["easy"] = self.beta * largest_R + easy_RC.sum(1).log()
            plain_RC = exp_(shifted_RC)
            found["plain"] = largest_R + plain_RC.sum(1).log()
            hard_R = plain_RC.mul_(easy_RC).sum(1)
            found["hard"] = (1 + self.beta) * largest_R + hard_R.log()
            found["easy_squared"] = 2 * self.beta * largest_R + easy_RC.square_().sum(1).log()
        else:
            found["plain"] = largest_R + exp_(shifted_RC).sum(1).log()
        if target_RC is not None:
            peak_R = target_RC.amax(1)
            weight_RC = exp_(target_RC - peak_R[:, None])
            total_R = weight_RC.sum(1)
            found["target"] = peak_R + total_R.log()
            found["aim"] = (weight_RC * logits_RC).sum(1) / total_R
            found["target_aim"] = weight_RC.mul_(target_RC).sum(1) / total_R
        return found

    def merge(self, parts_P: Statistics) -> Statistics:
        """Join what disjoint sets of columns gave."""
        merged = {"largest": parts_P["largest"].amax(0)}
        for name in parts_P.keys() & {"plain", "hard", "easy", "easy_squared", "target"}:
            merged[name] = parts_P[name].logsumexp(0)
        if "target" in merged:
            share_P = (parts_P["target"] - merged["target"]).exp()
            for name in ("aim", "target_aim"):
                merged[name] = (share_P * parts_P[name]).sum(0)
        return merged

    def target_odds(self, observed: Observed) -> Tensor:
        """(N,) log-odds of the mass that the teacher leaves on each own pair, both ways' mean."""
        assert observed.target_own_N is not None, "only a form with targets is asked"
        return mean_odds(observed.target_own_N - observed.statistics_2N["target"])

    def settle(self, observed: Observed, pairs: Pairs) -> Settled:
        """The equations above, in the log-odds of the negatives against the own pair.

        log D_i - s_ii taken as a difference would lose what a well-aligned pair has left of it.
        """
        statistics, own_N = observed.statistics_2N, observed.own_N
        log_weight_N = (pairs.weight_N / (2 * pairs.weight_N.sum())).log()
        odds_2N = self._log_negatives(statistics, pairs) - own_N - math.log(self.alpha)
        terms = self._terms(statistics, F.logsigmoid(odds_2N) + log_weight_N)
        diagnostics = self._diagnostics(observed, pairs)
        gap_2N = other_mass_2N = torch.zeros_like(odds_2N)
        if self.targets is not None:
            softened = self._softened(observed)
            gap_2N, other_mass_2N = softened.gap_2N, softened.other_mass_2N
            shift_2N = softened.partition_2N - softened.softness_N.log() - log_weight_N
            terms.append(GradientTerm(sign=-1, power=1.0, shift_2N=shift_2N, of_target=True))
            diagnostics |= softened.diagnostics()
        elif self.soft is not None:
            diagnostics |= one_hot_diagnostics(own_N)
        return Settled(
            loss_N=(softplus(odds_2N) + gap_2N).mean(0) + math.log(self.alpha),
            own_gradient_N=(other_mass_2N - odds_2N.sigmoid()).sum(0) * log_weight_N.exp(),
            gradient_terms=tuple(terms),
            diagnostics_N=diagnostics,
        )

    def gradient(
        self,
        settled: Settled,
        direction: int,
        rows: slice,
        logits_RC: Tensor,
        target_RC: Tensor | None,
    ) -> Tensor:
        """(R, C) the sum of the terms."""
        gradient_RC = None
        for term in settled.gradient_terms:
            shift_R1 = term.shift_2N[direction, rows, None]
            source_RC = target_RC if term.of_target else logits_RC
            assert source_RC is not None, "the walk brings what the form wants"
            term_RC = flushed_(exp_(torch.add(-shift_R1, source_RC, alpha=term.power)))
            if gradient_RC is None:
                gradient_RC = term_RC
            else:
                gradient_RC.add_(term_RC, alpha=term.sign)
        assert gradient_RC is not None, "the first term is the negatives', its sign positive"
        return gradient_RC

    def _softened(self, observed: Observed) -> "_Softened":
        assert self.soft is not None, "there are targets"
        return _Softened.of(observed, self.soft.soften(self.target_odds(observed)))

    def _log_negatives(self, statistics: Statistics, pairs: Pairs) -> Tensor:
        """(2, N) neg_i; -inf without negatives."""
        has_negatives_N = pairs.negatives_N > 0
        if not self.beta:
            return torch.where(has_negatives_N, statistics["plain"], -torch.inf)
        mean_2N = statistics["hard"] - statistics["easy"]
        return pairs.negatives_N.log() + torch.where(has_negatives_N, mean_2N, 0.0)

    def _terms(self, statistics: Statistics, log_share_2N: Tensor) -> list[GradientTerm]:
        """Of the negatives; `log_share_2N` is log q_i with the pair's weight in it."""
        if not self.beta:
            return [GradientTerm(sign=1, power=1.0, shift_2N=statistics["plain"] - log_share_2N)]
        power = 1 + self.beta
        hard_2N, easy_2N = (statistics[name] - log_share_2N for name in ("hard", "easy"))
        if self.detach_weights:
            return [GradientTerm(sign=1, power=power, shift_2N=hard_2N)]
        return [
            GradientTerm(sign=1, power=power, shift_2N=hard_2N - math.log(power)),
            GradientTerm(sign=-1, power=self.beta, shift_2N=easy_2N - math.log(self.beta)),
        ]

    def _diagnostics(self, observed: Observed, pairs: Pairs) -> dict[str, Tensor]:
        statistics, own_N = observed.statistics_2N, observed.own_N
        probability_2N = (own_N - statistics["plain"]).sigmoid()
        found = {}
        for direction, name in enumerate(DIRECTION_NAMES):
            largest_N = statistics["largest"][direction]
            found[f"own_probability_{name}"] = probability_2N[direction]
            found[f"margin_{name}"] = margin(own_N, largest_N)
            found[f"rank_1_{name}"] = ranks_first(own_N, largest_N, observed.scale)
            if self.beta:
                easy_N, squared_N = (statistics[k][direction] for k in ("easy", "easy_squared"))
                found[f"effective_negatives_{name}"] = torch.where(
                    pairs.negatives_N > 0, (2 * easy_N - squared_N).exp(), 0.0
                )
        return found


@dataclass(frozen=True, kw_only=True)
class _Softened:
    """The targets (1 - σ) one-hot + σ A."""

    softness_N: Tensor
    partition_2N: Tensor
    """log Σ_j exp t_ij."""
    gap_2N: Tensor
    """Mean of s_ii - s_ij under the target."""
    other_mass_2N: Tensor
    """Mass of the target beside the own pair."""
    entropy_2N: Tensor
    """Of the target, in nats."""

    @classmethod
    def of(cls, observed: Observed, softness_N: Tensor) -> "_Softened":
        statistics, target_own_N = observed.statistics_2N, observed.target_own_N
        assert target_own_N is not None, "soft targets have a teacher"
        partition_2N = torch.logaddexp(target_own_N, statistics["target"])
        other_2N = (statistics["target"] - target_own_N).sigmoid() * softness_N
        # log of the mass of one negative is log σ + t_ij - partition; 0 log 0 is 0.
        mean_log_2N = statistics["target_aim"] - partition_2N + softness_N.log()
        spread_2N = -torch.where(other_2N > 0, other_2N * mean_log_2N, 0.0)
        gap_2N = torch.where(other_2N > 0, observed.own_N - statistics["aim"], 0.0)
        return cls(
            softness_N=softness_N,
            partition_2N=partition_2N,
            gap_2N=other_2N * gap_2N,
            other_mass_2N=other_2N,
            entropy_2N=spread_2N - (1 - other_2N) * torch.log1p(-other_2N).clamp(min=MASKED),
        )

    def diagnostics(self) -> dict[str, Tensor]:
        own_mass_N = 1 - self.other_mass_2N.mean(0)
        return target_diagnostics(self.softness_N, own_mass_N, self.entropy_2N.mean(0))


def one_hot_diagnostics(like_N: Tensor) -> dict[str, Tensor]:
    """Where no pair is soft."""
    zero_N = torch.zeros_like(like_N)
    return target_diagnostics(zero_N, torch.ones_like(like_N), zero_N)


def target_diagnostics(
    softness_N: Tensor, own_mass_N: Tensor, entropy_N: Tensor
) -> dict[str, Tensor]:
    """The targets that pairs were trained with; a hard one has mass 1 and entropy 0."""
    return {"softness": softness_N, "target_own_mass": own_mass_N, "target_entropy": entropy_N}
