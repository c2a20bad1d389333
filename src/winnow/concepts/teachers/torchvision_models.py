"""Teachers of torchvision: any of its classifiers, without the last layer.

`torchvision:vit_h_14:IMAGENET1K_SWAG_LINEAR_V1` is the kind of teacher that DiHT took (ViT-H/14,
SWAG).
"""

from torch import nn

from winnow.concepts.teachers.pretrained import Pretrained, unknown, weights_of
from winnow.types import InputError


def load(rest: str, image_size: int | None) -> Pretrained:
    """`NAME` or `NAME:WEIGHTS`; torchvision's default weights without. Raises InputError."""
    import torch
    from torchvision import models

    name, _, tag = rest.partition(":")
    if name not in models.list_models(module=models):
        raise unknown(name, models.list_models(module=models), library="torchvision")
    choices = {choice.name: choice for choice in models.get_model_weights(name)}
    default = models.get_model_weights(name).DEFAULT.name
    weights = choices.get(tag or default)
    if weights is None:
        raise InputError(
            f"torchvision has no weights {tag!r} of {name}; there are {', '.join(choices)}"
        )
    file = f"{torch.hub.get_dir()}/checkpoints/{weights.url.rpartition('/')[2]}"
    with weights_of(
        f"torchvision:{rest}",
        looked=f"torchvision looks for {file}, and then asks {weights.url}",
        instead="put the file there, or set TORCH_HOME",
    ):
        module = models.get_model(name, weights=weights, progress=False)
    _strip_classifier(module, name)
    expected = weights.transforms()
    return Pretrained(
        module=module,
        image_size=image_size or expected.crop_size[0],
        mean=tuple(expected.mean),
        std=tuple(expected.std),
    )


def names() -> list[str]:
    """The classifiers, as `load_teacher` takes them."""
    from torchvision import models

    return [f"torchvision:{name}" for name in models.list_models(module=models)]


def _strip_classifier(module: nn.Module, name: str) -> None:
    """Put nothing in the place of the last linear layer."""
    linear = [path for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(f"torchvision:{name} does not end in a linear layer: take another teacher")
    module.set_submodule(linear[-1], nn.Identity())
