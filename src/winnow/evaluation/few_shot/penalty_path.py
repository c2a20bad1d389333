"""The grid of the penalized probes: from the strongest penalty to the weakest, warm-started."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import FIXED, Fitted, best
from winnow.evaluation.few_shot.penalized import (
    DECAYS,
    FIXED_DECAY,
    TOLERANCE,
    solve_penalized,
)
from winnow.evaluation.few_shot.softmax_regression import Regression


def choose_decay(
    regression: Regression,
    classifier: Callable[[np.ndarray], LinearClassifier],
    validation: Labelled | None,
) -> Fitted:
    """The penalty that does best on the further shots, the stronger of equals."""
    if validation is None:
        (only,) = _walk(regression, classifier, [FIXED_DECAY])
        return Fitted(only.classifier, {**only.settings, "chosen_by": FIXED})
    return best(_walk(regression, classifier, DECAYS), validation)


def _walk(
    regression: Regression,
    classifier: Callable[[np.ndarray], LinearClassifier],
    decays: Sequence[float],
) -> Iterator[Fitted]:
    shape = regression.x_NX.shape[1], regression.known_NK.shape[1]
    weight_XK = torch.zeros(shape, dtype=regression.x_NX.dtype, device=regression.x_NX.device)
    for decay in decays:
        solution = solve_penalized(regression, decay, start_XK=weight_XK)
        weight_XK = solution.weight_XK
        settings = {
            "weight_decay": decay,
            "residual": solution.residual,
            "converged": solution.residual < TOLERANCE,
        }
        yield Fitted(classifier(weight_XK.cpu().numpy()), settings)
