import dataclasses

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg

from winnow.models import CustomTowers, NamedTowers, TextTransformer, TimmImageTower
from winnow.models.exporting import clip_layout
from winnow.models.exporting.source import Source, open_source
from winnow.models.towers import Towers
from winnow.types import InputError

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
TEXT = {"context_length": 8, "width": 32, "heads": 2, "layers": 1, "vocab_size": 49_408}


def source_of(config, **preprocessing):
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT} | config
    built = {name: value for name, value in config.items() if name != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    settings = {"size": config["vision_cfg"].get("image_size", 16)} | preprocessing
    return Source(
        name="m",
        clip=kind(**built),
        tokenize=open_clip.SimpleTokenizer(context_length=8),
        architecture=config,
        preprocessing=PreprocessCfg(**settings),
    )


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"quick_gelu": True},
        {"init_logit_scale": 1.0},
        {"vision_cfg": VISION | {"mlp_ratio": 3.0, "patch_dropout": 0.5, "image_size": [16, 16]}},
        {"vision_cfg": VISION | {"pos_embed_type": "sin_cos_2d", "block_type": "default"}},
        {"text_cfg": TEXT | {"mlp_ratio": 2.0, "eos_id": 49_407}, "custom_text": True},
    ],
)
def test_clip_s_own_architecture_is_held_at_any_size(config):
    assert clip_layout.refusals(source_of(config)) == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"init_logit_bias": -10.0}, "logit_bias: its logits have none"),
        (
            {"vision_cfg": VISION | {"layers": [1, 1, 1, 1], "image_size": 32}},
            "vision_cfg.layers is a list (a ResNet): its image tower is a transformer",
        ),
        (
            {"vision_cfg": VISION | {"pool_type": "avg"}},
            "vision_cfg.pool_type is 'avg': it has 'tok'",
        ),
        (
            {"vision_cfg": VISION | {"no_ln_pre": True}},
            "vision_cfg.no_ln_pre is True: it has False",
        ),
        (
            {"vision_cfg": VISION | {"attentional_pool": True}},
            "vision_cfg.attentional_pool is True: it has False",
        ),
        (
            {"vision_cfg": VISION | {"ls_init_value": 0.1}},
            "vision_cfg.ls_init_value is 0.1: it has None",
        ),
        ({"vision_cfg": VISION | {"qk_norm": True}}, "vision_cfg.qk_norm is True: it has False"),
        (
            {"vision_cfg": VISION | {"norm_kwargs": {"eps": 1e-3}}},
            "vision_cfg.norm_kwargs is {'eps': 0.001}: it has None",
        ),
        (
            {"vision_cfg": VISION | {"image_size": (16, 32)}},
            "vision_cfg.image_size is (16, 32): its pictures are squares",
        ),
        ({"text_cfg": TEXT | {"pool_type": "last"}}, "text_cfg.pool_type is 'last'"),
        ({"text_cfg": TEXT | {"no_causal_mask": True}}, "text_cfg.no_causal_mask is True"),
        ({"text_cfg": TEXT | {"embed_cls": True}}, "text_cfg.embed_cls is True"),
        ({"text_cfg": TEXT | {"proj_bias": True}, "custom_text": True}, "text_cfg.proj_bias"),
        ({"text_cfg": TEXT | {"vocab_size": 50_000}}, "text_cfg.vocab_size is 50000"),
    ],
)
def test_every_field_that_it_cannot_hold_is_named(config, reason):
    (told,) = clip_layout.refusals(source_of(config))
    assert told.startswith(reason)


def test_all_reasons_are_told_at_once():
    vision, text = VISION | {"pool_type": "avg"}, TEXT | {"embed_cls": True}
    source = source_of({"vision_cfg": vision, "text_cfg": text, "init_logit_bias": -10.0})
    told = clip_layout.refusals(source)
    assert [one.partition(" ")[0] for one in told] == [
        "vision_cfg.pool_type",
        "text_cfg.embed_cls",
        "logit_bias:",
    ]


def test_what_is_no_part_of_clip_is_refused_by_name():
    source = source_of({})
    decoder = dataclasses.replace(source, architecture=source.architecture | {"multimodal_cfg": {}})
    assert clip_layout.refusals(decoder) == ["multimodal_cfg: it has no such part"]


@pytest.mark.parametrize(
    ("preprocessing", "reason"),
    [({"resize_mode": "longest"}, "resize_mode"), ({"interpolation": "lanczos"}, "interpolation")],
)
def test_views_of_a_picture_that_its_processor_has_not(preprocessing, reason):
    (told,) = clip_layout.refusals(source_of({}, **preprocessing))
    assert told.startswith(f"preprocess_cfg.{reason} is")


def test_a_timm_trunk_is_refused_by_its_name(tmp_path):
    towers = CustomTowers(
        embed_dim=16,
        image=TimmImageTower(name="resnet10t", image_size=32),
        text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
    )
    Towers(towers).export(tmp_path)
    (told,) = clip_layout.refusals(open_source(f"local-dir:{tmp_path}"))
    assert told.startswith("vision_cfg.timm_model_name is 'resnet10t'")


def test_of_open_clip_s_own_architectures_the_plain_ones_are_held():
    """By their configurations alone: no weights are made."""
    held = {}
    for name in ("ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14", "ViT-H-14", "RN50", "convnext_base"):
        config = NamedTowers(name=name).open_clip_config()
        size = config["vision_cfg"].get("image_size", 224)
        clip = torch.nn.Module()
        clip.logit_bias = None
        source = Source(
            name=name,
            clip=clip,
            tokenize=open_clip.SimpleTokenizer(),
            architecture=config,
            preprocessing=PreprocessCfg(size=size),
        )
        held[name] = not clip_layout.refusals(source)
    assert held == {
        "ViT-B-32": True,
        "ViT-B-16-quickgelu": True,
        "ViT-L-14": True,
        "ViT-H-14": True,
        "RN50": False,
        "convnext_base": False,
    }


def test_a_tokenizer_of_a_hub_is_refused(tmp_path, monkeypatch):
    Towers(
        CustomTowers(text=TextTransformer(context_length=8, width=32, heads=2, layers=1))
    ).export(tmp_path)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: len)
    with pytest.raises(InputError, match="reads captions with a tokenizer from a hub"):
        open_source(f"local-dir:{tmp_path}")
