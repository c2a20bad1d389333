"""A model as evaluation sees it: two functions, a view, and a fingerprint.

What is loaded by name is an open_clip model; `Encoder.around` takes anything with `encode_image`
and `encode_text`.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from winnow.models.checkpoints import hash_of
from winnow.models.loading import load_model
from winnow.models.projection import ImageStages, find_stages
from winnow.models.short_text import ShortTokens, encode_text, is_indifferent_to_padding
from winnow.models.towers import ImageNormalizer
from winnow.models.views import view_of
from winnow.types import InputError, View

PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""What a model computes in; weights stay as they are, and autocast chooses what is rounded."""

_NO_SCALE = 100.0
"""What cosines are multiplied with where a model has no scale: CLIP's, once it is trained."""
_PROBE = ["A photo of 2 CAFÉS, naïve &amp; 東京, and " + "much " * 100 + "more"]
"""A text on which tokenizers differ."""
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


class ImageText(Protocol):
    """What an Encoder is made around."""

    def encode_image(self, image_BCHW: Tensor, /) -> Tensor:
        """(B, D) from normalized float32 pictures."""
        ...

    def encode_text(self, tokens: Any, /) -> Tensor:
        """(B, D) from what the tokenizer gives."""
        ...


class Encoder:
    """A model with its preprocessing and tokenizer. Features are float32 and not normalized.

    They come back on the CPU, whatever device the model is on.
    """

    def __init__(
        self,
        model: ImageText,
        tokenize: Callable[[list[str]], Any],
        *,
        view: View,
        mean: Sequence[float],
        std: Sequence[float],
        name: str,
        identity: str,
        weights: "_Weights | None" = None,
        logit_scale: float | None = None,
        precision: str = "fp32",
        device: str = "cpu",
    ) -> None:
        """`identity` is of all that the fingerprint is over but `weights`, which may change."""
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} of {name}: give one of {[*PRECISIONS]}")
        if isinstance(model, nn.Module):
            model.eval().to(device)
        self.name = name
        self.view = view
        self.precision = precision
        self._identity = (identity, view, tuple(mean), tuple(std))
        self._weights = weights
        self._model, self._logit_scale = model, logit_scale
        self._device = torch.device(device)
        self._tokenize = tokenize
        self._normalize = ImageNormalizer(tuple(mean), tuple(std)).to(device)
        self._encode_image, self._encode_text = model.encode_image, model.encode_text
        self._stages = None
        if type(model) in (open_clip.CLIP, open_clip.CustomTextCLIP, open_clip.CoCa):
            clip = cast(Any, model)
            # CoCa normalizes unless it is told not to.
            self._encode_image = partial(clip.encode_image, normalize=False)
            self._encode_text = partial(clip.encode_text, normalize=False)
            if is_indifferent_to_padding(clip):
                length = len(clip.positional_embedding)
                self._encode_text = partial(encode_text, clip, context_length=length)
                self._tokenize = ShortTokens(tokenize)
            self._stages = find_stages(clip.visual)

    @classmethod
    def around(
        cls,
        model: ImageText,
        tokenize: Callable[[list[str]], Any],
        *,
        view: View,
        mean: Sequence[float],
        std: Sequence[float],
        name: str,
        fingerprint: str | None = None,
        logit_scale: float | None = None,
        precision: str = "fp32",
        device: str = "cpu",
    ) -> "Encoder":
        """An encoder of a model that the caller has.

        `tokenize` gives a tensor, or whatever else has `.to(device)`. `mean` and `std` are of
        pixels from 0 to 1. `fingerprint` is anything that changes whenever the features do; it
        need not be given for a torch module, whose weights, layers and their settings are hashed:
        weights as they are when features are asked for, settings as they are here. Code is not,
        neither of `forward` nor of other functions: those among the settings are known by their
        names, in which all lambdas of one place are alike, and objects of unknown classes by their
        class. `logit_scale` is the factor itself, the exponential of CLIP's parameter. Raises
        InputError.
        """
        weights = None
        if fingerprint is not None:
            identity = f"given {fingerprint}"
        elif isinstance(model, nn.Module):
            identity = _digest(_token_ids(tokenize), _settings(model))
            weights = _Weights(model)
        else:
            raise InputError(
                f"model {name} is no torch module, so nothing tells its features from another's: "
                "give a fingerprint that changes with them"
            )
        return cls(
            model,
            tokenize,
            view=view,
            mean=mean,
            std=std,
            name=name,
            identity=identity,
            weights=weights,
            logit_scale=logit_scale,
            precision=precision,
            device=device,
        )

    @property
    def fingerprint(self) -> str:
        """Over weights, architecture and preprocessing."""
        weights = () if self._weights is None else (self._weights.digest(),)
        return _digest(*self._identity, *weights)

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with to be logits."""
        return _scale_of(self._model) if self._logit_scale is None else self._logit_scale

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """(B, D) features of uint8 pictures (B, 3, size, size), in the joint space."""
        with self._computing():
            return _home(self._encode_image(self._pixels(image_BCHW)))

    def encode_image_stages(self, image_BCHW: Tensor) -> ImageStages:
        """Both features of uint8 pictures; the same tensor twice where there is no projection."""
        if self._stages is None:
            projected_BD = self.encode_image(image_BCHW)
            return ImageStages(projected_BD, projected_BD)
        with self._computing():
            hidden_BH, projected_BD = self._stages(self._pixels(image_BCHW))
            return ImageStages(_home(hidden_BH), _home(projected_BD))

    def encode_text(self, captions: list[str]) -> Tensor:
        """(B, D) features of captions, in the joint space."""
        with self._computing():
            return _home(self._encode_text(self._tokenize(captions).to(self._device)))

    def _pixels(self, image_BCHW: Tensor) -> Tensor:
        return self._normalize(image_BCHW.to(self._device))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        dtype = PRECISIONS[self.precision]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            # A GPU takes TF32, numbers of 10 bits, for convolutions unless it is told not to.
            cudnn = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
            stack.enter_context(cudnn)
            if dtype is not None:
                stack.enter_context(torch.autocast(self._device.type, dtype=dtype))
            yield


def load_encoder(model: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """The encoder of a model by its name; `models/loading.py` says what a name may be.

    Raises InputError where nothing loadable is found, or where it wants what is not evaluated here.
    """
    loaded = load_model(model)
    preprocessing = PreprocessCfg(**loaded.clip.visual.preprocess_cfg)
    return Encoder(
        loaded.clip,
        loaded.tokenize,
        view=view_of(preprocessing, model),
        mean=preprocessing.mean,
        std=preprocessing.std,
        name=model,
        identity=_identity(
            loaded.clip, loaded.tokenize, json.dumps(loaded.architecture, sort_keys=True)
        ),
        precision=precision,
        device=device,
    )


def _identity(module: nn.Module, tokenize: Callable[[list[str]], Any], architecture: str) -> str:
    """Of the weights, of what is said about them, and of what the tokenizer does."""
    return hash_of(module.state_dict(), architecture + _token_ids(tokenize))


class _Weights:
    """The hash of a module's parameters and buffers, taken again when one of them has changed."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._marks: dict[str, tuple[int, ...]] | None = None
        self._digest = ""

    def digest(self) -> str:
        tensors = _tensors_of(self._module)
        marks = {name: _mark(tensor) for name, tensor in tensors.items()}
        if marks != self._marks:
            self._marks, self._digest = marks, hash_of(tensors)
        return self._digest


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, and buffers that are not saved with them too."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _mark(tensor: Tensor) -> tuple[int, ...]:
    """Numbers that change with the tensor, at a tenth of the price of its hash.

    torch counts what is written in place, but not what `.data` or a fused optimizer writes; the sum
    of the bytes, by eights, does not see another order.
    """
    data = tensor.detach().reshape(-1).view(torch.uint8)
    if data.storage_offset() % 8 or len(data) % 8:
        data = nn.functional.pad(data, (0, -len(data) % 8))
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, int(data.view(torch.int64).sum())


