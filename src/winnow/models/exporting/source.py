"""What is exported: an open_clip model, and pictures and captions to compare its exports on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from winnow.models.loading import load_model
from winnow.types import InputError

CAPTIONS = (
    "a photo of a dog",
    "Two children play football on a wet street, while a third one watches.",
    'Black & white: "The Old Mill" (1887), oil on canvas, 40x60cm',
    "it's 50% off!!! don't miss the summer sale",
    "Café crème à Zürich – straße, naïve façade",
    "富士山の朝 🗻",
    "",
    "one two three four five six seven eight nine ten " * 9,
)
"""Every export is compared on these: case, digits, accents, other scripts, nothing, too much."""
_SQUARES = 7


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model in float32 on the processor, as it evaluates."""

    name: str
    """What it was called."""
    clip: Any
    """`open_clip.CLIP`, or another of its classes."""
    tokenize: open_clip.SimpleTokenizer
    architecture: dict[str, Any]
    """open_clip's `model_cfg`."""
    preprocessing: PreprocessCfg
    """How pictures reach it."""

    @property
    def context_length(self) -> int:
        """Tokens of a caption, start and end included."""
        return self.tokenize.context_length or open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH

    @property
    def scale(self) -> float:
        """What cosines are multiplied with."""
        return float(self.clip.logit_scale.detach().exp())


def open_source(name: str) -> Source:
    """The model that `models/loading.py` finds under `name`.

    Raises InputError where there is none, or its tokenizer is not the one in open_clip's wheel.
    """
    loaded = load_model(name)
    if not isinstance(loaded.tokenize, open_clip.SimpleTokenizer):
        raise InputError(
            f"{name} reads captions with a tokenizer from a hub "
            f"({type(loaded.tokenize).__name__}): winnow exports models of the tokenizer that "
            "ships with open_clip"
        )
    architecture = loaded.architecture
    if "timm_model_name" in architecture.get("vision_cfg", {}):
        # Whoever loads the export has its weights, and need not ask a hub for others first.
        vision = architecture["vision_cfg"] | {"timm_model_pretrained": False}
        architecture = architecture | {"vision_cfg": vision}
    return Source(
        name=name,
        clip=loaded.clip.float().eval(),
        tokenize=loaded.tokenize,
        architecture=architecture,
        preprocessing=PreprocessCfg(**loaded.clip.visual.preprocess_cfg),
    )


@dataclass(frozen=True)
class Probe:
    """Pictures and captions, and what the model itself makes of them."""

    source: Source
    captions: Sequence[str]

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """Noise, coarse squares, black and white, at the size of the model, so none is resized."""
        chance = np.random.default_rng(0)
        height, width = height_and_width(self.source.preprocessing)
        noise = chance.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        coarse = chance.integers(0, 256, (_SQUARES, _SQUARES, 3), dtype=np.uint8)
        squares = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
        plain = [Image.new("RGB", (width, height), colour) for colour in ("black", "white")]
        return [*(Image.fromarray(one) for one in noise), squares, *plain]

    @cached_property
    def pixels_BCHW(self) -> Tensor:
        """The pictures as open_clip's transform gives them, float32."""
        transform = image_transform_v2(self.source.preprocessing, is_train=False)
        return torch.stack([transform(picture) for picture in self.pictures])

    @cached_property
    def tokens_BT(self) -> Tensor:
        """The captions as open_clip's tokenizer gives them, int64."""
        return self.source.tokenize(list(self.captions))

    @cached_property
    def image_BD(self) -> Tensor:
        """The model's own embeddings of the pictures, un-normalised."""
        return image_embeddings(self.source.clip, self.pixels_BCHW)

    @cached_property
    def text_BD(self) -> Tensor:
        """The model's own embeddings of the captions, un-normalised."""
        return text_embeddings(self.source.clip, self.tokens_BT)


def image_embeddings(clip: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    """(B, D), un-normalised, of pictures as the model takes them."""
    with torch.inference_mode():
        # CoCa normalizes unless it is told not to.
        return clip.encode_image(pixels_BCHW, normalize=False)  # type: ignore[operator]


def text_embeddings(clip: nn.Module, tokens_BT: Tensor) -> Tensor:
    """(B, D), un-normalised, of token ids."""
    with torch.inference_mode():
        return clip.encode_text(tokens_BT, normalize=False)  # type: ignore[operator]


def height_and_width(preprocessing: PreprocessCfg) -> tuple[int, int]:
    """Of the pictures that the model takes, in pixels."""
    size = preprocessing.size
    return (size, size) if isinstance(size, int) else (size[0], size[1])
