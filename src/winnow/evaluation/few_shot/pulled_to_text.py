"""A probe that pays for the way it goes from the zero-shot classifier.

    min over W of Σ_i CE(y_i, x_iᵀ W) + λ/2 ‖W - W_0‖²

λ by the further shots. DiHT's probe bounds that way instead (`text_initialised.py`): its ball and
this penalty have the same solutions, one λ for each δ, and differ in how a grid meets them.
"""

import numpy as np

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import Fitted
from winnow.evaluation.few_shot.penalty_path import choose_decay
from winnow.evaluation.few_shot.softmax_regression import (
    Device,
    regression_from_text,
    zero_shot_weight,
)


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """Learns W - W_0; the zero-shot classifier is its start and, at a strong penalty, its end."""
    start_DK = zero_shot_weight(class_KD, scale)
    bias_K = np.zeros(len(class_KD), start_DK.dtype)
    regression = regression_from_text(shots, start_DK, device=device)
    return choose_decay(
        regression,
        lambda weight_DK: LinearClassifier(start_DK + weight_DK, bias_K),
        validation,
    )
