"""Softmax regression with a squared penalty, by L-BFGS.

    min_V  Σ_i CE(y_i, z_i + x_iᵀ V) + λ/2 ‖V‖²

It is strongly convex, so there is one solution, also where a class has no shot. Divided by N, as
the loss is here, the penalty is λ/(2N) ‖V‖².
"""

from typing import NamedTuple

import torch
from torch import Tensor

from winnow.evaluation.few_shot.softmax_regression import Regression

DECAYS = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""λ, from the strongest: each solution is where the search for the next one starts."""
FIXED_DECAY = 1.0
"""Without further shots; scikit-learn's default too."""
TOLERANCE = 1e-5
MAX_STEPS = 1000


class PenalizedSolution(NamedTuple):
    """Where the solver stopped."""

    weight_XK: Tensor
    residual: float
    """Norm of the gradient of the objective divided by N."""


def solve_penalized(
    regression: Regression, decay: float, *, start_XK: Tensor, tolerance: float = TOLERANCE
) -> PenalizedSolution:
    """Minimize from `start_XK`, until the gradient's norm is below the tolerance.

    In float32 a line search may stop early, since values so close to the minimum are equal to it;
    float64 goes on from there.
    """
    found = _search(regression, decay, start_XK, tolerance)
    if found.residual < tolerance or start_XK.dtype == torch.float64:
        return found
    exact = _search(regression.double(), decay, found.weight_XK.double(), tolerance)
    return PenalizedSolution(exact.weight_XK.to(start_XK.dtype), exact.residual)


def _search(
    regression: Regression, decay: float, start_XK: Tensor, tolerance: float
) -> PenalizedSolution:
    decay_per_shot = decay / len(regression.label_N)
    weight_XK = start_XK.clone()
    optimizer = torch.optim.LBFGS(
        [weight_XK],
        max_iter=MAX_STEPS,
        # Its own tolerance is for the largest entry; no entry is larger than the norm.
        tolerance_grad=tolerance / weight_XK.numel() ** 0.5,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        logits_NK = regression.logits(weight_XK)
        weight_XK.grad = regression.gradient(logits_NK) + decay_per_shot * weight_XK
        return regression.loss(logits_NK) + decay_per_shot / 2 * weight_XK.square().sum()

    optimizer.step(objective)
    objective()
    assert weight_XK.grad is not None
    return PenalizedSolution(weight_XK, weight_XK.grad.norm().item())
