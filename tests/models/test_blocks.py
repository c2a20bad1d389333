"""Blocks and layers of several towers; recomputing and compiling changes nothing but the cost."""

import shutil
from collections import Counter
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from winnow.models import (
    CustomTowers,
    NamedTowers,
    TextTransformer,
    TimmImageTower,
    VisionTransformer,
)
from winnow.models.layers import image_layers, image_parameters, text_layers, text_parameters
from winnow.models.locking import FineTuning, lock
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=32, patch_size=8, width=32, head_width=16, layers=3),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=2),
)


def with_timm(name):
    return replace(SMALL, image=TimmImageTower(name=name, image_size=32))


@pytest.fixture
def small_resnet(monkeypatch):
    """open_clip's RN50, of 5 blocks."""
    config = open_clip.get_model_config("RN50")
    config["vision_cfg"].update(layers=[2, 1, 1, 1], width=16, image_size=32)
    config["text_cfg"] = SMALL.text.open_clip_config()
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config)
    return NamedTowers(name="RN50")


def built(config):
    torch.manual_seed(0)
    return Towers(config).train()


def gradients(towers):
    generator = torch.Generator().manual_seed(1)
    side = towers.image_size
    picture = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=generator)
    found = towers(picture, towers.tokenize([f"thing {index}" for index in range(4)]))
    target = torch.randn(found.image_BD.shape, generator=generator)
    ((found.image_BD * target).sum() + (found.text_BD * target.flip(0)).sum()).backward()
    return {name: p.grad for name, p in towers.named_parameters() if p.grad is not None}


def covered(towers):
    """Kinds of the blocks, and which share of either tower's weights they hold; none twice."""
    blocks = towers.blocks()
    inside = [id(p) for block in blocks for p in block.parameters()]
    assert len(inside) == len(set(inside))
    of_image = [p for name, p in towers.clip.named_parameters() if name.startswith("visual.")]
    share = sum(p.numel() for p in of_image if id(p) in set(inside))
    kinds = Counter(type(block).__name__ for block in blocks)
    return kinds, share / sum(p.numel() for p in of_image)


@pytest.mark.parametrize(
    ("name", "kinds", "share"),
    [
        ("test_vit", {"Block": 6}, 0.7),
        ("resnet18", {"BasicBlock": 8}, 0.99),
        ("test_convnext", {"ConvNeXtBlock": 9}, 0.7),
        ("fastvit_t8", {"RepMixerBlock": 10}, 0.9),
        ("swin_tiny_patch4_window7_224", {"SwinTransformerBlock": 12}, 0.9),
    ],
)
def test_timm_towers_have_their_residual_blocks(name, kinds, share):
    found, held = covered(built(with_timm(name)))
    assert found["ResidualAttentionBlock"] == 2
    assert {kind: found[kind] for kind in kinds} == kinds and held > share


def test_open_clips_transformers_have_theirs_in_the_order_they_run_in():
    towers = built(SMALL)
    expected = [*towers.clip.visual.transformer.resblocks, *towers.clip.transformer.resblocks]
    assert len(expected) == 5
    assert all(a is b for a, b in zip(towers.blocks(), expected, strict=True))


def test_open_clips_resnets_have_their_bottlenecks(small_resnet):
    kinds, share = covered(built(small_resnet))
    assert kinds == {"Bottleneck": 5, "ResidualAttentionBlock": 2} and share > 0.2


@pytest.mark.parametrize("unlocked", range(6))
def test_the_layers_of_transformers_are_those_that_open_clip_locks(unlocked):
    ours, theirs = built(SMALL), built(SMALL)
    of_text = min(unlocked, 4)
    # open_clip counts what is unlocked, from the top; 0 of it is everything locked.
    theirs.clip.lock_image_tower(unlocked_groups=unlocked)
    theirs.clip.lock_text_tower(unlocked_layers=of_text)
    image, text = image_layers(ours.clip), text_layers(ours.clip)
    assert (len(image), len(text)) == (5, 4)
    locked = {n for layer in image[: 5 - unlocked] + text[: 4 - of_text] for n in layer}
    expected = {n for n, p in theirs.clip.named_parameters() if not p.requires_grad}
    assert locked == expected and (unlocked or expected)


