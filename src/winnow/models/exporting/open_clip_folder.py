"""open_clip's own format: what `local-dir:FOLDER` and `hf-hub:OWNER/NAME` load.

open_clip_config.json          the architecture, and how pictures reach it
open_clip_model.safetensors    the weights
"""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from winnow.models.exporting.comparing import farthest
from winnow.models.exporting.source import Probe, Source, image_embeddings, text_embeddings

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
"""What open_clip writes of it; the size is the architecture's."""


def refusals(source: Source) -> list[str]:
    """Why it cannot hold the model; nothing that open_clip loads is refused."""
    return []


def write(source: Source, folder: Path) -> None:
    """Write configuration and weights into `folder`."""
    preprocessing = {name: getattr(source.preprocessing, name) for name in _PREPROCESSING}
    config = {"model_cfg": source.architecture, "preprocess_cfg": preprocessing}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    # A copy of each: tensors that share memory cannot be saved.
    state = {name: value.clone().contiguous() for name, value in source.clip.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def differences(probe: Probe, folder: Path) -> dict[str, float]:
    """What open_clip makes of the folder, relative to the model."""
    name = f"local-dir:{folder}"
    clip, _, transform = open_clip.create_model_and_transforms(name, require_pretrained=True)
    pixels_BCHW = torch.stack([transform(picture) for picture in probe.pictures])
    tokens_BT = open_clip.get_tokenizer(name)(list(probe.captions))
    clip.eval()
    scale = float(clip.logit_scale.detach().exp())
    return {
        "image embeddings": farthest(probe.image_BD, image_embeddings(clip, pixels_BCHW)),
        "text embeddings": farthest(probe.text_BD, text_embeddings(clip, tokens_BT)),
        "the temperature": abs(scale / probe.source.scale - 1),
    }
