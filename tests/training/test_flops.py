"""FLOPs against the sum written out by hand and open_clip's own numbers; peaks by GPU names."""

import pytest
import torch
from small_towers import SMALL

from winnow.models import CustomTowers, NamedTowers, TimmImageTower
from winnow.models.towers import Towers
from winnow.training.flops import (
    forward_flops,
    forward_flops_by_tokens,
    peak_flops,
    peak_flops_of,
)


def transformer(tokens, width, layers):
    """Query, key, value and output; MLP four times as wide; scores and their sums."""
    weights = 4 * width * width + 2 * 4 * width * width
    return layers * (2 * tokens * weights + 2 * 2 * tokens * tokens * width)


def vit_pair(*, side, patch, image_width, layers, tokens, text_width, text_layers, embed):
    patches = (side // patch) ** 2
    image = 2 * patches * 3 * patch * patch * image_width
    image += transformer(patches + 1, image_width, layers) + 2 * image_width * embed
    return image + transformer(tokens, text_width, text_layers) + 2 * text_width * embed


def test_a_small_pair_costs_what_its_matrix_products_cost():
    expected = vit_pair(
        side=16,
        patch=8,
        image_width=32,
        layers=1,
        tokens=8,
        text_width=32,
        text_layers=1,
        embed=16,
    )
    assert forward_flops(Towers(SMALL)) == expected


@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_shorter_captions_cost_what_their_matrix_products_cost(tokens):
    expected = vit_pair(
        side=16,
        patch=8,
        image_width=32,
        layers=1,
        tokens=tokens,
        text_width=32,
        text_layers=1,
        embed=16,
    )
    assert forward_flops(Towers(SMALL), tokens) == expected
    assert forward_flops_by_tokens(Towers(SMALL))(tokens) == pytest.approx(expected, rel=1e-9)


def test_counting_leaves_the_towers_as_they_were():
    towers = Towers(CustomTowers(image=TimmImageTower(name="resnet10t", image_size=32))).eval()
    before = {name: value.clone() for name, value in towers.state_dict().items()}
    assert forward_flops(towers.train()) == forward_flops(towers.eval()) > 0
    after = towers.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


# docs/model_profile.csv of open_clip gives 14.78, 41.09 and 18.18 GFLOPs.
@pytest.mark.parametrize(
    ("name", "giga"), [("ViT-B-32", 14.78), ("ViT-B-16", 41.09), ("RN50", 18.18)]
)
def test_named_models_cost_what_open_clip_says(name, giga):
    with torch.device("meta"):
        towers = Towers(NamedTowers(name=name))
    assert forward_flops(towers) / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA H200", "bf16", 989.5),
        ("NVIDIA H200", "fp32", 67),
        ("NVIDIA H200 NVL", "bf16", 835.5),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H100 PCIe", "fp16", 756),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("NVIDIA A100-PCIE-40GB", "bf16", 312),
        ("Tesla V100-PCIE-16GB", "fp16", 112),
        ("Tesla V100-SXM2-32GB", "fp16", 125),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA GH200 480GB", "bf16", 989.5),
        ("NVIDIA L40S", "bf16", 362),
    ],
)
def test_peaks_are_the_data_sheets(name, precision, tera):
    assert peak_flops_of(name, precision) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA H200 MIG 1g.18gb", "bf16"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16"),
        ("NVIDIA GeForce RTX 3090 Ti", "bf16"),
        ("NVIDIA A10G", "bf16"),
        ("Tesla V100-SXM2-32GB", "bf16"),
        ("Some GPU of 2031", "bf16"),
    ],
)
def test_what_is_not_known_has_no_peak(name, precision):
    assert peak_flops_of(name, precision) is None


def test_a_cpu_has_no_peak():
    assert peak_flops(torch.device("cpu"), "fp32") is None


def test_fp32_may_be_tf32():
    torch.set_float32_matmul_precision("high")
    try:
        assert peak_flops_of("NVIDIA A100-SXM4-80GB", "fp32") == 156e12
    finally:
        torch.set_float32_matmul_precision("highest")
    assert peak_flops_of("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
