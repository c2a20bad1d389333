import json
import math
import shutil
from dataclasses import replace

import open_clip
import pytest
import torch

from winnow.data.images import View
from winnow.models import CustomTowers, NamedTowers, TextTransformer, VisionTransformer
from winnow.models.devices import usable_device
from winnow.models.encoder import load_encoder
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=32, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    towers, directory = Towers(SMALL).eval(), tmp_path_factory.mktemp("run")
    towers.export(directory / "model")
    return towers, directory


def pictures(count=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_open_clip_loads_the_export_and_agrees(exported):
    towers, directory = exported
    source = f"local-dir:{directory / 'model'}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    captions = ["a red apple", "two dogs"]
    tokens = open_clip.get_tokenizer(source)(captions)
    assert torch.equal(tokens, towers.tokenize(captions))
    assert model.logit_scale.shape == ()
    picture = pictures(1)
    from torchvision.transforms.functional import to_pil_image

    theirs = model.encode_image(preprocess(to_pil_image(picture[0]))[None])
    ours = towers(picture, tokens[:1]).image_BD
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(towers(picture, tokens).text_BD, model.encode_text(tokens))


def test_the_scale_and_bias_of_the_export_give_open_clip_the_same_logits(tmp_path):
    torch.manual_seed(0)
    config = replace(SMALL, logit_scale=math.log(10), logit_bias=-10.0)
    towers = Towers(config).eval()
    with torch.no_grad():  # as training would leave them: not where they began
        towers.clip.logit_scale += 0.25
        towers.clip.logit_bias += 1.5
    towers.export(tmp_path / "model")
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    assert (model.logit_scale.shape, model.logit_bias.shape) == ((), ())
    tokens = towers.tokenize(["a red apple", "two dogs"])
    image, text, scale, bias, _ = towers(pictures(2), tokens)
    unit = torch.nn.functional.normalize
    ours = scale * (unit(image) @ unit(text).T) + bias
    theirs, _ = model.eval().get_logits(towers.image_normalizer(pictures(2)), tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert bias.item() == -8.5
    encoder = load_encoder(str(tmp_path))
    torch.testing.assert_close(encoder.encode_text(["a red apple", "two dogs"]), text)


def test_where_nothing_is_said_scale_and_bias_are_open_clips():
    towers = Towers(SMALL)
    assert towers.clip.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    embeddings = towers(pictures(1), towers.tokenize(["x"]))
    assert embeddings.bias is None and "logit_bias" not in dict(towers.clip.named_parameters())


def test_an_architecture_keeps_its_own_bias_unless_told(monkeypatch):
    """As open_clip's SigLIP architectures have one."""
    known = open_clip.get_model_config("ViT-B-32")
    its_own = {"init_logit_bias": -10, "init_logit_scale": 2.0}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: known | its_own)
    config = NamedTowers(name="ViT-B-32").open_clip_config()
    assert (config["init_logit_bias"], config["init_logit_scale"]) == (-10, 2.0)
    config = NamedTowers(name="ViT-B-32", logit_bias=-5.0).open_clip_config()
    assert (config["init_logit_bias"], config["init_logit_scale"]) == (-5.0, 2.0)


def test_the_encoder_of_a_run_gives_the_towers_features(exported):
    towers, directory = exported
    encoder = load_encoder(str(directory))
    assert encoder.view == View(32)
    torch.testing.assert_close(
        encoder.encode_image(pictures()), towers(pictures(), towers.tokenize(["x"])).image_BD
    )


def test_the_fingerprint_sees_one_changed_weight(exported, tmp_path):
    towers, directory = exported
    before = load_encoder(str(directory)).fingerprint
    assert load_encoder(str(directory)).fingerprint == before
    changed = Towers(SMALL)
    changed.load_state_dict(towers.state_dict())
    with torch.no_grad():
        changed.clip.ln_final.bias[0] += 1e-6
    changed.export(tmp_path / "model")
    assert load_encoder(str(tmp_path)).fingerprint != before


def test_the_fingerprint_sees_what_the_weights_do_not(exported, tmp_path):
    _, directory = exported
    shutil.copytree(directory / "model", tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["heads"] = 4
    path.write_text(json.dumps(config))
    assert load_encoder(str(tmp_path)).fingerprint != load_encoder(str(directory)).fingerprint


def test_a_missing_device_is_one_sentence():
    with pytest.raises(InputError, match="the device 'gpu0' cannot be used here"):
        usable_device("gpu0")


def test_the_scale_is_clamped_to_one_hundred():
    towers = Towers(SMALL)
    with torch.no_grad():
        towers.clip.logit_scale.fill_(10.0)
    towers.clamp_scale()
    assert towers.clip.logit_scale.exp().item() == pytest.approx(100)


def test_open_clip_architectures_build_by_name():
    config = NamedTowers(name="ViT-B-32").open_clip_config()
    assert config["embed_dim"] == 512


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NamedTowers(name="ViT-B-31").open_clip_config(), "ViT-B-32"),
        (lambda: NamedTowers(name="ViT-B-16-SigLIP").open_clip_config(), "hub"),
        (lambda: NamedTowers(name="coca_ViT-B-32").open_clip_config(), "caption decoder"),
        (lambda: VisionTransformer(image_size=50, patch_size=8).open_clip_config(), "multiple"),
        (lambda: TextTransformer(width=50, heads=4).open_clip_config(), "multiple"),
        (lambda: replace(SMALL, logit_scale=10.0).open_clip_config(), "logarithm"),
        (lambda: NamedTowers(name="RN50", logit_scale=-0.1).open_clip_config(), "logarithm"),
        (lambda: replace(SMALL, logit_bias=math.inf).open_clip_config(), "finite"),
        (lambda: load_encoder("no-such-thing"), "neither"),
        (lambda: load_encoder("ViT-B-32"), "NAME:WEIGHTS"),
    ],
)
def test_what_cannot_be_built_says_so(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(InputError, match="holds no trained model"):
        load_encoder(str(tmp_path))
