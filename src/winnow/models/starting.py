"""Towers that start from given weights: any that open_clip loads, adopted as they were trained.

What weights do not show changes what they compute: the activation, the heads, how text is pooled,
how pictures are normalised. The preprocessing of the image tower is taken over with it; all else
has to be that of the architecture, or is refused by name.
"""

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import (
    CLIPTextCfg,
    CLIPVisionCfg,
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from open_clip.transform import PreprocessCfg
from safetensors import safe_open
from torch import Tensor

from winnow.models.architecture import CustomTowers, NamedTowers, Start
from winnow.models.checkpoints import hash_of
from winnow.models.loading import LoadedModel, load_model
from winnow.models.towers import Towers
from winnow.models.views import view_of
from winnow.types import InputError

_FREE_VISION = frozenset(
    {
        *("image_size", "patch_dropout", "output_tokens", "timm_model_pretrained", "timm_drop"),
        "timm_drop_path",
    }
)
_FREE_TEXT = frozenset({"context_length", "output_tokens", "hf_model_pretrained"})
"""What may differ: it is of training alone, or the positions are resized."""
_IMAGE_POSITIONS = "visual.positional_embedding"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


@dataclass(frozen=True, kw_only=True)
class StartWeights:
    """What towers started from."""

    name: str
    """As `winnow evaluate` takes it too."""
    towers: Start
    sha256: str
    """Over names, types, shapes and bytes of all of the model's tensors, as they were loaded."""
    notes: tuple[str, ...] = ()
    """What was changed to make them fit, a sentence each."""

    def facts(self) -> dict[str, str]:
        """For what a run remembers of its data."""
        return {"name": self.name, "towers": self.towers, "sha256": self.sha256}


def start_weights(towers: Towers, config: NamedTowers | CustomTowers) -> StartWeights | None:
    """Put the weights that `config` names into `towers`, freshly built from it; None: it has none.

    Raises InputError where they cannot be read, or are another architecture's. The random state of
    torch stays as it was.
    """
    if config.weights is None:
        return None
    name = _name_of(config)
    with torch.random.fork_rng(devices=[]):
        loaded = load_model(name)
    if type(loaded.clip) not in (open_clip.CLIP, open_clip.CustomTextCLIP):
        raise InputError(f"{name} is a {type(loaded.clip).__name__}, which winnow does not train")
    _refuse_other_settings(towers.config, loaded.architecture, name, config.start)
    state, sha256 = loaded.clip.state_dict(), hash_of(loaded.clip.state_dict())
    notes = _resized_before(config, loaded)
    if isinstance(towers.clip, open_clip.CustomTextCLIP):
        state = convert_to_custom_text_state_dict(state)
    notes += _resize(state, towers, config.start)
    chosen = _chosen(state, towers, config, notes)
    _refuse_other_shapes(chosen, towers, name, config.start)
    towers.clip.load_state_dict(towers.clip.state_dict() | chosen)
    if config.start != "text":
        towers.set_preprocessing(_preprocessing_of(loaded, name))
    return StartWeights(name=name, towers=config.start, sha256=sha256, notes=tuple(notes))


def _name_of(config: NamedTowers | CustomTowers) -> str:
    """As `load_model` takes it: a tag or a file belongs to the architecture that is named."""
    assert config.weights is not None, "who has none does not ask"
    is_whole = ":" in config.weights or Path(config.weights).is_dir()
    if isinstance(config, CustomTowers) or is_whole:
        return config.weights
    return f"{config.name}:{config.weights}"


def _refuse_other_settings(
    own: Mapping[str, Any], theirs: Mapping[str, Any], name: str, start: Start
) -> None:
    """Raise InputError for weights that would compute something else here than where they are."""
    differing = []
    if start != "text":
        differing += _differing(own, theirs, "vision_cfg", CLIPVisionCfg, _FREE_VISION)
    if start != "image":
        differing += _differing(own, theirs, "text_cfg", CLIPTextCfg, _FREE_TEXT)
    own_gelu, their_gelu = (bool(one.get("quick_gelu", False)) for one in (own, theirs))
    is_open_clips = "timm_model_name" not in own["vision_cfg"] or start != "image"
    if own_gelu != their_gelu and is_open_clips:
        differing.append(f"quick_gelu is {their_gelu} there and {own_gelu} here")
    if differing:
        raise InputError(
            f"the weights of {name} belong to another architecture: {'; '.join(differing[:4])}. "
            "Take the model that they are of (quick_gelu: the one whose name ends in -quickgelu)"
        )


def _differing(
    own: Mapping[str, Any],
    theirs: Mapping[str, Any],
    part: str,
    kind: type,
    free: frozenset[str],
) -> list[str]:
    # What a configuration leaves out is open_clip's default.
    default = {one.name: getattr(kind, one.name) for one in fields(kind)}
    here, there = (default | dict(one[part]) for one in (own, theirs))
    if isinstance(here.get("layers"), list | tuple):  # a ResNet has no patches
        free |= {"patch_size"}
    return [
        f"{part}.{field} is {there.get(field)!r} there and {here.get(field)!r} here"
        for field in sorted(here.keys() | there.keys())
        if field not in free and _plain(here.get(field)) != _plain(there.get(field))
    ]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _resized_before(config: NamedTowers | CustomTowers, loaded: LoadedModel) -> list[str]:
    """What open_clip says of a file's positions nowhere but in its log, when it resizes them."""
    path = Path(config.weights or "")
    if config.start == "text" or not path.is_file():
        return []
    new = loaded.clip.state_dict().get(_IMAGE_POSITIONS)
    old = _rows_in(path, _IMAGE_POSITIONS)
    if new is None or old in (None, len(new)):
        return []
    return [_said_of_image(old, len(new))]


def _said_of_image(old: int | None, new: int) -> str:
    return (
        f"the image tower's {old} positions were resized to {new}: the weights are of another "
        "image size"
    )


def _rows_in(path: Path, name: str) -> int | None:
    """How many rows a tensor has in a file of weights; None where it is not there."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            names = file.keys()
            return file.get_slice(name).get_shape()[0] if name in names else None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None  # TorchScript, or a format older than memory maps: open_clip could read it
    found = found.get("state_dict", found)
    tensor = found.get(name, found.get(f"module.{name}"))
    return None if tensor is None else len(tensor)


def _resize(state: dict[str, Tensor], towers: Towers, start: Start) -> list[str]:
    """Fit positions to another image size or context length, as open_clip does; what was done."""
    said, own = [], towers.clip.state_dict()
    if start != "text" and _IMAGE_POSITIONS in state and _IMAGE_POSITIONS in own:
        old = len(state[_IMAGE_POSITIONS])
        resize_pos_embed(state, towers.clip)
        if len(state[_IMAGE_POSITIONS]) != old:
            said.append(_said_of_image(old, len(state[_IMAGE_POSITIONS])))
    text = "positional_embedding" if "positional_embedding" in own else "text.positional_embedding"
    if start != "image" and state[text].shape[1:] == own[text].shape[1:]:
        old = len(state[text])
        resize_text_pos_embed(state, towers.clip)
        if len(state[text]) != old:
            said.append(
                f"the text tower's {old} positions were resized to {len(state[text])}: the weights "
                "are of another context length"
            )
    return said


def _chosen(
    state: Mapping[str, Tensor],
    towers: Towers,
    config: NamedTowers | CustomTowers,
    notes: list[str],
) -> dict[str, Tensor]:
    """What is taken over of the weights, by name."""
    own = towers.clip.state_dict()
    temperature = {"logit_scale": config.logit_scale, "logit_bias": config.logit_bias}
    chosen = {}
    for name, value in state.items():
        if name in temperature:
            if config.start == "both" and temperature[name] is None and name in own:
                chosen[name] = value.reshape(own[name].shape)
        elif config.start in ("both", "image" if name.startswith("visual.") else "text"):
            chosen[name] = value
    if config.start == "both" and "logit_bias" in state.keys() - own.keys():
        notes.append("the bias of the weights' logits was left out: the towers have none")
    return chosen


def _refuse_other_shapes(
    chosen: Mapping[str, Tensor], towers: Towers, name: str, start: Start
) -> None:
    """Raise InputError unless every tensor of the towers that start has its own in `chosen`."""
    own = towers.clip.state_dict()
    needed = [
        one
        for one in own
        if not one.startswith("logit_")
        and start in ("both", "image" if one.startswith("visual.") else "text")
    ]
    wrong = [f"no {one}" for one in needed if one not in chosen]
    wrong += [f"{one}, which the model has not" for one in chosen.keys() - own.keys()]
    wrong += [
        f"{one} of {tuple(value.shape)} for {tuple(own[one].shape)}"
        for one, value in chosen.items()
        if one in own and value.shape != own[one].shape
    ]
    if wrong:
        raise InputError(
            f"the weights of {name} do not fit the model: they have {'; '.join(wrong[:4])}"
            + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        )


def _preprocessing_of(loaded: LoadedModel, name: str) -> dict[str, Any]:
    """Of the image tower, in open_clip's words. Raises InputError where it is not known here."""
    found = PreprocessCfg(**loaded.clip.visual.preprocess_cfg)
    view_of(found, name)
    values = asdict(found)
    return {key: values[key] for key in _PREPROCESSING if key != "fill_color" or values[key]}
