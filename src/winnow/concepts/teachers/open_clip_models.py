"""Teachers of open_clip: the image tower of any of its models, or of a run of winnow.

The feature is the embedding before it is normalised. The text tower is not kept.
"""

from pathlib import Path
from typing import Any, cast

from winnow.concepts.teachers.pretrained import Pretrained, unknown, weights_of
from winnow.types import InputError

_LOCAL = "local-dir:"


def load(rest: str, image_size: int | None) -> Pretrained:
    """`NAME:TAG`, `NAME:FILE` or `local-dir:PATH`. Raises InputError."""
    import open_clip
    from huggingface_hub.constants import HF_HUB_CACHE

    if rest.startswith(_LOCAL):
        name, weights = rest, None
        looked = f"they are in {rest.removeprefix(_LOCAL)}"
        instead = "give a folder that open_clip saved or winnow exported"
    else:
        name, weights = _named(rest)
        looked = f"open_clip looks in {HF_HUB_CACHE}, and then asks the Hugging Face hub"
        instead = (
            f"give a checkpoint as open_clip:{name}:FILE, or a folder as open_clip:{_LOCAL}PATH"
        )
    with weights_of(f"open_clip:{rest}", looked=looked, instead=instead):
        model = open_clip.create_model(
            name, pretrained=weights, force_image_size=image_size, require_pretrained=True
        )
    expected = cast(dict[str, Any], model.visual.preprocess_cfg)
    sides = expected["size"]
    return Pretrained(
        module=model.visual,
        image_size=sides if isinstance(sides, int) else sides[0],
        mean=tuple(expected["mean"]),
        std=tuple(expected["std"]),
    )


def names() -> list[str]:
    """The models with published weights, as `load_teacher` takes them."""
    import open_clip

    return [f"open_clip:{name}:{tag}" for name, tag in open_clip.list_pretrained()]


def _named(rest: str) -> tuple[str, str]:
    """The name of the model and its tag or file, both known to be."""
    import open_clip

    name, _, weights = rest.partition(":")
    if name not in open_clip.list_models():
        raise unknown(name, open_clip.list_models(), library="open_clip")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags and not Path(weights).is_file():
        raise InputError(
            f"open_clip has no weights {weights!r} of {name}, and there is no such file; there are "
            f"{', '.join(tags) or 'none'}"
        )
    return name, weights
