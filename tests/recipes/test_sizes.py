"""The recipes of known data sets: a method apart, as documented, and as the page has them."""

import re
from pathlib import Path

import pytest

from winnow.config import differences
from winnow.objectives import ConceptDistillation, InfoNCE
from winnow.recipes.sizes import METHODS, SIZED_RECIPES, SIZES, sized_recipe
from winnow.recipes.train import list_recipes
from winnow.recipes.training import RECIPES
from winnow.training.capacity import training_flops

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "recipes.md"

PROFILE = {"RN50": 18.18, "RN50-quickgelu": 18.18}
PROFILE |= {"ViT-B-32": 14.78, "ViT-B-16": 41.09, "ViT-L-14": 175.33}
"""GFLOPs of a forward pass through both towers, as docs/model_profile.csv of open_clip has them."""

PEAK, UTILISATION = 989.5e12, 0.3
"""What the page assumes: an H100's dense bf16 peak, and the share of it that is used."""


@pytest.mark.parametrize("size", SIZES)
def test_methods_of_a_size_differ_in_the_method_alone(size):
    clip, psd, diht = (sized_recipe(method, size) for method in METHODS)
    assert isinstance(clip.objective, InfoNCE) and clip.concept_distillation is None
    changed = {line.partition(":")[0].partition(".")[0] for line in differences(clip, psd)}
    assert changed == {"objective"}
    changed = {line.partition(":")[0].partition(".")[0] for line in differences(clip, diht)}
    assert changed == {"objective", "concept_distillation"}
    assert diht.concept_distillation == ConceptDistillation()


DOCUMENTED = {
    # model, batch, learning rate, decay, beta2, epsilon, warm-up, samples seen
    "cc3m": ("RN50", 1024, 1e-3, 0.1, 0.999, 1e-8, 10_000, 30 * 2_905_954),
    "cc12m": ("RN50-quickgelu", 1024, 5e-4, 0.1, 0.999, 1e-8, 10_000, 32 * 10_062_127),
    "datacomp_small": ("ViT-B-32", 4096, 5e-4, 0.2, 0.98, 1e-6, 500, 12_800_000),
    "datacomp_medium": ("ViT-B-32", 4096, 5e-4, 0.2, 0.98, 1e-6, 500, 128_000_000),
    "datacomp_large": ("ViT-B-16", 8192, 5e-4, 0.2, 0.98, 1e-6, 500, 1_280_000_000),
    "datacomp_xlarge": ("ViT-L-14", 90_112, 1e-3, 0.2, 0.95, 1e-6, 10_000, 12_800_000_000),
}


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_what_its_source_documents(size):
    recipe = SIZES[size].baseline()
    optimizer = recipe.optimizer
    numbers = (optimizer.learning_rate, optimizer.weight_decay, optimizer.beta2, optimizer.epsilon)
    *documented, samples = DOCUMENTED[size]
    assert [recipe.model.name, recipe.batch_size, *numbers, optimizer.warmup_steps] == documented
    assert samples - recipe.batch_size < recipe.steps * recipe.batch_size <= samples
    assert optimizer.max_gradient_norm == float("inf")


def test_every_method_at_every_size_has_a_name_and_is_listed():
    assert len(SIZED_RECIPES) == 18
    assert SIZED_RECIPES.items() <= RECIPES.items()
    assert RECIPES["psd_cc12m"]() == sized_recipe("psd", "cc12m")
    listed = list_recipes(RECIPES)
    assert [name for name in RECIPES if not re.search(rf"\b{name}\b", listed)] == []
    assert (
        listed.index("  tiny ") < listed.index("clip_cc3m") < listed.index("diht_datacomp_xlarge")
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_page_has_the_numbers_of_the_code(size):
    """Model, batch, steps, samples, GFLOPs of a pair in training, EFLOPs of the run, GPU-hours."""
    recipe = SIZES[size].baseline()
    flops = training_flops(recipe)
    assert flops / 3e9 == pytest.approx(PROFILE[recipe.model.name], abs=0.01)
    samples = recipe.steps * recipe.batch_size
    hours = samples * flops / (PEAK * UTILISATION) / 3600
    row = [
        recipe.model.name,
        f"{recipe.batch_size:,}",
        f"{recipe.steps:,}",
        f"{samples / 1e6:,.1f}",
    ]
    row += [f"{flops / 1e9:.1f}", f"{samples * flops / 1e18:,.2f}", f"{hours:,.0f}"]
    assert f"| `{size}` | {' | '.join(row)} |" in PAGE.read_text()


def test_the_page_has_the_optimizer_of_the_code():
    text = PAGE.read_text()
    for size in SIZES:
        own = SIZES[size].baseline().optimizer
        numbers = (own.learning_rate, own.weight_decay, own.beta2, own.epsilon)
        row = [*(f"{number:g}" for number in numbers), f"{own.warmup_steps:,}"]
        assert f"| `{size}` | {' | '.join(row)} |" in text
