"""Random weights in the layouts of the published checkpoints, against a forward pass spelt out."""

import dataclasses
import pickle
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from winnow.data.images import View
from winnow.models.checkpoints import architecture_of
from winnow.models.encoder import load_encoder
from winnow.types import InputError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXTS = ["a photo of a dog", "two red apples on a table"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """As DiHT's model_zoo_configs have it."""

    embed: int
    layers: int
    width: int
    patch: int
    image: int
    text_width: int
    text_layers: int = 12


TINY = Shape(embed=24, layers=2, width=128, patch=8, image=32, text_width=64, text_layers=2)
DIHT = {
    "vitb32_224px": Shape(embed=512, layers=12, width=768, patch=32, image=224, text_width=512),
    "vitb16_224px": Shape(embed=512, layers=12, width=768, patch=16, image=224, text_width=512),
    "vitl14_224px": Shape(embed=768, layers=24, width=1024, patch=14, image=224, text_width=768),
    "vitl14_336px": Shape(embed=768, layers=24, width=1024, patch=14, image=336, text_width=768),
}


def weights(shape, device="cpu"):
    """The names of a transformer's checkpoint, by hand, and random values."""
    generator = torch.Generator().manual_seed(0)

    def random(*size):
        if device == "meta":
            return torch.empty(size, device="meta")
        return torch.randn(size, generator=generator) * size[-1] ** -0.5

    patches = (shape.image // shape.patch) ** 2
    state = {
        "logit_scale": torch.tensor(3.0),
        "token_embedding.weight": random(49_408, shape.text_width),
        "positional_embedding": random(77, shape.text_width),
        "text_projection": random(shape.text_width, shape.embed),
        "visual.class_embedding": random(shape.width),
        "visual.positional_embedding": random(patches + 1, shape.width),
        "visual.conv1.weight": random(shape.width, 3, shape.patch, shape.patch),
        "visual.proj": random(shape.width, shape.embed),
    }
    norms = {
        "ln_final": shape.text_width,
        "visual.ln_pre": shape.width,
        "visual.ln_post": shape.width,
    }
    for tower, width, layers in (
        ("", shape.text_width, shape.text_layers),
        ("visual.", shape.width, shape.layers),
    ):
        for layer in range(layers):
            block = f"{tower}transformer.resblocks.{layer}."
            state |= {
                f"{block}attn.in_proj_weight": random(3 * width, width),
                f"{block}attn.in_proj_bias": random(3 * width),
                f"{block}attn.out_proj.weight": random(width, width),
                f"{block}attn.out_proj.bias": random(width),
                f"{block}mlp.c_fc.weight": random(4 * width, width),
                f"{block}mlp.c_fc.bias": random(4 * width),
                f"{block}mlp.c_proj.weight": random(width, 4 * width),
                f"{block}mlp.c_proj.bias": random(width),
            }
            norms |= {f"{block}ln_1": width, f"{block}ln_2": width}
    for name, width in norms.items():
        state |= {f"{name}.weight": 1 + random(width), f"{name}.bias": random(width)}
    return state


def norm(state, name, x):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return layer_norm(x, weight.shape, weight, bias)


def blocks(state, prefix, layers, x_BTW, activation, *, causal):
    for layer in range(layers):
        block = {
            name.removeprefix(f"{prefix}transformer.resblocks.{layer}."): value
            for name, value in state.items()
        }
        qkv = norm(block, "ln_1", x_BTW) @ block["attn.in_proj_weight"].T
        heads = [
            part.unflatten(-1, (-1, 64)).transpose(1, 2)
            for part in (qkv + block["attn.in_proj_bias"]).chunk(3, dim=-1)
        ]
        seen = scaled_dot_product_attention(*heads, is_causal=causal).transpose(1, 2).flatten(2)
        x_BTW = x_BTW + seen @ block["attn.out_proj.weight"].T + block["attn.out_proj.bias"]
        inner = norm(block, "ln_2", x_BTW) @ block["mlp.c_fc.weight"].T + block["mlp.c_fc.bias"]
        x_BTW = x_BTW + activation(inner) @ block["mlp.c_proj.weight"].T
        x_BTW = x_BTW + block["mlp.c_proj.bias"]
    return x_BTW


def image_features(state, shape, activation, image_BCHW):
    """What the papers' code does with a picture, spelt out."""
    pixels = (image_BCHW / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    patches = torch.nn.functional.unfold(pixels, shape.patch, stride=shape.patch).transpose(1, 2)
    x = patches @ state["visual.conv1.weight"].flatten(1).T
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + state["visual.positional_embedding"]
    x = norm(state, "visual.ln_pre", x)
    x = blocks(state, "visual.", shape.layers, x, activation, causal=False)
    return norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def text_features(state, shape, activation, token_BT):
    """What the papers' code does with a caption, spelt out."""
    x = state["token_embedding.weight"][token_BT] + state["positional_embedding"]
    x = blocks(state, "", shape.text_layers, x, activation, causal=True)
    x = norm(state, "ln_final", x)
    return x[torch.arange(len(x)), token_BT.argmax(dim=-1)] @ state["text_projection"]


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def pictures(size):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("kind", "activation"), [("openai", quick_gelu), ("diht", gelu)])
def test_a_checkpoint_gives_the_features_of_its_paper(kind, activation, tmp_path):
    state, image_BCHW = weights(TINY), pictures(32)
    torch.save(state, tmp_path / "weights.ckpt")
    encoder = load_encoder(f"{kind}:{tmp_path / 'weights.ckpt'}")
    assert encoder.view == View(32)
    assert encoder.logit_scale == pytest.approx(torch.tensor(3.0).exp().item())
    expected = image_features(state, TINY, activation, image_BCHW)
    torch.testing.assert_close(encoder.encode_image(image_BCHW), expected, rtol=1e-4, atol=1e-5)
    tokens = open_clip.SimpleTokenizer(context_length=77)(TEXTS)
    expected = text_features(state, TINY, activation, tokens)
    torch.testing.assert_close(encoder.encode_text(TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_the_activation_is_part_of_the_fingerprint_and_of_the_features(tmp_path):
    torch.save(weights(TINY), tmp_path / "weights.pt")
    clip, diht = (load_encoder(f"{kind}:{tmp_path / 'weights.pt'}") for kind in ("openai", "diht"))
    assert clip.fingerprint != diht.fingerprint
    difference = clip.encode_image(pictures(32)) - diht.encode_image(pictures(32))
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{name}": v for name, v in state.items()}},
        lambda state: state | {"input_resolution": torch.tensor(32)},
    ],
    ids=["checkpoint", "ddp", "extras"],
)
def test_the_weights_are_found_where_trainers_put_them(wrapped, tmp_path):
    state = weights(TINY)
    torch.save(state, tmp_path / "plain.pt")
    torch.save(wrapped(state), tmp_path / "wrapped.pt")
    plain, found = (load_encoder(f"diht:{tmp_path / n}.pt") for n in ("plain", "wrapped"))
    assert found.fingerprint == plain.fingerprint


def test_half_precision_weights_are_computed_with_in_float32(tmp_path):
    state = weights(TINY)
    halves = {name: value.half() for name, value in state.items()}
    torch.save(halves, tmp_path / "half.pt")
    encoder = load_encoder(f"openai:{tmp_path / 'half.pt'}")
    rounded = {name: value.float() for name, value in halves.items()}
    expected = image_features(rounded, TINY, quick_gelu, pictures(32))
    torch.testing.assert_close(encoder.encode_image(pictures(32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "vision",
    [
        {"layers": 2, "width": 128, "patch_size": 8, "image_size": 32},
        {"layers": [1, 2, 1, 1], "width": 8, "image_size": 64},
    ],
    ids=["transformer", "resnet"],
)
def test_a_torchscript_archive_is_the_same_model(vision, tmp_path):
    """As OpenAI publishes: traced, in an archive that holds three numbers besides."""
    text = {"width": 64, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    model = open_clip.CLIP(24, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    size = vision["image_size"]
    for name, value in {"input_resolution": size, "context_length": 77, "vocab_size": 9}.items():
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    inputs = torch.zeros(2, 3, size, size), torch.zeros(2, 77, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, inputs, check_trace=False), tmp_path / "archive.pt")
    plain, archive = (load_encoder(f"openai:{tmp_path / n}.pt") for n in ("plain", "archive"))
    assert archive.fingerprint == plain.fingerprint
    torch.testing.assert_close(archive.encode_text(TEXTS), plain.encode_text(TEXTS))
    assert archive.view == View(size)


@pytest.mark.parametrize("name", DIHT)
def test_diht_s_architectures_are_told_from_their_shapes(name):
    shape = DIHT[name]
    config = architecture_of(weights(shape, device="meta"), Path("x.ckpt"))
    assert config == {
        "embed_dim": shape.embed,
        "vision_cfg": {
            "layers": shape.layers,
            "width": shape.width,
            "head_width": 64,
            "patch_size": shape.patch,
            "image_size": shape.image,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49_408,
            "width": shape.text_width,
            "heads": shape.text_width // 64,
            "layers": 12,
        },
    }


@pytest.mark.parametrize(
    "name",
    [
        *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
        *("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"),
    ],
)
def test_openai_s_architectures_are_told_from_their_shapes(name):
    known = open_clip.get_model_config(f"{name}-quickgelu")
    known["vision_cfg"] = {"head_width": 64} | known["vision_cfg"]
    known["vision_cfg"] = {k: v for k, v in known["vision_cfg"].items() if v is not None}
    with torch.device("meta"):
        state = open_clip.CLIP(**known).state_dict()
    assert architecture_of(state, Path("x.pt")) | {"quick_gelu": True} == known


@pytest.mark.slow
def test_a_vit_b_32_of_diht_loads(tmp_path):
    shape = DIHT["vitb32_224px"]
    state, image_BCHW = weights(shape), pictures(224)
    torch.save(state, tmp_path / "diht_vitb32_224px.ckpt")
    encoder = load_encoder(f"diht:{tmp_path / 'diht_vitb32_224px.ckpt'}")
    hidden_BH, projected_BD = encoder.encode_image_stages(image_BCHW)
    assert (hidden_BH.shape, projected_BD.shape) == ((3, 768), (3, 512))
    expected = image_features(state, shape, gelu, image_BCHW)
    torch.testing.assert_close(projected_BD, expected, rtol=1e-3, atol=1e-4)


def without(*names):
    return {name: value for name, value in weights(TINY).items() if name not in names}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"vision_model.embeddings.x": torch.zeros(2)}, "it has vision_model.embeddings.x, but no"),
        (without("visual.proj"), "but no visual.proj"),
        (without("visual.ln_pre.bias"), r"not quite: .*visual\.ln_pre\.bias"),
        ([torch.zeros(2)], "no state dict but a list"),
        ({"epoch": 3}, "no state dict but epoch"),
        ({0: torch.zeros(2)}, "no state dict but 0"),
        ({}, "it has nothing, but no"),
        (weights(TINY) | {"visual.positional_embedding": torch.zeros(13, 128)}, "no square"),
    ],
    ids=["layout", "no projection", "one lacks", "list", "numbers", "rows", "none", "not square"],
)
def test_what_is_no_such_checkpoint_says_what_it_is(content, says, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=says) as error:
        load_encoder(f"openai:{path}")
    assert str(path) in str(error.value) and len(str(error.value)) < 500


class Call:
    """What a hostile file would run."""

    def __reduce__(self):
        return open, ("ran", "w")


def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_in_it_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no checkpoint at nowhere"):
        load_encoder("diht:nowhere.pt")
    hostile = pickle.dumps({"logit_scale": Call()}, 2)
    for content, says in (
        (b"", "it is empty: fetch it again"),
        (b"<html>404</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"junk", "it is no file that torch saved"),
        (b"0", "it is no file that torch saved"),
        (b"PK\3\4" + bytes(99), "it is no file that torch saved, or a damaged one"),
        (hostile, "holds a _?io.open, which is no weight"),
    ):
        Path("weights.pt").write_bytes(content)
        with pytest.raises(InputError, match=f"cannot be read as weights.*{says}") as error:
            load_encoder("diht:weights.pt")
        assert "weights_only" not in str(error.value)
    assert not Path("ran").exists()
