"""A trained model as evaluation sees it: two functions, a size, and a fingerprint."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from torch import Tensor

from winnow.models.towers import ImageNormalizer
from winnow.types import InputError


class Encoder:
    """An open_clip model with its preprocessing and tokenizer. Features are not normalised."""

    def __init__(
        self,
        name: str,
        clip: open_clip.CLIP,
        tokenize: open_clip.SimpleTokenizer,
        *,
        architecture: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        preprocessing = PreprocessCfg(**cast(Any, clip.visual.preprocess_cfg))
        if (preprocessing.resize_mode, preprocessing.interpolation) != ("shortest", "bicubic"):
            raise InputError(
                f"{name} resizes pictures by {preprocessing.resize_mode!r} and "
                f"{preprocessing.interpolation!r}; winnow evaluates models that resize the "
                "shortest side bicubically and crop the centre"
            )
        self.name = name
        self.image_size = _one_side(preprocessing.size)
        self.fingerprint = _fingerprint(clip, preprocessing, architecture)
        self._device = device
        self._clip = clip.eval().to(device)
        self._tokenize = tokenize
        self._normalize = ImageNormalizer(preprocessing.mean, preprocessing.std).to(device)

    @torch.inference_mode()
    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """(B, D) float32 features of uint8 pictures (B, 3, image_size, image_size)."""
        image_BCHW = image_BCHW.to(self._device)
        return self._clip.encode_image(self._normalize(image_BCHW)).float().cpu()

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """(B, D) float32 features of captions."""
        return self._clip.encode_text(self._tokenize(captions).to(self._device)).float().cpu()


def load_encoder(model: str, *, device: str = "cpu") -> Encoder:
    """The encoder of a winnow run (its folder), of `local-dir:PATH`, or of an open_clip name.

    A name may carry its weights' tag, as in `ViT-B-32:laion2b_s34b_b79k`. Raises InputError where
    nothing loadable is found.
    """
    source, tag = _resolve(model)
    try:
        clip, _, _ = open_clip.create_model_and_transforms(source, pretrained=tag)
        tokenize = open_clip.get_tokenizer(source)
        architecture = _architecture(source)
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{model} cannot be loaded as an open_clip model: {error}") from error
    return Encoder(model, clip, tokenize, architecture=architecture, device=device)


def _architecture(source: str) -> dict[str, Any]:
    """The model's configuration: what its weights alone do not tell, such as the heads."""
    if source.startswith("local-dir:"):
        path = Path(source.removeprefix("local-dir:")) / "open_clip_config.json"
        return json.loads(path.read_text())["model_cfg"]
    return open_clip.get_model_config(source) or {"name": source}


def _resolve(model: str) -> tuple[str, str | None]:
    if model.startswith(("local-dir:", "hf-hub:")):
        return model, None
    path = Path(model)
    for folder in (path / "model", path):
        if (folder / "open_clip_config.json").is_file():
            return f"local-dir:{folder}", None
    if path.is_dir():
        raise InputError(
            f"{model} holds no trained model (no model/open_clip_config.json); "
            "run `winnow train` to its end first"
        )
    name, _, tag = model.partition(":")
    if name not in open_clip.list_models() or not tag:
        raise InputError(
            f"{model} is neither the folder of a run nor NAME:WEIGHTS of open_clip "
            "(such as ViT-B-32:laion2b_s34b_b79k; see open_clip.list_pretrained())"
        )
    return name, tag


def _one_side(size: int | tuple[int, int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(f"the model takes pictures of {size}; winnow evaluates square ones")
    return sides.pop()


def _fingerprint(
    clip: open_clip.CLIP, preprocessing: PreprocessCfg, architecture: dict[str, Any]
) -> str:
    """16 hex digits over weights, architecture and preprocessing: what features are keyed by."""
    digest = hashlib.sha256(repr(preprocessing).encode())
    digest.update(json.dumps(architecture, sort_keys=True).encode())
    for name, value in sorted(clip.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
