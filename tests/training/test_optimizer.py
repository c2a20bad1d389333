"""What each optimizer does to which parameter, by its formula, and how fast, step by step."""

import math
from dataclasses import replace

import pytest
import torch
import tyro
from open_clip_train import scheduler
from small_towers import SMALL
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from winnow.config import as_dict, from_dict
from winnow.models import TextTransformer, TimmImageTower
from winnow.models.locking import FineTuning
from winnow.models.towers import Towers
from winnow.objectives import ConceptDistillation, ConceptHeads
from winnow.recipes.train import Train
from winnow.recipes.training import clip, lit
from winnow.training.optimizer import AdamW, Muon, build_optimizer, set_learning_rate
from winnow.training.recipe import Recipe
from winnow.types import InputError

OPTIMIZERS = [AdamW(learning_rate=0.01, warmup_steps=0), Muon(learning_rate=0.01, warmup_steps=0)]
names = pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: type(config).__name__)


def towers_with_gradients(config=SMALL, *, seed=0):
    torch.manual_seed(seed)
    towers = Towers(config).train()
    give_gradients(towers, seed=seed)
    return towers


def give_gradients(towers, *, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in towers.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(towers):
    return {name: parameter.detach().clone() for name, parameter in towers.named_parameters()}


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (AdamW(warmup_steps=4), lambda o: scheduler.cosine_lr(o, 1e-3, 4, 20)),
        (AdamW(warmup_steps=0, schedule="constant"), lambda o: scheduler.const_lr(o, 1e-3, 0, 20)),
        (
            Muon(warmup_steps=4, schedule="constant", cooldown_steps=7),
            lambda o: scheduler.const_lr_cooldown(o, 1e-3, 4, 20, 7),
        ),
    ],
    ids=["cosine", "constant", "cooldown"],
)
def test_the_schedules_are_open_clips(config, theirs):
    optimizer = torch.optim.SGD([torch.zeros(1)])
    adjust = theirs(optimizer)
    expected = [adjust(step) for step in range(20)]
    rates = [set_learning_rate(optimizer, config, step=step, steps=20) for step in range(20)]
    assert rates == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == rates[-1]


def test_a_cool_down_ends_one_step_above_nothing():
    config = AdamW(learning_rate=1.0, warmup_steps=2, schedule="constant", cooldown_steps=4)
    assert [config.rate(step, 8) for step in range(8)] == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_muon_orthogonalises_what_is_in_blocks_and_adamw_does_the_rest():
    towers = towers_with_gradients()
    before = weights(towers)
    config = Muon(learning_rate=0.01, warmup_steps=0, weight_decay=0.1, epsilon=1e-6)
    optimizer = build_optimizer(towers, config)
    set_learning_rate(optimizer, config, step=0, steps=1)
    optimizer.step()
    hidden = {id(p) for block in towers.blocks() for p in block.parameters() if p.ndim == 2}
    assert len(hidden) == 8  # attention's two and the two layers above it, in either tower
    for name, parameter in towers.named_parameters():
        decay = 1 - 0.01 * (0.1 if parameter.ndim >= 2 else 0.0)
        step = before[name] * decay - parameter.detach()
        if id(parameter) in hidden:
            length = 0.01 * 0.2 * math.sqrt(max(parameter.shape))
            values = torch.linalg.svdvals(step / length)
            # Newton-Schulz in five steps leaves singular values between these (Jordan 2024).
            assert values.min() > 0.5 and values.max() < 1.3, name
        else:
            gradient = parameter.grad
            expected = 0.01 * gradient / (gradient.abs() + 1e-6)
            torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-6, msg=name)


def test_muons_second_step_is_that_of_torch():
    """torch's own Muon, which iterates in bf16 on the CPU too."""
    towers, config = towers_with_gradients(), OPTIMIZERS[1]
    blocks = [p for block in towers.blocks() for p in block.parameters() if p.ndim == 2]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in blocks]
    ours = build_optimizer(towers, config)
    other = torch.optim.Muon(
        theirs, lr=0.01, weight_decay=0.2, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for seed in (0, 1):
        before = [p.detach().clone() for p in blocks]
        give_gradients(towers, seed=seed)
        for parameter, copied in zip(blocks, theirs, strict=True):
            copied.grad = parameter.grad.clone()
        ours.step()
        other.step()
    for old, parameter, copied in zip(before, blocks, theirs, strict=True):
        assert (parameter - copied).norm() < 0.03 * (parameter - old).norm()


def test_adamw_is_its_formula():
    towers = towers_with_gradients()
    before = weights(towers)
    config = AdamW(learning_rate=0.01, warmup_steps=0, weight_decay=0.1)
    build_optimizer(towers, config).step()
    for name, parameter in towers.named_parameters():
        decay = 1 - 0.01 * (0.1 if parameter.ndim >= 2 else 0.0)
        expected = before[name] * decay - 0.01 * parameter.grad / (parameter.grad.abs() + 1e-6)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6, msg=name)


def test_depthwise_convolutions_stay_with_adamw():
    image = TimmImageTower(name="test_convnext", image_size=32)
    towers = towers_with_gradients(replace(SMALL, image=image))
    optimizer = build_optimizer(towers, OPTIMIZERS[1])
    optimizer.step()
    routes = {}
    for block in towers.blocks():
        for name, parameter in block.named_parameters():
            routes.setdefault(name, set()).update(optimizer.state[parameter])
    assert routes["conv_dw.weight"] == {"step", "exp_avg", "exp_avg_sq"}
    assert routes["mlp.fc1.weight"] == {"step", "momentum_buffer"}


