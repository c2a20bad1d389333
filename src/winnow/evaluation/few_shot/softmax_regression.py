"""The loss that the fitted probes share: softmax regression that starts from given logits.

    f(V) = 1/N Σ_i CE(y_i, z_i + x_iᵀ V),    ∇f = 1/N Xᵀ (P - Y)

z is what the probe knows before it learns: the zero-shot logits, or 0. Its gradient is Lipschitz
with λ_max(XᵀX) / (2N): the Hessian of the softmax, diag(p) - p pᵀ, has no eigenvalue above 1/2,
since by Gershgorin each is at most 2 p_j (1 - p_j).

X is the width of what is learned on: D, or D + 1 with a column of ones for a bias.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.features import Labelled

Device = str | torch.device


class Regression(NamedTuple):
    """N shots to learn from."""

    x_NX: Tensor
    label_N: Tensor
    known_NK: Tensor
    """The logits before anything is learned."""

    def logits(self, weight_XK: Tensor) -> Tensor:
        """(N, K). Linear: logits of a mix of weights are the mix of their logits."""
        return torch.addmm(self.known_NK, self.x_NX, weight_XK)

    def loss(self, logits_NK: Tensor) -> Tensor:
        """f, in nats."""
        own_N = logits_NK.gather(1, self.label_N[:, None]).squeeze(1)
        return (logits_NK.logsumexp(dim=1) - own_N).mean()

    def gradient(self, logits_NK: Tensor) -> Tensor:
        """∇f, (X, K)."""
        away_NK = torch.softmax(logits_NK, dim=1)
        away_NK[torch.arange(len(away_NK), device=away_NK.device), self.label_N] -= 1
        return self.x_NX.T @ away_NK / len(self.label_N)

    def double(self) -> "Regression":
        """The same in float64."""
        return self._replace(x_NX=self.x_NX.double(), known_NK=self.known_NK.double())

    def lipschitz(self) -> float:
        """λ_max(XᵀX) / (2N), a bound on how fast the gradient changes."""
        gram_XX = self.x_NX.T @ self.x_NX
        largest = torch.linalg.eigvalsh(gram_XX.double())[-1]
        return float(largest) / (2 * len(self.label_N))


def bend(from_NK: Tensor, to_NK: Tensor) -> float:
    """f at `to` minus the tangent of f at `from`: f(v) - f(u) - ∇f(u)ᵀ (v - u), at least 0.

    Of each shot it is log Σ_j p_j exp(d_j), d being the step of its logits minus the mean of it
    under p. Written as log1p(Σ_j p_j (expm1(d_j) - d_j)), it does not drown in the rounding of f.
    """
    share_NK = torch.softmax(from_NK, dim=1)
    step_NK = to_NK - from_NK
    step_NK -= (share_NK * step_NK).sum(dim=1, keepdim=True)
    excess_N = (share_NK * (torch.expm1(step_NK) - step_NK)).sum(dim=1)
    return torch.log1p(excess_N).mean().item()


def zero_shot_weight(class_KD: np.ndarray, scale: float) -> np.ndarray:
    """W_0, (D, K): the normalized prompt ensembles times the logit scale."""
    return np.ascontiguousarray(class_KD.T) * class_KD.dtype.type(scale)


def regression_from_text(
    shots: Labelled, start_DK: np.ndarray, *, device: Device = "cpu"
) -> Regression:
    """What is learned is added to the zero-shot classifier `start_DK`."""
    x_ND = torch.from_numpy(shots.feature_ND).to(device)
    label_N = torch.from_numpy(shots.label_N).to(device)
    return Regression(x_ND, label_N, x_ND @ torch.from_numpy(start_DK).to(x_ND))


def with_bias(regression: Regression) -> Regression:
    """The same with a column of ones: the last row of the weight is the bias."""
    x_NX = torch.nn.functional.pad(regression.x_NX, (0, 1), value=1.0)
    return regression._replace(x_NX=x_NX)
