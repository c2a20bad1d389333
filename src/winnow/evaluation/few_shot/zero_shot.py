"""No shots: the classifier that the class names are.

    logits = xᵀ W_0,    W_0 = the normalized prompt ensembles times the logit scale

It is what the other methods start from or are compared with, through the same code. Logits tie
where the cosines do in the protocol of the same name (ranking.py), so both give one number.
"""

import numpy as np

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import NOTHING_CHOSEN, Fitted
from winnow.evaluation.few_shot.softmax_regression import Device, zero_shot_weight
from winnow.evaluation.ranking import TIE


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """W_0; neither the shots nor the device matter."""
    weight_DK = zero_shot_weight(class_KD, scale)
    bias_K = np.zeros(len(class_KD), class_KD.dtype)
    settings = {"chosen_by": NOTHING_CHOSEN}
    return Fitted(LinearClassifier(weight_DK, bias_K), settings, tie=TIE * scale)