@pytest.mark.parametrize("unlocked", [1, 2, 5])
def test_the_layers_of_timm_trunks_are_those_that_open_clip_locks(unlocked):
    ours, theirs = built(with_timm("test_vit")), built(with_timm("test_vit"))
    lock(ours, FineTuning(lock_image=str(-1 - unlocked)))
    # Above the trunk, which open_clip counts, there is the projection.
    theirs.clip.lock_image_tower(unlocked_groups=unlocked)
    frozen = [
        {n for n, p in one.clip.named_parameters() if not p.requires_grad} for one in (ours, theirs)
    ]
    assert frozen[0] == frozen[1] != set()


def test_every_parameter_is_in_one_layer(small_resnet):
    for config in (SMALL, with_timm("resnet18"), small_resnet):
        clip = built(config).clip
        for layers, every in (
            (image_layers(clip), image_parameters(clip)),
            (text_layers(clip), text_parameters(clip)),
        ):
            assert sorted(name for layer in layers for name in layer) == sorted(every)
    assert len(image_layers(built(small_resnet).clip)) == 6


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"lock_image": "some"}, "must be `none`, `all` or a number"),
        ({"lock_image": "all", "lock_text": "all"}, "only the temperature would learn"),
        ({"image_layer_decay": 0.0}, "above 0 and at most 1"),
        ({"text_layer_decay": 1.5}, "above 0 and at most 1"),
    ],
)
def test_fine_tuning_that_makes_no_sense_is_refused(config, says):
    with pytest.raises(InputError, match=says):
        FineTuning(**config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"lock_image": "6"}, "lock_image is 6, and the image tower has 5 layers"),
        ({"lock_text": "-5"}, "lock_text is -5, and the text tower has 4 layers"),
        ({"lock_image": "5", "lock_text": "4"}, "every layer of both towers is locked"),
    ],
)
def test_layers_that_there_are_not_cannot_be_locked(config, says):
    with pytest.raises(InputError, match=says):
        lock(built(SMALL), FineTuning(**config))


@pytest.mark.parametrize("name", [None, "test_vit", "test_convnext"])
def test_recomputed_activations_give_the_same_gradients_bit_for_bit(name):
    config = SMALL if name is None else with_timm(name)
    expected = gradients(built(config))
    towers = built(config)
    towers.set_gradient_checkpointing()
    ran = Counter()
    for block in towers.blocks():
        block.register_forward_pre_hook(lambda module, *_: ran.update([id(module)]))
    found = gradients(towers)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert max(ran.values()) == 2  # once more on the way back


def test_towers_that_cannot_recompute_say_so(small_resnet):
    with pytest.raises(InputError, match="open_clip's ResNets cannot recompute"):
        built(small_resnet).set_gradient_checkpointing()
    with pytest.raises(InputError, match="count every batch twice"):
        built(with_timm("resnet18")).set_gradient_checkpointing()
    towers = built(with_timm("dla34"))
    lock(towers, FineTuning(lock_image="-1"))  # without statistics to count
    with pytest.raises(InputError, match="timm's DLA cannot recompute"):
        towers.set_gradient_checkpointing()


def test_what_is_locked_needs_not_be_recomputed(small_resnet):
    towers = built(small_resnet)
    lock(towers, FineTuning(lock_image="all"))
    towers.set_gradient_checkpointing()
    assert towers.clip.transformer.grad_checkpointing


def test_without_a_compiler_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        built(SMALL).compile_towers()


@pytest.mark.slow
def test_compiled_towers_give_the_same_gradients_to_rounding_and_the_same_names():
    expected = gradients(built(SMALL))
    towers = built(SMALL)
    names = list(towers.state_dict())
    towers.compile_towers()
    found = gradients(towers)
    assert list(towers.state_dict()) == names
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_other_weights_than_its_own_are_exported_by_their_names(tmp_path):
    towers = built(replace(SMALL, logit_bias=-3.0))
    state = {name: value + 1 for name, value in towers.clip.state_dict().items()}
    towers.export(tmp_path, state)
    written = load_file(tmp_path / "open_clip_model.safetensors")
    assert written.keys() == state.keys()
    assert written["logit_bias"].shape == () and written["logit_bias"] == -2.0
    assert torch.equal(written["visual.proj"], towers.clip.visual.proj.detach() + 1)