def _settings(module: nn.Module) -> str:
    """The class and the attributes of every layer, for weights do not tell how they pool."""
    lines = [repr(module)]
    for name, layer in module.named_modules():
        own = {key: value for key, value in vars(layer).items() if key not in _OF_TORCH}
        lines.append(f"{name} {type(layer).__qualname__} {_described(own)}")
    # What is printed as an address is another one in every process.
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join(lines))


def _described(value: object) -> object:
    """What tells a setting from another and prints alike in every process."""
    kind = type(value).__qualname__
    if isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | None):
        return value
    if isinstance(value, Mapping):
        return kind, sorted((repr(key), repr(_described(one))) for key, one in value.items())
    if isinstance(value, list | tuple):
        return kind, [_described(one) for one in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(_described(one)) for one in value)
    if isinstance(value, partial):
        return kind, _described([value.func, value.args, value.keywords])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return kind, [_described(getattr(value, one.name)) for one in dataclasses.fields(value)]
    if isinstance(value, np.ndarray | np.generic):
        return kind, str(value.dtype), value.shape, _digest(value.tobytes())
    if isinstance(value, Tensor):
        return kind, hash_of({"": value})
    if isinstance(value, nn.Module):
        # In a plain list: torch does not take it for a layer of the model.
        return repr(value), hash_of(_tensors_of(value))
    name = getattr(value, "__qualname__", None)
    return kind if name is None else (getattr(value, "__module__", None), name)


def _digest(*parts: object) -> str:
    """16 hex digits: what features are keyed by."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _token_ids(tokenize: Callable[[list[str]], Any]) -> str:
    tokens = tokenize(_PROBE)
    return str(tokens.tolist() if isinstance(tokens, Tensor) else tokens)


def _scale_of(model: object) -> float:
    scale = getattr(model, "logit_scale", None)
    return float(scale.detach().exp()) if isinstance(scale, Tensor) else _NO_SCALE


def _home(features: Tensor) -> Tensor:
    return features.float().cpu()
