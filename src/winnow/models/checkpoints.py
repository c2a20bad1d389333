"""The published checkpoints of CLIP and DiHT, as files that the user has.

Both are state dicts over the same names, those of open_clip's `CLIP`, so one function tells the
architecture from the shapes. What shapes do not tell differs: CLIP was trained with
GELU(x) = x sigmoid(1.702 x) (github.com/openai/CLIP, model.py), DiHT with the exact one
(github.com/facebookresearch/diht, model.py and model_zoo_configs). Which of the two a file is, its
user says. Heads are 64 wide in both, and so are preprocessing and tokenizer the same.
"""

import hashlib
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

from winnow.models.towers import preprocess_config
from winnow.types import InputError

_HEAD_WIDTH = 64
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What archives hold besides."""
_ALWAYS = (
    *("token_embedding.weight", "positional_embedding", "ln_final.weight", "text_projection"),
    *("logit_scale", "visual.conv1.weight"),
)
_TRANSFORMER = ("visual.proj", "visual.positional_embedding")
_RESNET = ("visual.attnpool.positional_embedding", "visual.layer1.0.conv1.weight")

UNREADABLE = (
    *(AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError),
    *(ValueError, pickle.UnpicklingError, struct.error),
)
"""What torch and open_clip raise for a file that is not what it should be."""
_NO_FORMAT = (EOFError, IndexError, pickle.UnpicklingError, struct.error)
"""Of these, what says nothing of a file but that its bytes make no sense."""
_LFS_POINTER, _PAGES = b"version https://git-lfs", (b"<!doctype html", b"<html")


def load_clip(path: Path, *, quick_gelu: bool) -> tuple[open_clip.CLIP, dict[str, Any]]:
    """The model of a state dict, in float32, and its configuration in open_clip's words.

    `quick_gelu` says which GELU it was trained with. Raises InputError for another layout.
    """
    state = read_state(path)
    config = architecture_of(state, path) | {"quick_gelu": quick_gelu}
    clip = open_clip.CLIP(**config)
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path} is almost a CLIP model, but not quite: {first_lines(error)}"
        ) from error
    preprocessing = preprocess_config() | {"size": clip.visual.image_size}
    open_clip.model.set_model_preprocess_cfg(clip, preprocessing)
    return clip, config


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file: a state dict, one inside a training checkpoint, or an archive.

    Nothing is unpickled but tensors; a TorchScript archive's code, which is no Python, is compiled
    and not called. Raises InputError where there are none.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint at {path}: give the path of the file")
    refuse_stand_ins(path)
    try:
        found = _script_state(path) if _is_script(path) else _saved(path)
    except UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as weights (a state dict that torch saved, or a TorchScript "
            f"archive): {why(error)}"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not _is_state(found):
        raise InputError(
            f"{path} holds no state dict but {_shown(found)}: save the model's state_dict()"
        )
    state = {name.removeprefix("module."): value for name, value in found.items()}
    # OpenAI's are in float16, but for the layer norms.
    return {name: v.float() for name, v in state.items() if name not in _NO_WEIGHTS}


def hash_of(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """sha256 over `text` and every tensor's name, type, shape and bytes, whatever their order."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def refuse_stand_ins(path: Path) -> None:
    """Raise InputError for what downloads leave where the weights should be."""
    with path.open("rb") as file:
        start = file.read(512)
    found = ""
    if not start:
        found = "it is empty: fetch it again"
    elif start.startswith(_LFS_POINTER):
        found = "it is git-lfs's pointer to them: run `git lfs pull` in its repository"
    elif start.lstrip().lower().startswith(_PAGES):
        found = "it is a web page that was saved in their place: fetch the file itself"
    if found:
        raise InputError(f"{path} cannot be read as weights: {found}")


def why(error: Exception) -> str:
    """What an error says of a file, short; never torch's advice to unpickle whatever is in it."""
    if not is_of_the_file(error):
        return first_lines(error)
    other = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if other is None:
        return "it is no file that torch saved, or a damaged one; fetch or save it again"
    return f"it holds a {other[1][:80]}, which is no weight; save the model's state_dict() alone"


def is_of_the_file(error: Exception) -> bool:
    """Whether a file could not be read, whatever its weights would have fitted."""
    return isinstance(error, _NO_FORMAT) or "PytorchStreamReader" in str(error)


def first_lines(error: Exception) -> str:
    """What an error says, short."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _saved(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_state(found: object) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    )


def _script_state(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # It is deprecated for models, but what was published in this format stays in it.
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(path, map_location="cpu").state_dict()


def _shown(found: object) -> str:
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    names = [str(name) for name in found] or ["nothing"]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def architecture_of(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """open_clip's configuration of what has these shapes. Raises InputError for another layout."""
    kind = _RESNET if _RESNET[0] in state else _TRANSFORMER
    missing = [name for name in (*_ALWAYS, *kind) if name not in state]
    if missing:
        raise InputError(
            f"{path} is laid out otherwise than the checkpoints of CLIP and DiHT: it has "
            f"{_shown(state)}, but no {', no '.join(missing[:3])}; weights of another architecture "
            "of open_clip load as NAME:PATH"
        )
    width = state["ln_final.weight"].shape[0]
    context_length, _ = state["positional_embedding"].shape
    return {
        "embed_dim": state["text_projection"].shape[1],
        "vision_cfg": _resnet(state, path) if kind is _RESNET else _transformer(state, path),
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": state["token_embedding.weight"].shape[0],
            "width": width,
            "heads": max(1, width // _HEAD_WIDTH),
            "layers": _count(state, "transformer.resblocks."),
        },
    }


def _transformer(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    width, _, patch_size, _ = state["visual.conv1.weight"].shape
    return {
        "layers": _count(state, "visual.transformer.resblocks."),
        "width": width,
        "head_width": min(width, _HEAD_WIDTH),
        "patch_size": patch_size,
        "image_size": patch_size * _grid(state["visual.positional_embedding"], path),
    }


def _resnet(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    return {
        "layers": [_count(state, f"visual.layer{number}.") for number in range(1, 5)],
        "width": width,
        "head_width": _HEAD_WIDTH,
        "image_size": 32 * _grid(state["visual.attnpool.positional_embedding"], path),
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow the prefix."""
    numbers = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    return len(numbers)


def _grid(position_PD: Tensor, path: Path) -> int:
    """Patches along a side; the class token has a position too."""
    side = math.isqrt(len(position_PD) - 1)
    if side**2 != len(position_PD) - 1:
        raise InputError(
            f"{path} has positions for {len(position_PD) - 1} patches, no square of them; winnow "
            "evaluates models of square pictures"
        )
    return side
