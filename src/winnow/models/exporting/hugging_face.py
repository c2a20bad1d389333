"""The `CLIPModel` layout of Hugging Face transformers.

config.json                 the architecture in its words (`clip_layout.py`)
model.safetensors           the weights under its names (`clip_weights.py`)
preprocessor_config.json    how pictures reach it
tokenizer files             `tokenizer_files.py`
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from winnow.models.exporting import clip_layout
from winnow.models.exporting.clip_weights import clip_weights
from winnow.models.exporting.comparing import farthest
from winnow.models.exporting.source import Probe, Source
from winnow.models.exporting.tokenizer_files import write_tokenizer


def refusals(source: Source) -> list[str]:
    """Why it cannot hold the model, field by field."""
    return clip_layout.refusals(source)


def write(source: Source, folder: Path) -> None:
    """Write a model that is not refused into `folder`."""
    _write(folder / "config.json", clip_layout.config_of(source))
    _write(folder / "preprocessor_config.json", clip_layout.processor_config(source))
    write_tokenizer(source.tokenize, folder)
    save_file(clip_weights(source.clip), folder / "model.safetensors", metadata={"format": "pt"})


def differences(probe: Probe, folder: Path) -> dict[str, float]:
    """What transformers makes of the folder, relative to the model.

    Captions go through its tokenizer as open_clip mends them; `other_ids` says whom that touches.
    """
    from transformers import CLIPModel, CLIPProcessor

    with _quietly():
        model: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
        processor: Any = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    captions = [_mended(caption) for caption in probe.captions]
    given = processor(
        text=captions,
        images=probe.pictures,
        return_tensors="pt",
        padding="max_length",
        truncation=True,
    )
    with torch.inference_mode():
        image_BD = model.get_image_features(given["pixel_values"]).pooler_output
        text_BD = model.get_text_features(
            given["input_ids"], attention_mask=given["attention_mask"]
        ).pooler_output
    scale = float(model.logit_scale.detach().exp())
    return {
        "image embeddings": farthest(probe.image_BD, image_BD),
        "text embeddings": farthest(probe.text_BD, text_BD),
        "the temperature": abs(scale / probe.source.scale - 1),
    }


def other_ids(probe: Probe, folder: Path) -> list[str]:
    """The captions that its tokenizer reads otherwise, for it does not mend what open_clip does."""
    from transformers import CLIPTokenizer

    with _quietly():
        tokenize: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    length = probe.source.context_length
    theirs = tokenize(list(probe.captions), truncation=True, max_length=length)["input_ids"]
    # Theirs are padded with another id, which no embedding depends on.
    own = [row[: len(ids)].tolist() for row, ids in zip(probe.tokens_BT, theirs, strict=True)]
    pairs = zip(probe.captions, own, theirs, strict=True)
    return [caption for caption, mine, other in pairs if mine != other]


def _mended(caption: str) -> str:
    from open_clip.tokenizer import basic_clean

    return basic_clean(caption)


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the bars and hints that transformers prints when it loads."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
