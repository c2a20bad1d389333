"""The towers' repeated blocks: what is sharded one by one, recomputed one by one, and compiled."""

import shutil
from collections.abc import Iterator
from typing import Any

from open_clip import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from winnow.types import InputError

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_COMPILERS = ("c++", "g++", "clang++", "cl")


def blocks_of(clip: nn.Module) -> list[nn.Module]:
    """The smallest compound elements of the model's lists of modules, none within another.

    They are the residual blocks of the towers of open_clip and timm, which are built out of such
    lists. One that has lists in it too is one block, unless most of its weights are in those, as in
    a stage. What is left over (embeddings, most stems, projections) belongs to no block.
    """
    return list(_blocks(clip))


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        within = list(_blocks(child))
        is_element = isinstance(module, _CONTAINERS) and _is_compound(child)
        if is_element and 2 * sum(map(_size, within)) < _size(child):
            yield child
        else:
            yield from within


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_compound(module: nn.Module) -> bool:
    """Whether it is made of layers that have weights, as one thing: a list of layers is not one."""
    if isinstance(module, _CONTAINERS):
        return False
    layers = [child for child in module.children() if next(child.parameters(), None) is not None]
    return len(layers) > 1


def checkpoint_activations(clip: Any) -> None:
    """Have both towers compute their blocks' activations again in the backward pass.

    Raises InputError for an image tower that cannot, or that would not stay the same model.
    """
    if any(parameter.requires_grad for parameter in clip.visual.parameters()):
        _checkpoint_image_tower(clip.visual)
    clip.set_grad_checkpointing(True)


def _checkpoint_image_tower(tower: nn.Module) -> None:
    if isinstance(tower, ModifiedResNet):
        raise InputError(
            "open_clip's ResNets cannot recompute activations: leave gradient_checkpointing out, "
            "and take more micro_batches if memory is short and they have no batch normalisation"
        )
    if any(_counts_batches(module) for module in tower.modules()):
        raise InputError(
            "gradient_checkpointing runs the image tower's blocks twice, so that its batch "
            "normalisation would count every batch twice: leave it out, or take a tower without it"
        )
    if isinstance(tower, TimmModel):
        # open_clip's own function hides whether the trunk can.
        try:
            tower.trunk.set_grad_checkpointing(True)
        except (AttributeError, AssertionError, NotImplementedError) as error:
            raise InputError(
                f"timm's {type(tower.trunk).__name__} cannot recompute activations: leave "
                "gradient_checkpointing out"
            ) from error


def _counts_batches(module: nn.Module) -> bool:
    is_normalisation = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return is_normalisation and any(parameter.requires_grad for parameter in module.parameters())


def compile_in_place(clip: Any, device_type: str) -> None:
    """Compile both towers (torch.compile); names of parameters stay as they are.

    Raises InputError where there is nothing to compile with.
    """
    if device_type == "cpu" and not any(map(shutil.which, _COMPILERS)):
        raise InputError(
            "torch.compile needs a C++ compiler on a CPU, and there is none here: install g++, or "
            "leave compile out"
        )
    clip.visual.compile()
    # open_clip's CLIP calls the layers around its text transformer itself.
    (clip.transformer if isinstance(clip, CLIP) else clip.text).compile()
