import json
import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import open_clip
import pytest
import torch
from open_clip import CLIP, CoCa, CustomTextCLIP
from torch import nn

from winnow.data.images import View
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import Encoder, load_encoder
from winnow.models.towers import Towers
from winnow.types import InputError

TEXT = {"context_length": 12, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
POOLED = {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}
MULTIMODAL = {"multimodal_cfg": {"width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2}}
TEXTS = ["a red apple", "two dogs"]
SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(**VIT),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)


def timm(name, pool, projection, size=64):
    return {
        "timm_model_name": name,
        "timm_pool": pool,
        "timm_proj": projection,
        "image_size": size,
    }


TOWERS = {
    "vit": (CLIP, VIT, 32),
    "vit average": (CLIP, VIT | {"pool_type": "avg"}, 32),
    "vit norm after pool": (CLIP, VIT | {"pool_type": "avg", "final_ln_after_pool": True}, 32),
    "vit attention pool": (CLIP, VIT | POOLED, 16),
    "coca": (CoCa, VIT | POOLED | {"output_tokens": True}, 16),
    "resnet": (CLIP, {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 8}, None),
    "timm linear": (CustomTextCLIP, timm("resnet18", "avg", "linear"), 512),
    "timm mlp": (CustomTextCLIP, timm("resnet18", "avg", "mlp"), 512),
    "timm classifier": (CustomTextCLIP, timm("vit_tiny_patch16_224", "token", "", 224), 192),
    "timm conv classifier": (CustomTextCLIP, timm("fastvit_t8", "avg", ""), 768),
    "timm attention pool": (CustomTextCLIP, timm("resnet18", "abs_attn", "", 224), None),
    "siglip": (CustomTextCLIP, timm("vit_tiny_patch16_224", "map", "none", 224), None),
}


def built(kind, vision):
    torch.manual_seed(0)
    width = 192 if vision.get("timm_proj") == "none" else 16
    more = MULTIMODAL if kind is CoCa else {}
    text = TEXT | ({"embed_cls": True, "output_tokens": True} if kind is CoCa else {})
    return kind(width, vision_cfg=vision, text_cfg=text, **more).eval()


def around(model, **options):
    given = {
        "tokenize": open_clip.SimpleTokenizer(context_length=12),
        "view": View(32),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.25, 0.2, 0.3),
        "name": "mine",
    }
    return Encoder.around(model, **given | options)


def pictures(size=32, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def floats(image_BCHW):
    """As `around` normalizes, spelt out."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.25, 0.2, 0.3)))
    return (image_BCHW / 255 - mean) / std


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_both_stages_of_every_kind_of_tower(name):
    kind, vision, hidden_width = TOWERS[name]
    model = built(kind, vision)
    image_BCHW = pictures(vision["image_size"])
    encoder = around(model, view=View(vision["image_size"]))
    hidden_BH, projected_BD = encoder.encode_image_stages(image_BCHW)
    expected = model.encode_image(floats(image_BCHW), normalize=False)
    torch.testing.assert_close(projected_BD, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(projected_BD, encoder.encode_image(image_BCHW))
    tokens = open_clip.SimpleTokenizer(context_length=12)(TEXTS)
    expected = model.encode_text(tokens, normalize=False)
    torch.testing.assert_close(encoder.encode_text(TEXTS), expected, rtol=1e-4, atol=1e-5)
    if hidden_width is None:
        assert hidden_BH is projected_BD
        return
    assert hidden_BH.shape == (3, hidden_width)
    if kind is CustomTextCLIP:
        head = model.visual.head
        after = head if len(head) else model.visual.trunk.get_classifier()
        torch.testing.assert_close(after(hidden_BH), projected_BD)
    else:
        torch.testing.assert_close(hidden_BH @ model.visual.proj, projected_BD)


def test_the_projection_is_in_place_again_even_after_an_error():
    model = built(CLIP, VIT)
    encoder, names = around(model), list(model.state_dict())
    encoder.encode_image_stages(pictures())
    with pytest.raises(RuntimeError):
        encoder.encode_image_stages(pictures(size=24))
    assert list(model.state_dict()) == names and model.visual.proj is not None
    timm_model = built(*TOWERS["timm linear"][:2])
    around(timm_model).encode_image_stages(pictures(64))
    assert not timm_model.visual.head.proj._forward_pre_hooks


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("bf16", 1e-4, 2e-2), ("fp16", 1e-5, 3e-3)]
)
def test_lower_precision_rounds_and_comes_back_in_float32(precision, least, most):
    model = built(CLIP, VIT)
    whole, half = around(model), around(model, precision=precision)
    assert (whole.precision, half.precision) == ("fp32", precision)
    pairs = [
        (whole.encode_text(TEXTS), half.encode_text(TEXTS)),
        *zip(
            whole.encode_image_stages(pictures()),
            half.encode_image_stages(pictures()),
            strict=True,
        ),
    ]
    for expected, seen in pairs:
        assert seen.dtype == torch.float32 and seen.device.type == "cpu"
        difference = (seen - expected).norm() / expected.norm()
        assert least < difference < most
    assert half.fingerprint == whole.fingerprint  # the weights are: precision is named beside it


def test_a_precision_nobody_has_is_one_sentence():
    with pytest.raises(InputError, match="precision 'int4' of mine: give one of"):
        around(built(CLIP, VIT), precision="int4")


class Means:
    """No torch module: a picture's mean colour, and a text's length."""

    def encode_image(self, image_BCHW):
        return image_BCHW.mean(dim=(2, 3))

    def encode_text(self, tokens):
        return tokens.float()


def lengths(texts):
    return torch.tensor([[len(text)] * 3 for text in texts])


def test_anything_with_two_functions_is_an_encoder():
    encoder = around(Means(), tokenize=lengths, fingerprint="means 1", view=View(8, "squash"))
    torch.testing.assert_close(
        encoder.encode_image(pictures(8)), floats(pictures(8)).mean(dim=(2, 3))
    )
    assert encoder.encode_text(["ab", "c"]).tolist() == [[2, 2, 2], [1, 1, 1]]
    hidden_BH, projected_BD = encoder.encode_image_stages(pictures(8))
    assert hidden_BH is projected_BD
    assert (encoder.logit_scale, encoder.view) == (100.0, View(8, "squash"))
    assert around(Means(), fingerprint="1", logit_scale=7.0).logit_scale == 7.0


def test_what_is_no_module_needs_a_fingerprint():
    with pytest.raises(InputError, match=r"mine is no torch module.*give a fingerprint"):
        around(Means())


class Pooling(nn.Module):
    def __init__(self, *, pool="mean", stride=1):
        super().__init__()
        self.pool = pool
        self.image = nn.Conv2d(3, 4, 2, stride=stride)
        self.text = nn.Linear(3, 4)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def encode_image(self, image_BCHW):
        return getattr(self.image(image_BCHW).flatten(2), self.pool)(dim=2)

    def encode_text(self, tokens):
        return self.text(tokens.float())


def pooling(**options):
    torch.manual_seed(0)
    return Pooling(**options)


def test_a_module_is_known_by_its_weights_settings_and_preprocessing():
    changed = pooling()
    with torch.no_grad():
        changed.text.bias[0] += 1e-6
    given = {"tokenize": lengths}
    encoders = [
        around(pooling(), **given),
        around(changed, **given),
        around(pooling(pool="sum"), **given),
        around(pooling(stride=2), **given),
        around(pooling(), tokenize=lambda texts: lengths(texts) + 1),
        around(pooling(), view=View(32, interpolation="bilinear"), **given),
        around(pooling(), mean=(0.5, 0.4, 0.31), **given),
        around(pooling(), std=(0.25, 0.2, 0.31), **given),
        around(pooling(), fingerprint="1"),
        around(pooling(), fingerprint="2"),
        around(pooling(), fingerprint="2", view=View(33)),
    ]
    fingerprints = [encoder.fingerprint for encoder in encoders]
    assert len(set(fingerprints)) == len(fingerprints)
    training = pooling().train()
    assert around(training, name="other", **given).fingerprint == fingerprints[0]
    assert not training.training
    assert encoders[0].logit_scale == pytest.approx(20)


def in_place(model):
    model.text.weight.mul_(-2)


def past_autograd(model):
    model.text.weight.data.mul_(-2)


def in_another_order(model):
    model.text.weight.copy_(model.text.weight.flip(0))


def fused_step(model):
    with torch.enable_grad():
        model.encode_text(torch.ones(1, 3)).sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


def another_parameter(model):
    model.text.bias = nn.Parameter(model.text.bias + 1)


@pytest.mark.parametrize(
    "change", [in_place, past_autograd, in_another_order, fused_step, another_parameter]
)
@torch.no_grad()
def test_weights_that_change_under_an_encoder_change_its_fingerprint(change):
    model = pooling()
    encoder = around(model, tokenize=lengths)
    before = encoder.fingerprint
    assert encoder.fingerprint == before
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    change(model)
    assert encoder.fingerprint == around(model, tokenize=lengths).fingerprint != before
    model.load_state_dict(kept)
    assert encoder.fingerprint == before
    model.logit_scale.fill_(math.log(30.0))
    assert encoder.logit_scale == pytest.approx(30)


@pytest.mark.parametrize("kind", [torch.uint8, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("start", [0, 1])
def test_a_buffer_of_any_kind_and_place_is_watched(kind, start):
    model = pooling()
    model.register_buffer("odd", torch.ones(12, dtype=kind)[start : start + 5], persistent=False)
    encoder = around(model, tokenize=lengths)
    before = encoder.fingerprint
    model.odd.data[4] = 2
    assert encoder.fingerprint != before


@dataclass
class Options:
    width: int


SETTINGS = [
    *([0, 1], [2, 3], {"a": 1}, {"a": 2}, {"a"}, {"b"}, (0,), (1,)),
    *(torch.relu, torch.tanh, nn.functional.gelu, math.sin, nn.ReLU, nn.Tanh),
    *(partial(torch.add, alpha=1), partial(torch.add, alpha=2), Options(1), Options(2)),
    *(torch.tensor([1]), torch.tensor([2]), np.array([1]), np.array([2]), [nn.ReLU()]),
    *([nn.Parameter(torch.ones(1))], [nn.Parameter(torch.zeros(1))], [[1], {"a": [torch.relu]}]),
    *([[1], {"a": [torch.tanh]}], None, "mean", 1, 1.5, torch.float16, torch.bfloat16),
]


@pytest.mark.slow
def test_whatever_a_module_is_told_is_in_its_fingerprint():
    models = []
    for name in ("given", "_given"):
        for value in SETTINGS:
            models.append(pooling())
            setattr(models[-1], name, value)
    for scale in (1.0, 2.0):
        models.append(pooling())
        models[-1].register_buffer("scale", torch.tensor(scale), persistent=False)
    fingerprints = [around(model, tokenize=lengths).fingerprint for model in models]
    assert len(set(fingerprints)) == len(fingerprints)
    again = [around(model, tokenize=lengths).fingerprint for model in models]
    assert again == fingerprints


def test_a_run_and_its_model_by_hand_are_one(tmp_path):
    torch.manual_seed(0)
    Towers(replace(SMALL, logit_scale=math.log(10))).export(tmp_path / "model")
    run = load_encoder(str(tmp_path))
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    shown = model.visual.preprocess_cfg
    hand = around(model, mean=shown["mean"], std=shown["std"])
    assert torch.equal(run.encode_image(pictures()), hand.encode_image(pictures()))
    assert torch.equal(run.encode_text(TEXTS), hand.encode_text(TEXTS))
    assert run.logit_scale == hand.logit_scale == pytest.approx(10)


def rewritten(folder, **changes):
    """The encoder of a run whose configuration says otherwise."""
    path = folder / "model" / "open_clip_config.json"
    kept = path.read_text()
    config = json.loads(kept)
    for key, value in changes.items():
        config[key] |= value
    path.write_text(json.dumps(config))
    try:
        return load_encoder(str(folder))
    finally:
        path.write_text(kept)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    Towers(SMALL).export(folder / "model")
    return folder


def test_the_preprocessing_of_the_configuration_is_the_view(run):
    asked = {"resize_mode": "longest", "interpolation": "bilinear", "fill_color": 3}
    encoder = rewritten(run, preprocess_cfg=asked)
    assert encoder.view == View(32, "longest", "bilinear", 3)
    other = rewritten(run, preprocess_cfg={"interpolation": "random"})
    assert other.view == View(32)
    assert other.fingerprint == load_encoder(str(run)).fingerprint != encoder.fingerprint


def test_the_activation_of_the_configuration_is_in_the_fingerprint(run):
    plain, quick = load_encoder(str(run)), rewritten(run, model_cfg={"quick_gelu": True})
    assert plain.fingerprint != quick.fingerprint
    assert not torch.allclose(plain.encode_image(pictures()), quick.encode_image(pictures()))


@pytest.mark.parametrize(
    ("preprocessing", "says"),
    [
        ({"resize_mode": "crop"}, "resizes pictures by 'crop' and 'bicubic'; known are"),
        ({"interpolation": "nearest"}, "by 'shortest' and 'nearest'"),
    ],
)
def test_a_view_nobody_has_is_one_sentence(run, preprocessing, says):
    with pytest.raises(InputError, match=says):
        rewritten(run, preprocess_cfg=preprocessing)


def test_pictures_that_are_not_square_are_refused(tmp_path):
    vision = VIT | {"image_size": [32, 48]}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.save(CLIP(**config).state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match=r"takes pictures of 32 x 48; .* square"):
        load_encoder(str(tmp_path))
