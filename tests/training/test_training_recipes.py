"""Every recipe and every objective: saved and loaded back, and trained a few steps."""

import json
import math
import typing
from dataclasses import replace

import pytest
import torch
from small_towers import SMALL

from winnow.config import as_dict, from_dict, to_json
from winnow.data.batch import Batch, caption_ids
from winnow.models import NamedTowers
from winnow.models.towers import Towers
from winnow.objectives import HardNegativeNCE, HardNegativeSelfDistillation, SigLIP
from winnow.recipes.sizes import SIZED_RECIPES
from winnow.recipes.training import RECIPES
from winnow.training.mask import Mask
from winnow.training.optimizer import AdamW, build_optimizer
from winnow.training.parallel import autocast
from winnow.training.recipe import Objective, Recipe
from winnow.training.refusals import warn_of_sigmoids_without_bias
from winnow.training.step import training_step


def loaded_back(recipe):
    return from_dict(Recipe, json.loads(to_json(recipe)), where="here")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_loads_back_as_it_was_saved(name):
    recipe = RECIPES[name]()
    assert loaded_back(recipe) == recipe


@pytest.mark.parametrize("kind", typing.get_args(Objective), ids=lambda kind: kind.__name__)
def test_an_objective_is_told_from_the_others_by_its_name(kind):
    """InfoNCE and SigLIP have no fields that could tell them apart."""
    recipe = replace(RECIPES["tiny"](), objective=kind())
    assert as_dict(recipe)["objective"]["kind"] == kind.__name__
    assert loaded_back(recipe) == recipe and type(loaded_back(recipe).objective) is kind


def test_what_was_set_deep_inside_loads_back():
    objective = HardNegativeSelfDistillation(negatives=HardNegativeNCE(alpha=0.9, beta=0.5))
    model = replace(SMALL, logit_scale=2.0, logit_bias=-3.0)
    recipe = replace(
        RECIPES["tiny"](), objective=objective, model=model, mask=Mask(same_caption=True)
    )
    assert loaded_back(recipe) == recipe


def test_a_recipe_saved_before_masks_and_biases_loads_as_it_was_meant():
    values = as_dict(RECIPES["clip"]())
    del values["mask"], values["model"]["logit_scale"], values["model"]["logit_bias"]
    assert from_dict(Recipe, values, where="here") == RECIPES["clip"]()


def test_recipes_differ_from_clip_in_what_they_say_they_do():
    clip = RECIPES["clip"]()
    for name in ("psd", "hn_nce", "hn_psd", "siglip"):
        recipe = RECIPES[name]()
        assert type(recipe.objective) is not type(clip.objective)
        assert replace(recipe, objective=clip.objective, model=clip.model) == clip
        assert (recipe.model == clip.model) is (name != "siglip")
    model = RECIPES["siglip"]().model
    assert isinstance(model, NamedTowers)
    config = model.open_clip_config()
    assert math.exp(config["init_logit_scale"]) == pytest.approx(10)
    assert config["init_logit_bias"] == -10


def small(recipe):
    """Its objective on small towers that start from its scale and bias."""
    model = replace(SMALL, logit_scale=recipe.model.logit_scale, logit_bias=recipe.model.logit_bias)
    return replace(recipe, model=model)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(RECIPES.keys() - SIZED_RECIPES.keys()))
def test_every_recipe_learns_one_batch(name, precision):
    recipe, steps = small(RECIPES[name]()), 30
    torch.manual_seed(0)
    towers = Towers(recipe.model).train()
    optimizer = build_optimizer(towers, AdamW(learning_rate=3e-3))
    image = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    text, ids = towers.tokenize([f"thing {i}" for i in range(16)]), torch.arange(16)
    rows = [
        training_step(
            towers,
            optimizer,
            Batch(image, text, ids, ids, caption_id_B=caption_ids(text), image_id_B=None),
            rule=recipe.objective,
            mask=recipe.mask,
            step=step,
            progress=step / (steps - 1),
            seed=recipe.seed,
            micro_batches=1,
            max_gradient_norm=recipe.optimizer.max_gradient_norm,
            precision=autocast(precision, torch.device("cpu")),
        ).row()
        for step in range(steps)
    ]
    assert all(math.isfinite(number) for row in rows for number in row.values())
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    # Before anything is learnt every pair is as likely as another; afterwards the own one is.
    assert rows[-1]["rank_1_image_to_text"] > 0.6 > 0.3 > rows[0]["rank_1_image_to_text"]
    assert ("bias" in rows[0]) is (name == "siglip")


def test_sigmoids_without_a_bias_do_not_go_unsaid(recwarn):
    warn_of_sigmoids_without_bias(SigLIP(), Towers(replace(SMALL, logit_bias=-10.0)))
    warn_of_sigmoids_without_bias(HardNegativeNCE(), Towers(SMALL))
    assert not recwarn
    with pytest.warns(UserWarning, match=r"--model\.logit-bias -10"):
        warn_of_sigmoids_without_bias(SigLIP(), Towers(SMALL))
