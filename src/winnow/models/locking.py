"""Fine-tuning: which layers of the towers stay as they are, and how fast the others learn.

A locked layer has no gradient, no optimizer state and no decay, and computes as in evaluation: its
batch normalisation keeps its statistics, its dropout is off. With the image tower locked and a text
tower trained from scratch it is locked-image tuning (LiT; Zhai et al. 2022, arXiv 2111.07991).

With a layer decay d, the layer k below the top one learns with d^k of the learning rate (Bao et al.
2022, arXiv 2106.08254, for images; Dong et al. 2022, arXiv 2212.06138, for CLIP).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from winnow.models.layers import image_layers, image_parameters, text_layers, text_parameters
from winnow.models.towers import Towers
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What of the towers is trained, and how fast; as it stands, all of them alike."""

    lock_image: str = "none"
    """Layers of the image tower that stay as they are: `none`, `all`, the first so many (`6`), or
    all but the last so many (`-1`: all but the projection)."""
    lock_text: str = "none"
    """Layers of the text tower that stay as they are."""
    image_layer_decay: float = 1.0
    """Each layer of the image tower learns at this times the rate of the one above it."""
    text_layer_decay: float = 1.0
    """Each layer of the text tower learns at this times the rate of the one above it."""

    def __post_init__(self) -> None:
        for name, locked in (("lock_image", self.lock_image), ("lock_text", self.lock_text)):
            if locked not in ("none", "all") and not locked.removeprefix("-").isdecimal():
                raise InputError(
                    f"{name} {locked!r} of the fine-tuning must be `none`, `all` or a number of "
                    "layers"
                )
        for decay in (self.image_layer_decay, self.text_layer_decay):
            if not 0 < decay <= 1:
                raise InputError(f"a layer decay must be above 0 and at most 1, not {decay}")
        if self.lock_image == self.lock_text == "all":
            raise InputError(
                "with both towers locked only the temperature would learn: leave one of lock_image "
                "and lock_text at `none`"
            )


def lock(towers: Towers, fine_tuning: FineTuning) -> None:
    """Lock what `fine_tuning` says, for good. Raises InputError where the layers are not so many.

    Call it before the towers are wrapped and the optimizer is built.
    """
    clip = towers.clip
    image = _locked(fine_tuning.lock_image, image_parameters(clip), image_layers, clip, "image")
    text = _locked(fine_tuning.lock_text, text_parameters(clip), text_layers, clip, "text")
    locked = image | text
    if len(locked) == len(image_parameters(clip)) + len(text_parameters(clip)):
        raise InputError("every layer of both towers is locked: only the temperature would learn")
    for name, parameter in clip.named_parameters():
        if name in locked:
            parameter.requires_grad_(False)
    trained = {name for name, parameter in clip.named_parameters() if parameter.requires_grad}
    towers.trains_image = not trained.isdisjoint(image_parameters(clip))
    towers.trains_text = not trained.isdisjoint(text_parameters(clip))
    towers.train(towers.training)


def layer_factors(clip: nn.Module, fine_tuning: FineTuning) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied with, where that is not 1."""
    factors: dict[str, float] = {}
    if fine_tuning.image_layer_decay < 1:
        factors |= _decayed(image_layers(clip), fine_tuning.image_layer_decay)
    if fine_tuning.text_layer_decay < 1:
        factors |= _decayed(text_layers(clip), fine_tuning.text_layer_decay)
    return factors


def _locked(
    asked: str,
    every: list[str],
    layers_of: Callable[[nn.Module], list[list[str]]],
    clip: nn.Module,
    tower: str,
) -> set[str]:
    """The names that are locked of a tower's parameters."""
    if asked in ("none", "all"):
        return set(every if asked == "all" else ())
    layers = layers_of(clip)
    count = int(asked)
    if abs(count) > len(layers):
        raise InputError(
            f"lock_{tower} is {asked}, and the {tower} tower has {len(layers)} layers: embeddings "
            "or stem, each block or stage, and the projection"
        )
    return {name for layer in layers[:count] for name in layer}


def _decayed(layers: list[list[str]], decay: float) -> dict[str, float]:
    top = len(layers) - 1
    return {name: decay ** (top - depth) for depth, layer in enumerate(layers) for name in layer}
