"""LP++: a probe whose class weights are a picture part and a learned multiple of the class's text.

    logits = xᵀ (w_k + α_k t_k) + b_k,    min 1/N Σ_i CE

Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024, arXiv
2404.02285. Nothing holds the weights back but the number of steps, so start and steps are part of
the method; they are those of the released code:

- w_k starts as the sum of the class's shots, every α_k as 250 times the mean over classes of the
  mean of x_iᵀ t_{y_i} over the class's shots, and b at 0;
- w and b descend with momentum 0.9 and step 4N / λ_max(XᵀX), on all shots at once;
- after every tenth step α descends by N / (4 max_k Σ_i (x_iᵀ t_k)²) times its gradient;
- 300 steps at most; the further shots say after which one to stop.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import FIXED, Fitted, best
from winnow.evaluation.few_shot.softmax_regression import Device, Regression, with_bias

STEPS = 300
STEPS_PER_BLEND = 10
"""Steps of w and b for one of α; after each such round, the probe is a candidate."""
MOMENTUM = 0.9
START_OF_BLEND = 250.0


def fit(
    shots: Labelled,
    validation: Labelled | None,
    class_KD: np.ndarray,
    scale: float,
    *,
    device: Device = "cpu",
) -> Fitted:
    """After how many steps, by the further shots; `scale` does not matter."""
    x_ND = torch.from_numpy(shots.feature_ND).to(device)
    known_NK = x_ND.new_zeros(len(x_ND), len(class_KD))
    regression = Regression(x_ND, torch.from_numpy(shots.label_N).to(device), known_NK)
    candidates = _descend(regression, torch.from_numpy(class_KD.T.copy()).to(x_ND))
    if validation is None:
        *_, last = candidates
        return Fitted(last.classifier, {**last.settings, "chosen_by": FIXED})
    return best(candidates, validation)


def _descend(regression: Regression, text_DK: Tensor) -> Iterator[Fitted]:
    x_ND, label_N, _ = regression
    similarity_NK = x_ND @ text_DK
    picture_XK = torch.zeros(len(text_DK) + 1, text_DK.shape[1]).to(x_ND)
    picture_XK[:-1].index_add_(1, label_N, x_ND.T)
    blend_K = torch.full_like(text_DK[0], _start_of_blend(similarity_NK, label_N))
    step = 2 / regression.lipschitz()  # 4N / λ_max
    biased = with_bias(regression)
    blend_step = len(label_N) / (4 * similarity_NK.square().sum(dim=0).max())
    velocity_XK = torch.zeros_like(picture_XK)
    for steps in range(1, STEPS + 1):
        now = biased._replace(known_NK=similarity_NK * blend_K)
        gradient_XK = now.gradient(now.logits(picture_XK))
        velocity_XK = MOMENTUM * velocity_XK + gradient_XK
        picture_XK = picture_XK - step * velocity_XK
        if steps % STEPS_PER_BLEND == 0:
            # With w_k + α_k t_k as one weight, ∂f/∂α_k is t_kᵀ ∂f/∂w_k.
            blend_K = blend_K - blend_step * (text_DK * gradient_XK[:-1]).sum(dim=0)
            weight_DK = picture_XK[:-1] + blend_K * text_DK
            classifier = LinearClassifier(weight_DK.cpu().numpy(), picture_XK[-1].cpu().numpy())
            yield Fitted(classifier, {"steps": steps})


def _start_of_blend(similarity_NK: Tensor, label_N: Tensor) -> float:
    """250 times the mean over classes of the mean over their shots of x_iᵀ t_{y_i}."""
    own_N = similarity_NK.gather(1, label_N[:, None]).squeeze(1)
    count_K = torch.bincount(label_N, minlength=similarity_NK.shape[1])
    total_K = torch.zeros_like(similarity_NK[0]).index_add_(0, label_N, own_N)
    present = count_K > 0
    return START_OF_BLEND * (total_K[present] / count_K[present]).mean().item()
