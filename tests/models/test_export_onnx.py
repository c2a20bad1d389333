import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from winnow.models import CustomTowers, NamedTowers, TextTransformer, TimmImageTower
from winnow.models import VisionTransformer as ViT
from winnow.models.exporting import onnx_towers
from winnow.models.exporting.comparing import TOLERANCE
from winnow.models.exporting.source import CAPTIONS, Probe, open_source
from winnow.models.towers import Towers

TEXT = TextTransformer(context_length=8, width=32, heads=2, layers=1)


def source_of(towers, folder):
    torch.manual_seed(0)
    Towers(towers).export(folder)
    return open_source(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx-export")
    towers = CustomTowers(
        embed_dim=16,
        image=ViT(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
        text=TEXT,
    )
    source = source_of(towers, folder / "model")
    onnx_towers.write(source, folder)
    return source, folder


def graph(folder, name):
    return onnx.load(folder / "onnx" / name)


def test_onnxruntime_gives_the_model_s_embeddings_for_any_batch(small):
    source, folder = small
    probe = Probe(source, CAPTIONS)
    assert max(onnx_towers.differences(probe, folder).values()) < TOLERANCE
    session = onnxruntime.InferenceSession(folder / "onnx" / "vision_model.onnx")
    for number in (1, 2, 5):
        (found,) = session.run(None, {"pixel_values": probe.pixels_BCHW[:number].numpy()})
        np.testing.assert_allclose(found, probe.image_BD[:number].numpy(), rtol=1e-4, atol=1e-6)


def test_names_shapes_opset_and_facts_stand_in_the_graphs(small):
    source, folder = small
    image, text = (graph(folder, name) for name in ("vision_model.onnx", "text_model.onnx"))
    for model, given, found in (
        (image, "pixel_values", "image_embeds"),
        (text, "input_ids", "text_embeds"),
    ):
        onnx.checker.check_model(model, full_check=True)
        assert [one.name for one in model.graph.input] == [given]
        assert [one.name for one in model.graph.output] == [found]
        assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
        facts = {one.key: one.value for one in model.metadata_props}
        assert json.loads(facts["winnow.mean"]) == list(source.preprocessing.mean)
        assert float(facts["winnow.logit_scale"]) == source.scale
        assert facts["winnow.context_length"] == "8"


def test_graphs_say_nothing_of_the_code_or_the_disk_they_were_made_on(small):
    folder = small[1]
    for path in (folder / "onnx").iterdir():
        written = path.read_bytes()
        for word in (b".py", b"site-packages", b"open_clip", str(folder).encode()):
            assert word not in written


def test_another_graph_is_noticed(small, tmp_path):
    source, folder = small
    (tmp_path / "onnx").mkdir()
    for name in ("vision_model.onnx", "text_model.onnx"):
        model = graph(folder, name)
        for weight in model.graph.initializer:
            if len(weight.dims) == 2 and weight.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
                weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
        onnx.save(model, tmp_path / "onnx" / name)
    found = onnx_towers.differences(Probe(source, CAPTIONS), tmp_path)
    assert min(found.values()) > TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("resnet10t", 32), ("vit_tiny_patch16_224", 224)])
def test_timm_towers(name, size, tmp_path):
    towers = CustomTowers(embed_dim=16, image=TimmImageTower(name=name, image_size=size), text=TEXT)
    source = source_of(towers, tmp_path / "model")
    onnx_towers.write(source, tmp_path)
    assert max(onnx_towers.differences(Probe(source, CAPTIONS), tmp_path).values()) < TOLERANCE


@pytest.mark.slow
def test_openai_s_resnet(tmp_path):
    source = source_of(NamedTowers(name="RN50"), tmp_path / "model")
    onnx_towers.write(source, tmp_path)
    assert max(onnx_towers.differences(Probe(source, CAPTIONS), tmp_path).values()) < TOLERANCE
