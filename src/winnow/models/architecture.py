"""Which towers to build: any architecture of open_clip by name, or a small one spelled out.

Either way the result is an open_clip model, described by the json configuration that open_clip
itself reads, so what is trained here loads there.
"""

import difflib
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from winnow.types import InputError

MAX_LOGIT_SCALE = math.log(100)
"""Clamp of the temperature (Radford et al. 2021, section 2.5)."""


Start = Literal["both", "image", "text"]
"""Which towers start from given weights; the other one is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class NamedTowers:
    """An architecture that open_clip knows."""

    name: str
    """As `open_clip.list_models()` has it: ViT-B-32, RN50, ..."""
    weights: str | None = None
    """What they start from: a tag of open_clip (`laion2b_s34b_b79k`), a file, a run, or
    `local-dir:PATH`, `hf-hub:OWNER/NAME`, `openai:FILE`; none: random weights."""
    start: Start = "both"
    """Which towers start from these weights; the temperature too, where both do."""
    image_size: int | None = None
    """Side of the square pictures, in pixels; none: the architecture's own. Not of timm's towers.
    """
    logit_scale: float | None = None
    """Logarithm of what multiplies the cosines at the start; none: the architecture's own."""
    logit_bias: float | None = None
    """Added to every logit, learnt from this start (SigLIP: -10); none: the architecture's own."""

    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's configuration. Raises InputError for a name it does not know."""
        import open_clip

        config = open_clip.get_model_config(self.name)
        if config is None:
            near = difflib.get_close_matches(self.name, open_clip.list_models(), n=5, cutoff=0.4)
            raise InputError(
                f"open_clip knows no model {self.name!r}; near it: {', '.join(near)} "
                "(all: python -c 'import open_clip; print(open_clip.list_models())')"
            )
        if config["text_cfg"].get("hf_tokenizer_name") or config["text_cfg"].get("hf_model_name"):
            raise InputError(
                f"{self.name} needs a text tower or tokenizer from a hub; "
                "winnow trains the models whose tokenizer ships with open_clip"
            )
        if "multimodal_cfg" in config:
            raise InputError(f"{self.name} has a caption decoder, which winnow does not train")
        # Weights of a timm trunk would come from a hub; `weights` says where others are.
        if "timm_model_name" in config["vision_cfg"]:
            config["vision_cfg"]["timm_model_pretrained"] = False
        _refuse_idle_start(self.weights, self.start)
        if self.image_size is not None:
            config["vision_cfg"]["image_size"] = _checked_size(self.image_size, self.name, config)
        return config | _logit_config(self.logit_scale, self.logit_bias)


@dataclass(frozen=True, kw_only=True)
class VisionTransformer:
    """open_clip's own vision transformer."""

    image_size: int = 64
    """Side of the square picture, in pixels."""
    patch_size: int = 8
    """Side of a patch, in pixels; divides the image size."""
    width: int = 192
    """Width of the residual stream; a multiple of `head_width`."""
    head_width: int = 64
    """Width of one attention head."""
    layers: int = 4
    """Number of blocks."""

    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's `vision_cfg`."""
        if self.image_size % self.patch_size or self.width % self.head_width:
            raise InputError(
                f"VisionTransformer: image_size {self.image_size} must be a multiple of patch_size "
                f"{self.patch_size}, and width {self.width} of head_width {self.head_width}"
            )
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TimmImageTower:
    """An image model of timm, randomly initialised, with a linear projection."""

    name: str
    """As `timm.list_models()` has it."""
    image_size: int = 64
    """Side of the square picture, in pixels."""
    pool: str = "avg"
    """timm's global pooling."""

    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's `vision_cfg`."""
        return {
            "timm_model_name": self.name,
            "timm_model_pretrained": False,
            "timm_pool": self.pool,
            "timm_proj": "linear",
            "image_size": self.image_size,
        }


@dataclass(frozen=True, kw_only=True)
class TextTransformer:
    """open_clip's text transformer, over the tokens of the tokenizer in its wheel."""

    context_length: int = 24
    """Tokens of a caption, start and end included; longer captions are cut."""
    width: int = 128
    """Width of the residual stream; a multiple of `heads`."""
    heads: int = 4
    """Number of attention heads."""
    layers: int = 2
    """Number of blocks."""

    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's `text_cfg`."""
        if self.width % self.heads:
            raise InputError(
                f"TextTransformer: width {self.width} must be a multiple of heads {self.heads}"
            )
        return asdict(self) | {"vocab_size": 49_408}


@dataclass(frozen=True, kw_only=True)
class CustomTowers:
    """An architecture spelled out; small ones train on a laptop."""

    embed_dim: int = 128
    """Width D of the shared embedding."""
    image: VisionTransformer | TimmImageTower = field(default_factory=VisionTransformer)
    """The image tower."""
    text: TextTransformer = field(default_factory=TextTransformer)
    """The text tower."""
    logit_scale: float | None = None
    """Logarithm of what multiplies the cosines at the start; none: ln(1 / 0.07), as in CLIP."""
    logit_bias: float | None = None
    """Added to every logit, learnt from this start (SigLIP: -10); none: no bias, as in CLIP."""
    weights: str | None = None
    """What they start from: a run, `local-dir:PATH`, `hf-hub:OWNER/NAME`, or `NAME:WEIGHTS` of an
    architecture of open_clip that is the same; none: random weights."""
    start: Start = "both"
    """Which towers start from these weights; the temperature too, where both do."""

    def open_clip_config(self) -> dict[str, Any]:
        """open_clip's configuration."""
        _refuse_idle_start(self.weights, self.start)
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": self.image.open_clip_config(),
            "text_cfg": self.text.open_clip_config(),
            **_logit_config(self.logit_scale, self.logit_bias),
        }


def _refuse_idle_start(weights: str | None, start: Start) -> None:
    if weights is None and start != "both":
        raise InputError(
            f"start {start!r} of the model says which tower starts from given weights, and none "
            "are given: say which in weights"
        )


def _checked_size(size: int, name: str, config: dict[str, Any]) -> int:
    """`size`, where open_clip can build the architecture for pictures of it."""
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        raise InputError(f"{name} has an image tower of timm, which takes pictures of its own size")
    divisor = 32 if isinstance(vision["layers"], list) else vision["patch_size"]
    if size < divisor or size % divisor:
        raise InputError(f"image_size {size} of {name} must be a multiple of {divisor} pixels")
    return size


def _logit_config(scale: float | None, bias: float | None) -> dict[str, float]:
    """open_clip's configuration of what it starts from; what is not given is left to it."""
    if scale is not None and not 0 <= scale <= MAX_LOGIT_SCALE:
        raise InputError(
            f"logit_scale {scale} of the model must be from 0 to ln 100 = {MAX_LOGIT_SCALE:.3f}: "
            "it is the logarithm of what multiplies the cosines (2.303 for a factor of 10)"
        )
    if bias is not None and not math.isfinite(bias):
        raise InputError(f"logit_bias {bias} of the model must be a finite number")
    given = {"init_logit_scale": scale, "init_logit_bias": bias}
    return {name: value for name, value in given.items() if value is not None}
