"""Features of pictures before and after the projection to the joint space, in one forward pass.

    projected = hidden W        (Radford et al. 2021, figure 3: I_e and I_f)

A linear probe works on what comes before W (appendix A.3). Where a tower ends in no projection of
its own (ModifiedResNet projects inside its attention pool, SigLIP's towers pool by attention into
the joint space), there is nothing before it to be had.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn


class ImageStages(NamedTuple):
    """Neither is normalized."""

    hidden_BH: Tensor
    """What goes into the projection; the same as `projected_BD` where there is none."""
    projected_BD: Tensor
    """In the joint space."""


Stages = Callable[[Tensor], ImageStages]
"""From normalized pictures (B, 3, H, W)."""


def find_stages(tower: nn.Module) -> Stages | None:
    """The stages of an image tower of open_clip; None where its end is no projection."""
    if isinstance(tower, VisionTransformer) and tower.proj is not None:
        return partial(_before_matrix, tower)
    if isinstance(tower, TimmModel):
        layer = _last_layer(tower)
        return None if layer is None else partial(_before_layer, tower, layer)
    return None


def _last_layer(tower: TimmModel) -> nn.Module | None:
    for name in ("proj", "mlp"):
        if hasattr(tower.head, name):
            return getattr(tower.head, name)
    if len(tower.head):  # a pool of open_clip's, which projects
        return None
    # Where the head is empty, timm's classifier is the projection, if it has one.
    classifier = tower.trunk.get_classifier()
    return classifier if isinstance(classifier, nn.Linear) else None


def _before_matrix(tower: VisionTransformer, image_BCHW: Tensor) -> ImageStages:
    # open_clip's tower leaves the projection out where it has none.
    matrix_HD, tower.proj = tower.proj, None
    try:
        hidden = tower(image_BCHW)
    finally:
        tower.proj = matrix_HD
    hidden_BH = hidden[0] if isinstance(hidden, tuple) else hidden  # CoCa's gives tokens too
    return ImageStages(hidden_BH, hidden_BH @ matrix_HD)


def _before_layer(tower: TimmModel, layer: nn.Module, image_BCHW: Tensor) -> ImageStages:
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        projected_BD = tower(image_BCHW)
    finally:
        hook.remove()
    (hidden_BH,) = seen
    return ImageStages(hidden_BH, projected_BD)
