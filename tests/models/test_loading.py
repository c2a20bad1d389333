import argparse
import shutil
from pathlib import Path

import open_clip
import pytest
import torch

from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.models.loading import load_model
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=32, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`model` of a run."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "model"
    Towers(SMALL).export(folder)
    return folder


@pytest.fixture
def tiny(monkeypatch):
    """An architecture that open_clip knows by name, for the time of a test."""
    known = dict(open_clip.factory._MODEL_CONFIGS)
    config = SMALL.open_clip_config()
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known | {"tiny": config})


def test_one_model_by_its_four_names(folder, tiny, tmp_path, monkeypatch):
    weights = folder / "open_clip_model.safetensors"
    monkeypatch.setattr(  # as the hub's files lie once they are here
        "open_clip.factory.download_pretrained_from_hf",
        lambda model_id, filename=None, **_: str(folder / filename if filename else weights),
    )
    torch.save(load_model(str(folder)).clip.state_dict(), tmp_path / "weights.pt")
    names = [
        str(folder.parent),
        f"local-dir:{folder}",
        "hf-hub:somebody/something",
        f"tiny:{tmp_path / 'weights.pt'}",
        f"tiny:{weights}",
    ]
    encoders = [load_encoder(name) for name in names]
    assert [encoder.name for encoder in encoders] == names
    assert len({encoder.fingerprint for encoder in encoders}) == 1


def test_a_name_alone_would_have_random_weights():
    with pytest.raises(InputError, match=r"ViT-B-32 alone would have random weights.*NAME:WEIGHTS"):
        load_encoder("ViT-B-32")


def test_a_tag_that_is_not_there_says_which_are():
    with pytest.raises(InputError, match=r"laion3b is neither a file nor.*laion2b_s34b_b79k"):
        load_encoder("ViT-B-32:laion3b")


def test_a_misspelt_name_says_what_is_near():
    with pytest.raises(InputError, match=r"ViT-B-23:x is neither.*near it: .*ViT-B-32"):
        load_encoder("ViT-B-23:x")


def test_weights_are_not_loaded_under_another_activation():
    """open_clip warns and goes on; its own names with the right one are in the message."""
    wrong = []
    for name, tag in open_clip.list_pretrained():
        config, trained = open_clip.get_model_config(name), open_clip.get_pretrained_cfg(name, tag)
        if bool(config.get("quick_gelu")) != bool(trained.get("quick_gelu")):
            wrong.append((name, tag))
    assert ("ViT-B-32", "openai") in wrong
    for name, tag in wrong:
        with pytest.raises(InputError, match="another activation") as error:
            load_model(f"{name}:{tag}")
        right, _, _ = str(error.value).rpartition(" give ")[2].partition(":")
        assert (right, tag) in open_clip.list_pretrained()


def test_a_folder_without_weights_is_not_a_random_model(folder, tmp_path):
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    with pytest.raises(InputError, match="cannot be loaded as an open_clip model: Required"):
        load_encoder(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n<!DOCTYPE html><p>404</p>", "weights.pt .*is a web page .*: fetch the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "pointer.*`git lfs pull`"),
        (b"", "is empty: fetch it again"),
        (b"junk", "tiny:.*weights.pt cannot be loaded.*is no file that torch saved"),
        ({"x": torch.zeros(1)}, "Missing key.*give another file, or the architecture .* of tiny"),
        ({"positional_embedding": torch.zeros(12, 99)}, "width changed!; give another file"),
        ({"x": argparse.Namespace()}, "holds a argparse.Namespace.* save the model's state_dict()"),
        ({}, "cannot be loaded"),
        ([1], "cannot be loaded"),
    ],
    ids=["page", "pointer", "empty", "junk", "other", "width", "object", "nothing", "list"],
)
def test_a_file_that_does_not_fit_is_refused(content, says, tiny, tmp_path):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=says) as error:
        load_encoder(f"tiny:{path}")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("kind", ["local-dir", "run"])
def test_a_folder_cloned_without_its_weights_says_how_to_get_them(kind, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / "open_clip_model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d")
    name = f"local-dir:{path.parent}" if kind == "local-dir" else str(tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors cannot be .*: run `git lfs pull`"):
        load_encoder(name)


@pytest.mark.parametrize("name", ["local-dir:nowhere", "local-dir:", "openai:", "diht:nowhere"])
def test_nothing_there_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        load_encoder(name)
    assert "\n" not in str(error.value)
    assert not list(Path().iterdir())
