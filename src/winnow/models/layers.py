"""The layers of two towers, from the input up: what is locked first, and learns slowest.

A layer is a list of names of parameters in the open_clip model. A transformer has its embeddings,
each of its blocks, the last one with the normalisation after it, and the projection to the joint
space (as `lock_image_tower` and `lock_text_tower` of open_clip count them). A ModifiedResNet has
its stem, four stages and the attention pool; a timm trunk what timm's own `group_matcher` says, and
the projection above it.
"""

from collections.abc import Iterable
from typing import Any

from open_clip import CustomTextCLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from winnow.types import InputError

_TEXT = (
    *("token_embedding", "positional_embedding", "cls_emb", "transformer", "ln_final"),
    "text_projection",
)
"""What open_clip's CLIP has of its text tower, as attributes of its own."""


def image_layers(clip: Any) -> list[list[str]]:
    """Of the image tower. Raises InputError for a tower whose layers are not known."""
    tower = clip.visual
    if isinstance(tower, VisionTransformer):
        return _transformer_layers(tower, "visual.", top=("proj",))
    if isinstance(tower, ModifiedResNet):
        return _resnet_layers(tower)
    if isinstance(tower, TimmModel):
        return _timm_layers(tower)
    raise InputError(f"the layers of a {type(tower).__name__} are not known: lock all or none")


def text_layers(clip: Any) -> list[list[str]]:
    """Of the text tower."""
    if isinstance(clip, CustomTextCLIP):
        return _transformer_layers(clip.text, "text.", top=("text_projection",))
    return _transformer_layers(clip, "", top=("text_projection",), only=_TEXT)


def image_parameters(clip: nn.Module) -> list[str]:
    """All names of the image tower."""
    return [name for name, _ in clip.named_parameters() if name.startswith("visual.")]


def text_parameters(clip: nn.Module) -> list[str]:
    """All names of the text tower."""
    if isinstance(clip, CustomTextCLIP):
        return [name for name, _ in clip.named_parameters() if name.startswith("text.")]
    return [name for name, _ in clip.named_parameters() if name.partition(".")[0] in _TEXT]


def _transformer_layers(
    tower: Any, prefix: str, *, top: tuple[str, ...], only: tuple[str, ...] | None = None
) -> list[list[str]]:
    names = [name for name, _ in tower.named_parameters()]
    if only is not None:
        names = [name for name in names if name.partition(".")[0] in only]
    blocks = len(tower.transformer.resblocks)
    layers: list[list[str]] = [[] for _ in range(blocks + 2)]
    after = {"ln_post", "ln_final", "attn_pool", "attn_pool_contrastive"}
    for name in names:
        first = name.partition(".")[0]
        if first in top:
            layer = blocks + 1
        elif name.startswith("transformer.resblocks."):
            layer = 1 + int(name.split(".")[2])
        else:
            layer = blocks if first in after else 0
        layers[layer].append(prefix + name)
    return [layer for layer in layers if layer]


def _resnet_layers(tower: ModifiedResNet) -> list[list[str]]:
    stages = ("layer1", "layer2", "layer3", "layer4", "attnpool")
    names = [name for name, _ in tower.named_parameters()]
    stem = [name for name in names if name.partition(".")[0] not in stages]
    above = [[n for n in names if n.partition(".")[0] == stage] for stage in stages]
    return [_prefixed(layer, "visual.") for layer in (stem, *above)]


def _timm_layers(tower: TimmModel) -> list[list[str]]:
    from timm.models import group_parameters

    if not hasattr(tower.trunk, "group_matcher"):
        raise InputError(
            f"timm does not say what the layers of a {type(tower.trunk).__name__} are: "
            "lock all or none of it, without a layer decay"
        )
    groups = group_parameters(tower.trunk, tower.trunk.group_matcher(coarse=False))
    layers = [_prefixed(groups[number], "visual.trunk.") for number in sorted(groups)]
    head = [name for name, _ in tower.head.named_parameters()]
    return [*layers, _prefixed(head, "visual.head.")] if head else layers


def _prefixed(names: Iterable[str], prefix: str) -> list[str]:
    return [prefix + name for name in names]
