"""Tip-Adapter without training: the shots are a cache that is asked beside the class names.

    logits = xᵀ W_0 + a Σ_i exp(-b (1 - xᵀ f_i)) y_i        over the shots f_i, with labels y_i

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022,
arXiv 2207.09519. At a = 0 it is the zero-shot classifier. (a, b) by the further shots; the released
code looks for them on the test set.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from winnow.evaluation.features import Labelled
from winnow.evaluation.few_shot.fitted import FIXED, Fitted, best
from winnow.evaluation.few_shot.softmax_regression import Device, zero_shot_weight

SHARES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""a, beside 0."""
SHARPNESSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""b."""
FIXED_SHARE, FIXED_SHARPNESS = 1.17, 1.0
"""Without further shots: what the released code uses on ImageNet before it searches."""
_BLOCK_ELEMENTS = 2**24  # similarities at once: 67 MB


class CacheClassifier(NamedTuple):
    """The class names and a cache of shots."""

    start_DK: np.ndarray
    shots: Labelled
    share: float
    sharpness: float
    device: Device = "cpu"

    def logits(self, feature_ND: np.ndarray) -> np.ndarray:
        """(N, K) float32, in blocks of pictures."""
        logits_NK = feature_ND @ self.start_DK
        if self.share == 0:
            return logits_NK
        shot_SD = torch.from_numpy(self.shots.feature_ND).to(self.device)
        label_S = torch.from_numpy(self.shots.label_N).to(self.device)
        rows = max(1, _BLOCK_ELEMENTS // len(label_S))
        for first in range(0, len(feature_ND), rows):
            block = slice(first, first + rows)
            similarity_BS = torch.from_numpy(feature_ND[block]).to(shot_SD) @ shot_SD.T
            weight_BS = similarity_BS.sub_(1).mul_(self.sharpness).exp_()
            votes_BK = weight_BS.new_zeros(len(weight_BS), logits_NK.shape[1])
            votes_BK.index_add_(1, label_S, weight_BS)
            logits_NK[block] += votes_BK.mul_(self.share).cpu().numpy()
        return logits_NK


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """(a, b) by the further shots, or fixed."""
    cache = CacheClassifier(
        zero_shot_weight(class_KD, scale), shots, FIXED_SHARE, FIXED_SHARPNESS, device
    )
    if validation is None:
        return Fitted(cache, {**_settings(cache), "chosen_by": FIXED})
    return best(_grid(cache), validation)


def _grid(cache: CacheClassifier) -> Iterator[Fitted]:
    pairs = [(0.0, SHARPNESSES[0])] + [(a, b) for a in SHARES for b in SHARPNESSES]
    for share, sharpness in pairs:
        candidate = cache._replace(share=share, sharpness=sharpness)
        yield Fitted(candidate, _settings(candidate))


def _settings(cache: CacheClassifier) -> dict[str, object]:
    return {"share": cache.share, "sharpness": cache.sharpness}
