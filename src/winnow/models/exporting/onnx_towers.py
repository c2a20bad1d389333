"""ONNX: both towers as graphs, for onnxruntime and whatever else runs them.

onnx/vision_model.onnx    pixel_values (batch, 3, side, side) float32 -> image_embeds (batch, D)
onnx/text_model.onnx      input_ids (batch, context length) int64 -> text_embeds (batch, D)

Pixels come as open_clip's transform (or transformers' processor) gives them: resized, from 0 to 1,
less the mean, divided by the deviation. Embeddings leave un-normalised, as open_clip's
`encode_image` and `encode_text` give them. Mean, deviation, context length and what multiplies the
cosines stand in the graphs' metadata, under `winnow.`.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from winnow.models.exporting.comparing import farthest
from winnow.models.exporting.source import Probe, Source

OPSET = 18
_VISION, _TEXT = "onnx/vision_model.onnx", "onnx/text_model.onnx"
_LARGEST_INLINE = 1_500_000_000
"""Bytes of weights that still go into the graph's own file; protobuf ends at 2 GiB."""


def refusals(source: Source) -> list[str]:
    """Why it cannot hold the model; what torch cannot trace is only known when it is written."""
    return []


def write(source: Source, folder: Path) -> None:
    """Write both graphs into `folder`."""
    (folder / "onnx").mkdir()
    probe = Probe(source, ("a photo", "of two"))
    _write_graph(
        _ImageTower(source.clip), probe.pixels_BCHW[:2], folder / _VISION, _metadata(source)
    )
    _write_graph(_TextTower(source.clip), probe.tokens_BT, folder / _TEXT, _metadata(source))


def differences(probe: Probe, folder: Path) -> dict[str, float]:
    """What onnxruntime makes of the graphs, of all together and of one alone."""
    image_BD = _run(folder / _VISION, probe.pixels_BCHW)
    text_BD = _run(folder / _TEXT, probe.tokens_BT)
    one_image_BD, one_text_BD = (
        _run(folder / _VISION, probe.pixels_BCHW[:1]),
        _run(folder / _TEXT, probe.tokens_BT[:1]),
    )
    return {
        "image embeddings": farthest(probe.image_BD, image_BD),
        "text embeddings": farthest(probe.text_BD, text_BD),
        "the embedding of one picture": farthest(probe.image_BD[:1], one_image_BD),
        "the embedding of one caption": farthest(probe.text_BD[:1], one_text_BD),
    }


class _ImageTower(nn.Module):
    takes, gives = "pixel_values", "image_embeds"

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.clip.encode_image(pixel_values, normalize=False)


class _TextTower(nn.Module):
    takes, gives = "input_ids", "text_embeds"

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        self.eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.clip.encode_text(input_ids, normalize=False)


def _write_graph(
    tower: _ImageTower | _TextTower, example: Tensor, path: Path, metadata: dict[str, str]
) -> None:
    with _quietly():
        program = torch.onnx.export(
            tower,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[tower.takes],
            output_names=[tower.gives],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    _forget_the_code(program.model)
    program.model.metadata_props.update(metadata)
    weights = sum(value.numel() * value.element_size() for value in tower.state_dict().values())
    program.save(path, external_data=weights > _LARGEST_INLINE)


def _forget_the_code(model: Any) -> None:
    """Take out what the exporter notes of the code it traced: paths of this machine."""
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _metadata(source: Source) -> dict[str, str]:
    return {
        "winnow.mean": json.dumps(list(source.preprocessing.mean)),
        "winnow.std": json.dumps(list(source.preprocessing.std)),
        "winnow.interpolation": source.preprocessing.interpolation,
        "winnow.resize_mode": source.preprocessing.resize_mode,
        "winnow.context_length": str(source.context_length),
        "winnow.logit_scale": repr(source.scale),
    }


def _run(path: Path, given: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    (result,) = session.run(None, {name: given.numpy()})
    return torch.from_numpy(result)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of its own parts."""
    exporters = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [one.level for one in exporters]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in exporters:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(exporters, levels, strict=True):
                one.setLevel(level)