@names
def test_matrices_decay_and_vectors_do_not(config):
    towers = towers_with_gradients(replace(SMALL, logit_bias=-10.0))
    groups = build_optimizer(towers, config).param_groups
    for group in groups:
        assert group["weight_decay"] == (0.2 if group["params"][0].ndim >= 2 else 0.0)
        assert len({parameter.ndim >= 2 for parameter in group["params"]}) == 1
    every = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(every) == sorted(id(parameter) for parameter in towers.parameters())


@names
def test_heads_have_factors_of_their_own_with_either(config):
    torch.manual_seed(0)
    distillation = ConceptDistillation(learning_rate_factor=10, weight_decay_factor=0.01)
    heads = ConceptHeads(distillation, SMALL.embed_dim, {"objects": 5, "attributes": 4})
    optimizer = build_optimizer(Towers(SMALL, heads=heads), config, distillation)
    set_learning_rate(optimizer, config, step=0, steps=10)
    of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for parameter in heads.parameters():
        group = of[id(parameter)]
        assert group["lr"] == pytest.approx(0.1)
        decay = 0.002 if parameter.ndim == 2 else 0.0
        assert group["weight_decay"] == pytest.approx(decay)
        assert not group.get("is_hidden", False)


@names
def test_each_layer_learns_by_its_depth(config):
    small = replace(
        SMALL,
        image=replace(SMALL.image, layers=3),
        text=TextTransformer(context_length=8, width=32, heads=2, layers=2),
    )
    towers = Towers(small)
    fine_tuning = FineTuning(image_layer_decay=0.5, text_layer_decay=0.1)
    optimizer = build_optimizer(towers, config, fine_tuning=fine_tuning)
    set_learning_rate(optimizer, config, step=0, steps=10)
    named = dict(towers.clip.named_parameters())
    rate = {id(p): g["lr"] / 0.01 for g in optimizer.param_groups for p in g["params"]}
    expected = {
        "visual.proj": 1.0,
        "visual.ln_post.weight": 0.5,
        "visual.transformer.resblocks.2.mlp.c_fc.weight": 0.5,
        "visual.transformer.resblocks.0.ln_1.bias": 0.125,
        "visual.conv1.weight": 0.0625,
        "visual.class_embedding": 0.0625,
        "text_projection": 1.0,
        "ln_final.bias": 0.1,
        "transformer.resblocks.0.attn.in_proj_weight": 0.01,
        "token_embedding.weight": 0.001,
        "logit_scale": 1.0,
    }
    assert {name: rate[id(named[name])] for name in expected} == pytest.approx(expected)


@names
def test_a_state_that_is_saved_goes_on_bit_for_bit(config):
    def trained(steps, towers, optimizer):
        for step in steps:
            set_learning_rate(optimizer, config, step=step, steps=6)
            give_gradients(towers, seed=step)
            optimizer.step()
            optimizer.zero_grad()

    straight = towers_with_gradients()
    trained(range(6), straight, build_optimizer(straight, config))
    first = towers_with_gradients()
    optimizer = build_optimizer(first, config)
    trained(range(3), first, optimizer)
    model_state, optimizer_state = get_state_dict(first, optimizer)
    second = towers_with_gradients(seed=7)
    resumed = build_optimizer(second, config)
    set_state_dict(second, resumed, model_state_dict=model_state, optim_state_dict=optimizer_state)
    trained(range(3, 6), second, resumed)
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(second)[name]), name


@names
def test_a_recipe_comes_back_with_its_optimizer(config):
    fine_tuning = FineTuning(lock_image="-1", text_layer_decay=0.75)
    recipe = replace(clip(), optimizer=config, fine_tuning=fine_tuning)
    assert from_dict(Recipe, as_dict(recipe), where="recipe.json") == recipe


def test_the_command_line_chooses_an_optimizer_and_what_is_locked():
    arguments = (
        "--data d --out o --fine-tuning.lock-image -1 optimizer:muon --optimizer.momentum 0.9"
    )
    chosen = tyro.cli(
        Train,
        args=arguments.split(),
        default=Train.of(clip()),
        config=(tyro.conf.CascadeSubcommandArgs,),
    ).recipe
    assert isinstance(chosen.optimizer, Muon) and chosen.optimizer.momentum == 0.9
    assert chosen.fine_tuning == FineTuning(lock_image="-1")


def test_lit_locks_the_image_tower_that_it_starts_from():
    recipe = lit()
    assert recipe.fine_tuning == FineTuning(lock_image="all")
    assert recipe.model.weights is not None and recipe.model.start == "image"
    assert recipe.optimizer.warmup_steps == 0.03 * recipe.steps


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"cooldown_steps": 5}, "schedule `constant`"),
        ({"max_gradient_norm": math.nan}, "max_gradient_norm"),
    ],
)
@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_what_cannot_be_is_refused(kind, wrong, says):
    with pytest.raises(InputError, match=says):
        kind(**wrong)


def test_a_momentum_that_never_forgets_is_refused():
    with pytest.raises(InputError, match="momentum"):
        Muon(momentum=1.0)
