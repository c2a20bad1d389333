"""The plain probe: logistic regression that starts from nothing and knows no class name.

    min over W, b of Σ_i CE(y_i, xᵀ W + b) + λ/2 (‖W‖² + ‖b‖²)

λ by the further shots. The bias is penalized like the weights, so that the problem is strongly
convex and a class without shots has a finite one.
"""

import numpy as np
import torch

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import Fitted
from winnow.evaluation.few_shot.penalty_path import choose_decay
from winnow.evaluation.few_shot.softmax_regression import Device, Regression, with_bias


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """Of `class_KD` only the number of classes matters, and `scale` does not."""
    x_ND = torch.from_numpy(shots.feature_ND).to(device)
    known_NK = x_ND.new_zeros(len(x_ND), len(class_KD))
    regression = Regression(x_ND, torch.from_numpy(shots.label_N).to(device), known_NK)
    return choose_decay(with_bias(regression), _classifier, validation)


def _classifier(weight_XK: np.ndarray) -> LinearClassifier:
    return LinearClassifier(weight_XK[:-1], weight_XK[-1])
