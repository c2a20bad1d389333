"""What a model's name stands for, and the open_clip model it leads to.

runs/clip                            a run of winnow
local-dir:PATH, hf-hub:OWNER/NAME    as open_clip has them
ViT-B-32:laion2b_s34b_b79k           an architecture of open_clip and its weights: a tag,
ViT-B-32:PATH                        or a file
openai:PATH, diht:PATH               the checkpoints of these papers
"""

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from safetensors import SafetensorError

from winnow.models.checkpoints import UNREADABLE, is_of_the_file, load_clip, refuse_stand_ins, why
from winnow.models.towers import simple_tokenizer
from winnow.types import InputError

_QUICK_GELU = {"openai": True, "diht": False}
"""What came before the colon, and the activation that its models were trained with."""
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
"""What files of weights are called in a folder that open_clip saved."""


class LoadedModel(NamedTuple):
    """An open_clip model with what belongs to it; `visual.preprocess_cfg` is its preprocessing."""

    clip: Any
    """`open_clip.CLIP` or another of its classes."""
    tokenize: Callable[[list[str]], Any]
    architecture: dict[str, Any]
    """The configuration: what weights alone do not tell, such as heads and activation."""


def load_model(name: str) -> LoadedModel:
    """The model called `name`. Raises InputError where nothing loadable is found."""
    kind, _, rest = name.partition(":")
    if kind in _QUICK_GELU:
        clip, config = load_clip(Path(rest), quick_gelu=_QUICK_GELU[kind])
        return LoadedModel(clip, simple_tokenizer(clip.context_length), config)
    source, weights = _resolve(name)
    for path in _files(source, weights):
        refuse_stand_ins(path)
    try:
        clip = open_clip.create_model(source, pretrained=weights, require_pretrained=True)
        tokenize = open_clip.get_tokenizer(source)
        architecture = _architecture(source)
    except (*UNREADABLE, ImportError, StopIteration, SafetensorError) as error:
        mend = ""
        if weights is not None and Path(weights).is_file() and not is_of_the_file(error):
            mend = f"; give another file, or the architecture of this one in place of {source}"
        raise InputError(
            f"{name} cannot be loaded as an open_clip model: {why(error)}{mend}"
        ) from error
    return LoadedModel(clip, tokenize, architecture)


def _resolve(name: str) -> tuple[str, str | None]:
    """As open_clip takes them: what the model is, and its weights where that does not say."""
    if name.startswith(("local-dir:", "hf-hub:")):
        return name, None
    path = Path(name)
    for folder in (path / "model", path):
        if (folder / "open_clip_config.json").is_file():
            return f"local-dir:{folder}", None
    if path.is_dir():
        raise InputError(
            f"{name} holds no trained model (no model/open_clip_config.json); "
            "run `winnow train` to its end first"
        )
    architecture, _, weights = name.partition(":")
    if architecture not in open_clip.list_models():
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.6)
        raise InputError(
            f"{name} is neither the folder of a run nor NAME:WEIGHTS of open_clip (such as "
            "ViT-B-32:laion2b_s34b_b79k; see open_clip.list_pretrained()), nor openai:PATH or "
            f"diht:PATH{'; near it: ' + ', '.join(near) if near else ''}"
        )
    _require_weights(architecture, weights)
    return architecture, weights


def _files(source: str, weights: str | None) -> list[Path]:
    """The files of weights that are here already, as far as names tell."""
    if weights is not None:
        return [path for path in [Path(weights)] if path.is_file()]
    kind, _, folder = source.partition(":")
    names = _WEIGHTS if kind == "local-dir" else ()
    return sorted(path for name in names for path in Path(folder).glob(name))


def _require_weights(architecture: str, weights: str) -> None:
    """Raise InputError where open_clip has none of that name, or would use them wrongly."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        raise InputError(
            f"{architecture} alone would have random weights: give them as NAME:WEIGHTS, a tag "
            f"({', '.join(tags[:3]) or 'none is published'}) or a file"
        )
    if weights not in tags:
        if Path(weights).is_file():
            return
        raise InputError(
            f"{weights} is neither a file nor weights that open_clip knows for {architecture}; it "
            f"knows {', '.join(tags) or 'none'}"
        )
    config = open_clip.get_model_config(architecture) or {}
    trained = (open_clip.get_pretrained_cfg(architecture, weights) or {}).get("quick_gelu", False)
    if trained != config.get("quick_gelu", False):
        # open_clip warns and goes on, with features that are off.
        other = f"{architecture}-quickgelu" if trained else architecture.removesuffix("-quickgelu")
        raise InputError(
            f"{architecture}:{weights} would compute another activation than these weights were "
            f"trained with: give {other}:{weights}"
        )


def _architecture(source: str) -> dict[str, Any]:
    if source.startswith("local-dir:"):
        path = Path(source.removeprefix("local-dir:")) / "open_clip_config.json"
        return json.loads(path.read_text())["model_cfg"]
    return open_clip.get_model_config(source) or {"name": source}
