"""Teachers of timm: its own weights by name, or a checkpoint file for one of its architectures."""

from pathlib import Path
from typing import Any

from winnow.concepts.teachers.pretrained import Pretrained, unknown, weights_of
from winnow.types import InputError


def load(rest: str, image_size: int | None) -> Pretrained:
    """`NAME` or `NAME@FILE`. Raises InputError for an unknown name or weights not at hand."""
    import timm
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    name, _, file = rest.partition("@")
    if not timm.is_model(name):
        raise unknown(name.partition(".")[0], timm.list_models(), library="timm")
    with weights_of(
        f"timm:{rest}",
        looked=f"they are in {file}"
        if file
        else f"timm looks in {HF_HUB_CACHE} and {torch.hub.get_dir()}/checkpoints, and then asks "
        "the Hugging Face hub",
        instead=f"give a checkpoint of {name} as timm:{name}@FILE (.safetensors or .pth)",
    ):
        options = _resized(name, image_size) | (_of_file(name, file) if file else {})
        module: Any = timm.create_model(name, pretrained=True, **options)
        # Only now: timm loads weights for another number of classes without looking whether
        # they are this model's.
        module.reset_classifier(0)
    config: Any = module.pretrained_cfg
    return Pretrained(
        module=module,
        image_size=image_size or config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def names() -> list[str]:
    """The architectures, as `load_teacher` takes them."""
    import timm

    return [f"timm:{name}" for name in timm.list_models()]


def _of_file(name: str, file: str) -> dict[str, Any]:
    """How timm is told to take the weights in `file`, which may be for any number of classes."""
    import timm
    from timm.models import load_state_dict

    if not Path(file).is_file():
        raise InputError(f"timm:{name}@{file} names no file: there is none at {file}")
    weights = load_state_dict(file, weights_only=True)
    config: Any = timm.get_pretrained_cfg(name)
    classifier = config.classifier
    first = classifier if isinstance(classifier, str) else next(iter(classifier or ()), None)
    last = weights.get(f"{first}.weight")
    num_classes = 0 if last is None else len(last)
    given = {"state_dict": weights, "num_classes": num_classes, "custom_load": False}
    return {"num_classes": num_classes, "pretrained_cfg_overlay": given}


def _resized(name: str, image_size: int | None) -> dict[str, Any]:
    """Transformers are built for one size, and timm fits their positions to another one."""
    import timm

    config = timm.get_pretrained_cfg(name)
    is_fixed = config is not None and config.fixed_input_size
    return {"img_size": image_size} if image_size and is_fixed else {}
