"""Towers start as the weights were trained, in files that open_clip itself wrote, or not at all."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.model import resize_pos_embed

from winnow.models import CustomTowers, NamedTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.models.starting import start_weights
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=32, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
SIGLIPS = HALF | {"interpolation": "bicubic", "resize_mode": "squash"}
CAPTIONS = ["a red apple", "two dogs"]


def pictures(side=32):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)


def open_clip_folder(folder, *, seed=1, preprocessing=None, **changes):
    """A folder as open_clip has them, with a model that open_clip made."""
    torch.manual_seed(seed)
    config = SMALL.open_clip_config() | changes
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        model.logit_scale.fill_(3.5)
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    described = {"model_cfg": config, "preprocess_cfg": preprocessing or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return model.eval()


@pytest.fixture
def tiny(monkeypatch):
    """An architecture that open_clip knows by name, and one of its kind with QuickGELU."""
    known = dict(open_clip.factory._MODEL_CONFIGS)
    config = SMALL.open_clip_config()
    own = {"tiny": config, "tiny-quickgelu": config | {"quick_gelu": True}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known | own)


def started(config):
    torch.manual_seed(0)
    towers = Towers(config)
    return towers.eval(), start_weights(towers, config)


def same_features(towers, model, *, normalised=None):
    tokens = towers.tokenize(CAPTIONS)
    found = towers(pictures(), tokens)
    pixels = towers.image_normalizer(pictures()) if normalised is None else normalised
    torch.testing.assert_close(found.image_BD, model.encode_image(pixels))
    torch.testing.assert_close(found.text_BD, model.encode_text(tokens))


def test_a_local_directory_brings_weights_scale_and_preprocessing(tmp_path):
    model = open_clip_folder(tmp_path / "there", preprocessing=SIGLIPS)
    config = replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}")
    towers, start = started(config)
    same_features(towers, model, normalised=pictures().float() / 127.5 - 1)
    assert towers.clip.logit_scale.tolist() == [3.5]
    assert towers.view == (32, "squash", "bicubic", 0)
    assert (start.name, start.towers, start.notes) == (config.weights, "both", ())
    towers.export(tmp_path / "run" / "model")
    described = json.loads((tmp_path / "run" / "model" / "open_clip_config.json").read_text())
    assert described["preprocess_cfg"] == SIGLIPS
    again = load_encoder(str(tmp_path / "run"))
    assert again.view == towers.view
    torch.testing.assert_close(
        again.encode_image(pictures()), towers(pictures(), towers.tokenize(CAPTIONS)).image_BD
    )


def test_the_hash_is_of_the_weights_and_of_nothing_else(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        open_clip_folder(tmp_path / name, seed=seed)
    one, same, other = (
        started(replace(SMALL, weights=f"local-dir:{tmp_path / name}"))[1].sha256
        for name in ("one", "same", "other")
    )
    assert one == same != other and len(one) == 64


def test_a_run_is_gone_on_from(tmp_path):
    torch.manual_seed(3)
    before = Towers(SMALL).eval()
    before.export(tmp_path / "model")
    towers, start = started(replace(SMALL, weights=str(tmp_path)))
    same_features(towers, before.clip)
    assert start.facts() == {"name": str(tmp_path), "towers": "both", "sha256": start.sha256}


@pytest.mark.parametrize("kind", ["bin", "safetensors", "training checkpoint"])
def test_a_file_is_of_the_architecture_that_is_named(kind, tiny, tmp_path):
    model = open_clip_folder(tmp_path / "there")
    path = tmp_path / "there" / "open_clip_pytorch_model.bin"
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    elif kind == "training checkpoint":
        path = tmp_path / "epoch_1.pt"
        state = {f"module.{name}": value for name, value in model.state_dict().items()}
        torch.save({"epoch": 1, "state_dict": state}, path)
    towers, start = started(NamedTowers(name="tiny", weights=str(path)))
    same_features(towers, model)
    assert start.name == f"tiny:{path}"


def test_a_tag_is_fetched_and_its_preprocessing_adopted(tiny, tmp_path, monkeypatch):
    model = open_clip_folder(tmp_path / "there")
    weights = tmp_path / "there" / "open_clip_pytorch_model.bin"
    tag = {"url": "https://nowhere.invalid/w.pt", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"a_tag": tag})
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(weights))
    towers, _ = started(NamedTowers(name="tiny", weights="a_tag"))
    same_features(towers, model, normalised=pictures().float() / 127.5 - 1)


def test_no_network_is_one_sentence(tiny, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"a_tag": {"hf_hub": "x/y/"}})
    monkeypatch.setattr("open_clip.factory.download_pretrained", unreachable)
    with pytest.raises(InputError, match=r"tiny:a_tag cannot be loaded.*no route to host") as error:
        started(NamedTowers(name="tiny", weights="a_tag"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", ["image", "text"])
def test_one_tower_starts_and_the_other_is_random(start, tmp_path):
    model = open_clip_folder(tmp_path / "there", preprocessing=SIGLIPS)
    config = replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}", start=start)
    towers, _ = started(config)
    torch.manual_seed(0)
    fresh = Towers(SMALL).clip.state_dict()
    for name, value in towers.clip.state_dict().items():
        of_image = name.startswith("visual.")
        is_theirs = name != "logit_scale" and of_image == (start == "image")
        expected = model.state_dict()[name] if is_theirs else fresh[name]
        assert torch.equal(value, expected), name
    assert (list(towers.preprocessing["mean"]) == HALF["mean"]) == (start == "image")


def test_a_temperature_that_is_asked_for_stays(tmp_path):
    open_clip_folder(tmp_path / "there", init_logit_bias=-7.0)
    weights = f"local-dir:{tmp_path / 'there'}"
    asked, _ = started(replace(SMALL, weights=weights, logit_scale=1.0, logit_bias=-2.0))
    assert (asked.clip.logit_scale.item(), asked.clip.logit_bias.item()) == (1.0, -2.0)
    without, start = started(replace(SMALL, weights=weights))
    assert without.clip.logit_bias is None and without.clip.logit_scale.item() == 3.5
    assert start.notes == ("the bias of the weights' logits was left out: the towers have none",)


def test_other_image_sizes_and_lengths_resize_the_positions_as_open_clip_does(tmp_path):
    model = open_clip_folder(tmp_path / "there")
    larger = replace(
        SMALL,
        image=replace(SMALL.image, image_size=48),
        text=replace(SMALL.text, context_length=16),
        weights=f"local-dir:{tmp_path / 'there'}",
    )
    towers, start = started(larger)
    state = model.state_dict()
    resize_pos_embed(state, towers.clip)
    assert len(state["visual.positional_embedding"]) == 37
    position = towers.clip.visual.positional_embedding
    assert torch.equal(position, state["visual.positional_embedding"])
    assert [note.partition(" were")[0] for note in start.notes] == [
        "the image tower's 17 positions",
        "the text tower's 12 positions",
    ]


def test_a_file_of_another_image_size_says_so_too(tiny, tmp_path):
    open_clip_folder(tmp_path / "there")
    weights = str(tmp_path / "there" / "open_clip_pytorch_model.bin")
    _, start = started(NamedTowers(name="tiny", weights=weights, image_size=48))
    assert start.notes[0].startswith("the image tower's 17 positions were resized to 37")
    larger = SMALL.open_clip_config()
    larger["vision_cfg"]["image_size"] = 64
    open_clip_folder(tmp_path / "larger", vision_cfg=larger["vision_cfg"])
    weights = str(tmp_path / "larger" / "open_clip_pytorch_model.bin")
    _, start = started(NamedTowers(name="tiny", weights=weights))
    assert start.notes[0].startswith("the image tower's 65 positions were resized to 17")


def test_published_checkpoints_start_only_towers_of_their_activation(tiny, tmp_path):
    wide = replace(
        SMALL,
        image=replace(SMALL.image, width=64, head_width=64),
        text=replace(SMALL.text, width=64, heads=1),
    )
    torch.manual_seed(1)
    published = open_clip.CLIP(**wide.open_clip_config(), quick_gelu=True)
    torch.save(published.state_dict(), tmp_path / "published.pt")
    weights = f"openai:{tmp_path / 'published.pt'}"
    with pytest.raises(InputError, match=r"quick_gelu is True there and False here.*-quickgelu"):
        started(replace(wide, weights=weights))
    diht, _ = started(replace(wide, weights=f"diht:{tmp_path / 'published.pt'}"))
    torch.testing.assert_close(
        diht.clip.visual.conv1.weight, published.visual.conv1.weight, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quick_gelu": True}, "quick_gelu is True there and False here"),
        ({"text_cfg": {"heads": 4}}, "text_cfg.heads is 4 there and 2 here"),
        ({"text_cfg": {"no_causal_mask": True}}, "no_causal_mask is True there and False here"),
        ({"vision_cfg": {"head_width": 32}}, "vision_cfg.head_width is 32 there and 16 here"),
        ({"vision_cfg": {"width": 48}}, "vision_cfg.width is 48 there and 32 here"),
        ({"embed_dim": 24}, r"visual.proj of \(32, 24\) for \(32, 16\)"),
    ],
)
def test_other_weights_are_refused_by_name(change, says, tmp_path):
    config = SMALL.open_clip_config()
    merged = {
        name: config[name] | value if isinstance(value, dict) else value
        for name, value in change.items()
    }
    open_clip_folder(tmp_path / "there", **merged)
    with pytest.raises(InputError, match=says) as error:
        started(replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}"))
    assert "\n" not in str(error.value)


def test_what_only_the_other_tower_has_otherwise_does_not_matter(tmp_path):
    text = SMALL.open_clip_config()["text_cfg"] | {"heads": 4, "layers": 3}
    model = open_clip_folder(tmp_path / "there", text_cfg=text)
    towers, _ = started(replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}", start="image"))
    assert torch.equal(towers.clip.visual.proj, model.visual.proj)


def test_a_run_without_an_end_is_no_start(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds no trained model"):
        started(replace(SMALL, weights=str(tmp_path)))


def test_a_preprocessing_that_is_not_known_is_refused(tmp_path):
    open_clip_folder(tmp_path / "there", preprocessing={"resize_mode": "fill"})
    with pytest.raises(InputError, match="resizes pictures by 'fill'"):
        started(replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}"))


def test_without_weights_nothing_starts_and_no_random_number_is_lost(tmp_path):
    towers, start = started(SMALL)
    assert start is None
    open_clip_folder(tmp_path / "there")
    torch.manual_seed(5)
    expected = torch.rand(3)
    config = replace(SMALL, weights=f"local-dir:{tmp_path / 'there'}")
    torch.manual_seed(5)
    assert start_weights(towers, config) is not None
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: replace(SMALL, start="image").open_clip_config(), "none are given"),
        (lambda: NamedTowers(name="RN50", start="text").open_clip_config(), "none are given"),
        (lambda: NamedTowers(name="ViT-B-32", image_size=200).open_clip_config(), "multiple of 32"),
        (lambda: NamedTowers(name="RN50", image_size=100).open_clip_config(), "multiple of 32"),
        (lambda: NamedTowers(name="convnext_base", image_size=96).open_clip_config(), "timm"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_an_image_size_is_the_towers():
    config = NamedTowers(name="ViT-B-32", image_size=96).open_clip_config()
    assert config["vision_cfg"]["image_size"] == 96
