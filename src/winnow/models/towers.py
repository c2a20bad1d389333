"""The two towers as the training step sees them, and as open_clip finds them afterwards.

`Towers.forward` is the one way in: uint8 pictures and token ids, out come un-normalised embeddings,
the temperature and the logits' bias; with targets for them, also what heads on the image embedding
lose. Everything passes through it, so that a wrapper around the module sees it all.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from winnow.models.architecture import MAX_LOGIT_SCALE, CustomTowers, NamedTowers
from winnow.models.blocks import blocks_of, checkpoint_activations, compile_in_place
from winnow.models.short_text import encode_text
from winnow.models.views import view_of
from winnow.types import View

Tokenize = Callable[[list[str]], Tensor]
"""Captions to token ids (B, T), int64."""


class Embeddings(NamedTuple):
    """What one forward pass gives."""

    image_BD: Tensor
    """Un-normalised."""
    text_BD: Tensor
    """Un-normalised."""
    scale: Tensor
    """exp(logit_scale), one element."""
    bias: Tensor | None
    """logit_bias, one element; None where the model has none."""
    head_losses: dict[str, Tensor]
    """(B,) of every head on the image embedding; none where no targets were given."""


class Towers(nn.Module):
    """An open_clip model that takes uint8 pictures and normalises them on its own device.

    `heads` are trained along with it and are no part of the export: a module that takes image
    embeddings (B, D), un-normalised, and targets, and gives losses (B,) by name.
    """

    def __init__(
        self, config: NamedTowers | CustomTowers, *, heads: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config.open_clip_config()
        custom_text = self.config.pop("custom_text", False)
        kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
        # FSDP shards no 0-dim parameter; the export makes scale and bias scalars again.
        self.clip = kind(**self.config, nonscalar_logit_scale=True)
        if custom_text:
            self.config["custom_text"] = True
        self.set_preprocessing(preprocess_config())
        self.heads = heads
        self.trains_image = self.trains_text = True

    def set_preprocessing(self, preprocessing: Mapping[str, Any]) -> None:
        """How pictures reach the image tower, in open_clip's words; weights bring their own."""
        self.preprocessing = dict(preprocessing)
        self.image_normalizer = ImageNormalizer(
            tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        )

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes."""
        return self.config["vision_cfg"]["image_size"]

    @property
    def context_length(self) -> int:
        """Tokens that the text tower takes."""
        return self.config["text_cfg"].get("context_length", 77)

    @property
    def view(self) -> View:
        """How pictures are resized for it where nothing is augmented."""
        return view_of(PreprocessCfg(size=self.image_size, **self.preprocessing), "the model")

    def train(self, mode: bool = True) -> "Towers":
        """As torch's, but that what is locked stays as in evaluation."""
        super().train(mode)
        for module in self.clip.modules():
            if _is_locked(module):
                module.eval()
        return self

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks of both towers, none within another: what is sharded one by one."""
        return blocks_of(self.clip)

    def set_gradient_checkpointing(self) -> None:
        """Compute activations a second time instead of keeping them; gradients stay the same.

        Raises InputError where the image tower cannot.
        """
        checkpoint_activations(self.clip)

    def compile_towers(self) -> None:
        """Compile both towers for the device they are on; names in the state stay as they are.

        Raises InputError where there is no compiler.
        """
        compile_in_place(self.clip, self.image_normalizer.shift.device.type)

    @property
    def tokenize(self) -> Tokenize:
        """The tokenizer in open_clip's wheel, at this model's context length."""
        return simple_tokenizer(self.context_length)

    def forward(
        self, image_BCHW: Tensor, text_BT: Tensor, targets: Mapping[str, Any] | None = None
    ) -> Embeddings:
        """Embed uint8 pictures (B, 3, H, W) and token ids (B, T); `targets` are the heads'.

        T may be less than the context length: what is missing is padding.
        """
        bias = self.clip.logit_bias
        # A locked tower needs no graph, nor the memory for one.
        needs_graph = torch.is_grad_enabled()
        with torch.set_grad_enabled(needs_graph and self.trains_image):
            image_BD = self.clip.encode_image(self.image_normalizer(image_BCHW))
        losses = {} if self.heads is None or targets is None else self.heads(image_BD, targets)
        with torch.set_grad_enabled(needs_graph and self.trains_text):
            text_BD = encode_text(self.clip, text_BT, context_length=self.context_length)
        return Embeddings(
            image_BD=image_BD,
            text_BD=text_BD,
            scale=self.clip.logit_scale.exp(),
            # A tensor of its own: FSDP takes a parameter back once the forward pass is over.
            bias=None if bias is None else bias.clone(),
            head_losses=losses,
        )

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the temperature within [1, 100], as CLIP does after every step."""
        self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def export(self, directory: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write the model as a folder that open_clip loads by the name `local-dir:DIRECTORY`.

        `state` are other weights than its own, such as gathered shards or a running average, by the
        names that `clip.state_dict()` has. Weights come first, the configuration last: where it
        stands, the model is whole.
        """
        directory.mkdir(parents=True, exist_ok=True)
        own = self.clip.state_dict()
        given = own if state is None else state
        assert given.keys() == own.keys(), "the weights of these towers, all of them"
        state = {name: value.detach().cpu() for name, value in given.items()}
        for name in state.keys() & {"logit_scale", "logit_bias"}:
            state[name] = state[name].reshape(())
        weights = directory / "open_clip_model.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, f"{weights}.partial")
        Path(f"{weights}.partial").replace(weights)
        config = {"model_cfg": self.config, "preprocess_cfg": self.preprocessing}
        partial = directory / "open_clip_config.json.partial"
        partial.write_text(json.dumps(config, indent=2) + "\n")
        partial.replace(directory / "open_clip_config.json")


def _is_locked(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def unwrapped(towers: nn.Module) -> Towers:
    """The towers inside DDP; `fully_shard` leaves a module's class as it is."""
    inner = towers.module if isinstance(towers, DistributedDataParallel) else towers
    assert isinstance(inner, Towers), "a wrapper around Towers, or Towers"
    return inner


class ImageNormalizer(nn.Module):
    """uint8 pictures to the floats a model expects, on the device they are on."""

    shift: Tensor
    width: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        shape = (1, 3, 1, 1)
        self.register_buffer("shift", torch.tensor(mean).view(shape) * 255, persistent=False)
        self.register_buffer("width", torch.tensor(std).view(shape) * 255, persistent=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(pixel / 255 - mean) / std, float32, channels last in memory."""
        # Convolutions are faster on it. Weights stay as they are: FSDP takes no other, and torch
        # converts them as fast as it would have used them.
        image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
        return (image_BCHW.to(self.shift.dtype) - self.shift) / self.width


def simple_tokenizer(context_length: int) -> Tokenize:
    """open_clip's byte-pair tokenizer; its vocabulary ships in the wheel."""
    return open_clip.SimpleTokenizer(context_length=context_length)


def preprocess_config() -> dict[str, object]:
    """How pictures reach the model, in open_clip's words."""
    return {
        "mean": OPENAI_DATASET_MEAN,
        "std": OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
