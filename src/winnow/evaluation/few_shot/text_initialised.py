"""DiHT's probe: it starts as the zero-shot classifier and may go a bounded way from it.

    min over ‖W‖ <= δ, ‖b‖ <= δ_b of Σ_i CE(y_i, x_iᵀ (W + W_0) + b),    W and b start at 0

Radenovic et al., "Filtering, Distillation, and Hard Negatives for Vision-Language Pre-Training",
CVPR 2023, arXiv 2301.02280. δ is a share of ‖W_0‖. At δ = δ_b = 0 it is the zero-shot classifier.

The grid is walked in two lines: δ from small to large without a bias, then δ_b from small to large
at the δ that was chosen. Each solution is where the search for the next one starts.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import FIXED, Fitted, best
from winnow.evaluation.few_shot.projected import TOLERANCE, Balls, solve_in_balls
from winnow.evaluation.few_shot.softmax_regression import (
    Device,
    Regression,
    regression_from_text,
    with_bias,
    zero_shot_weight,
)

DELTAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""δ as a share of ‖W_0‖."""
BIAS_DELTAS = (0.1, 1.0, 10.0)
"""δ_b beside 0, in logits."""
FIXED_DELTA = 0.1
"""Without further shots; δ_b is 0 then."""


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """δ and δ_b by the further shots, or fixed."""
    start_DK = zero_shot_weight(class_KD, scale)
    regression = with_bias(regression_from_text(shots, start_DK, device=device))
    path = _Path(regression, start_DK)
    if validation is None:
        (only,) = path.walk([(FIXED_DELTA, 0.0)])
        return Fitted(only.classifier, {**only.settings, "chosen_by": FIXED})
    chosen = best(path.walk([(delta, 0.0) for delta in DELTAS]), validation)
    delta = chosen.settings["delta"]
    assert isinstance(delta, float)
    # The chosen one comes first again, so that a bias has to be better to be taken.
    return best([chosen, *path.walk([(delta, bias) for bias in BIAS_DELTAS])], validation)


def fit_fixed(
    shots: Labelled,
    class_KD: np.ndarray,
    scale: float,
    *,
    delta: float,
    bias_delta: float,
    device: Device = "cpu",
) -> Fitted:
    """At a δ (a share of ‖W_0‖) and a δ_b that the caller says."""
    start_DK = zero_shot_weight(class_KD, scale)
    regression = with_bias(regression_from_text(shots, start_DK, device=device))
    (only,) = _Path(regression, start_DK).walk([(delta, bias_delta)])
    return Fitted(only.classifier, {**only.settings, "chosen_by": "the caller"})


class _Path:
    """The problem, and the solutions at all radii so far."""

    def __init__(self, regression: Regression, start_DK: np.ndarray) -> None:
        self.regression, self.start_DK = regression, start_DK
        self.norm = float(np.linalg.norm(start_DK))
        # Without a bias the column of ones does not slow the steps down.
        self.lipschitz = regression.lipschitz()
        self.lipschitz_without_bias = regression._replace(x_NX=regression.x_NX[:, :-1]).lipschitz()
        shape = regression.x_NX.shape[1], regression.known_NK.shape[1]
        self.origin_XK = torch.zeros(shape).to(regression.x_NX)
        self.found: dict[tuple[float, float], Tensor] = {}

    def walk(self, radii: Sequence[tuple[float, float]]) -> Iterator[Fitted]:
        """Solve at each (δ, δ_b), from the largest earlier solution that is inside."""
        for delta, bias_delta in radii:
            inside = [at for at in self.found if at[0] <= delta and at[1] <= bias_delta]
            solution = solve_in_balls(
                self.regression,
                Balls(delta * self.norm, bias_delta),
                lipschitz=self.lipschitz if bias_delta else self.lipschitz_without_bias,
                start_XK=self.found[max(inside)] if inside else self.origin_XK,
            )
            self.found[delta, bias_delta] = solution.weight_XK
            weight_XK = solution.weight_XK.cpu().numpy()
            settings = {
                "delta": delta,
                "delta_bias": bias_delta,
                "steps": solution.steps,
                "residual": solution.residual,
                "converged": solution.residual < TOLERANCE,
            }
            yield Fitted(LinearClassifier(self.start_DK + weight_XK[:-1], weight_XK[-1]), settings)
