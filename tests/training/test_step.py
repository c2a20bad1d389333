import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from small_towers import SMALL
from torch.nn import functional as F

from winnow.data.batch import Batch, caption_ids
from winnow.data.concept_targets import SparseTargets
from winnow.models import CustomTowers, TimmImageTower
from winnow.models.towers import Towers
from winnow.objectives import (
    ConceptDistillation,
    ConceptHeads,
    Context,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
    contrastive_loss,
)
from winnow.training import step as step_module
from winnow.training.assembly import refuse_batch_statistics
from winnow.training.mask import Mask
from winnow.training.optimizer import AdamW, build_optimizer, set_learning_rate
from winnow.training.step import NonFiniteError, StepReport, training_step
from winnow.types import InputError

RULES = [
    InfoNCE(),
    HardNegativeNCE(alpha=0.9, beta=0.5),
    ProgressiveSelfDistillation(initial_share=0.5, final_share=0.5),
    HardNegativeSelfDistillation(targets=ProgressiveSelfDistillation(initial_share=0.5)),
    SigLIP(),
]


BIASED = replace(SMALL, logit_scale=2.3, logit_bias=-4.0)


SIZES = {"objects": 9, "attributes": 5}
DISTILLATION = ConceptDistillation(object_weight=0.7, attribute_weight=1.3)


def with_heads(config=SMALL):
    """Towers whose heads have opinions already; the towers are those without heads."""
    torch.manual_seed(0)
    heads = ConceptHeads(DISTILLATION, config.embed_dim, SIZES)
    towers = Towers(config, heads=heads).train()
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return towers


def concept_targets(count):
    """Three concepts a picture and head, of unequal mass."""
    generator = torch.Generator().manual_seed(2)
    found = {}
    for head, size in SIZES.items():
        index = torch.stack([torch.randperm(size, generator=generator)[:3] for _ in range(count)])
        mass = torch.rand(count, 3, generator=generator)
        found[head] = SparseTargets(index, mass / mass.sum(dim=1, keepdim=True))
    return found


def towers_and_batch(count=8, *, config=SMALL, captions=None):
    torch.manual_seed(0)
    towers = Towers(config).train()
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    text = towers.tokenize(captions or [f"thing {i}" for i in range(count)])
    ids = torch.arange(count)
    # The last two pictures are one file, seen twice.
    images = ids.clamp(max=count - 2)
    return towers, Batch(image, text, ids, ids, caption_ids(text), images)


def run_step(
    towers,
    batch,
    optimizer,
    *,
    rule=RULES[0],
    mask=None,
    micro_batches=1,
    max_norm=1e9,
    precision=None,
    progress=0.5,
    **more,
):
    return training_step(
        towers,
        optimizer,
        batch,
        rule=rule,
        mask=mask or Mask(),
        step=3,
        progress=progress,
        seed=0,
        micro_batches=micro_batches,
        max_gradient_norm=max_norm,
        precision=precision or nullcontext(),
        **more,
    )


def distilling(count=8, *, config=SMALL):
    _, batch = towers_and_batch(count, config=config)
    return with_heads(config).double(), batch._replace(targets=concept_targets(count))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8])
def test_heads_add_their_weighted_cross_entropy_to_any_rule(rule, micro_batches):
    """Loss and gradients are those of the whole written out, at any number of micro-batches."""
    towers, batch = distilling(config=BIASED)
    found = towers(batch.image_BCHW, batch.text_BT)
    total, parts = 0.0, {}
    for head, (index, mass) in batch.targets.items():
        dense = torch.zeros(8, SIZES[head], dtype=torch.float64)
        dense.scatter_(1, index, mass.double())
        logits = towers.heads.linear[head](found.image_BD)
        parts[head] = F.cross_entropy(logits, dense)
        total = total + DISTILLATION.weights[head] * parts[head]
    image, text = F.normalize(found.image_BD, dim=1), F.normalize(found.text_BD, dim=1)
    context = Context(sample_id_B=batch.id_B, seed=0)
    contrastive = contrastive_loss(
        rule, image, text, found.scale, bias=found.bias, context=context, progress=0.5, step=3
    ).total
    (contrastive + total).backward()
    expected = {name: p.grad.clone() for name, p in towers.named_parameters() if p.grad is not None}
    still = torch.optim.SGD(towers.parameters(), lr=0.0)
    report = run_step(towers, batch, still, rule=rule, micro_batches=micro_batches)
    assert report.loss == pytest.approx((contrastive + total).item(), rel=1e-10)
    assert report.row()["loss_contrastive"] == pytest.approx(contrastive.item(), rel=1e-10)
    for head, part in parts.items():
        assert report.row()[f"loss_{head}"] == pytest.approx(part.item(), rel=1e-10)
    assert {"heads.linear.objects.weight", "heads.linear.attributes.bias"} < expected.keys()
    for name, parameter in towers.named_parameters():
        if name in expected:
            torch.testing.assert_close(
                parameter.grad, expected[name], rtol=1e-9, atol=1e-13, msg=name
            )


def test_without_targets_heads_are_silent():
    towers, batch = distilling()
    batch = batch._replace(targets=None)
    silent = run_step(towers, batch, torch.optim.SGD(towers.parameters()))
    bare, _ = towers_and_batch()
    report = run_step(bare.double(), batch, torch.optim.SGD(bare.parameters()))
    assert silent.loss == report.loss and silent.parts == report.parts == {}
    assert towers.heads.linear["objects"].weight.grad is None


def test_a_state_from_before_there_were_heads_still_trains():
    """Its groups know no factor: they are the towers'."""
    towers, config = with_heads(), AdamW(learning_rate=0.01, warmup_steps=0)
    optimizer = build_optimizer(towers, config)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["learning_rate_factor"]
    optimizer.load_state_dict(state)
    rate = set_learning_rate(optimizer, config, step=0, steps=10)
    assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]


def test_heads_learn_faster_and_decay_less():
    towers = with_heads()
    config = AdamW(learning_rate=0.01, weight_decay=0.1, warmup_steps=0)
    distillation = ConceptDistillation(learning_rate_factor=10, weight_decay_factor=0.01)
    optimizer = build_optimizer(towers, config, distillation)
    set_learning_rate(optimizer, config, step=5, steps=10)
    facts = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    rate = 0.01 * 0.5
    assert facts[0][1:] == (rate, 0.1) and facts[1][1:] == (rate, 0.0)
    assert facts[2:] == [(2, 10 * rate, pytest.approx(0.001)), (2, 10 * rate, 0.0)]
    own = {id(p) for group in optimizer.param_groups[2:] for p in group["params"]}
    assert own == {id(parameter) for parameter in towers.heads.parameters()}
    every = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(parameter) for parameter in towers.parameters())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("micro_batches", [2, 3, 8])
@pytest.mark.parametrize("config", [SMALL, BIASED], ids=["plain", "biased"])
def test_micro_batches_change_neither_loss_nor_gradient(config, rule, micro_batches):
    gradients, losses = [], []
    for parts in (1, micro_batches):
        towers, batch = towers_and_batch(config=config)
        towers.double()
        still = torch.optim.SGD(towers.parameters(), lr=0.0)
        losses.append(run_step(towers, batch, still, rule=rule, micro_batches=parts).loss)
        gradients.append({name: p.grad for name, p in towers.named_parameters()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-10, atol=1e-13, msg=name)


def test_a_micro_batch_is_embedded_again_with_the_chance_it_had():
    """With dropout the second pass must draw what the first drew, or the gradient is another's."""

    def with_dropout():
        towers, batch = towers_and_batch()
        towers.clip.visual.register_forward_hook(lambda _, __, out: F.dropout(out, 0.5))
        return towers.double(), batch

    towers, batch = with_dropout()
    torch.manual_seed(7)
    run_step(towers, batch, torch.optim.SGD(towers.parameters(), lr=0.0), micro_batches=2)
    found = {name: p.grad for name, p in towers.named_parameters()}
    towers, batch = with_dropout()
    torch.manual_seed(7)
    halves = [
        towers(batch.image_BCHW[half], batch.text_BT[half]) for half in (slice(0, 4), slice(4, 8))
    ]
    image, text = (
        F.normalize(torch.cat(sides), dim=1)
        for sides in ([half.image_BD for half in halves], [half.text_BD for half in halves])
    )
    contrastive_loss(RULES[0], image, text, halves[0].scale).total.backward()
    for name, parameter in towers.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-13, msg=name)


def test_norms_are_taken_in_float32():
    feature = torch.randn(64, 33, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm = step_module.unit_norm(feature).double().norm(dim=1)
    torch.testing.assert_close(norm, torch.ones_like(norm), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize(
    "mask", [Mask(same_caption=c, same_image=i) for c in (0, 1) for i in (0, 1)]
)
def test_the_mask_decides_which_pairs_are_negatives(mask, micro_batches):
    """The step's loss is that of its embeddings with the captions and pictures told by hand."""
    captions = ["a cat", "A  cat", "a dog", *(f"thing {i}" for i in range(5))]
    towers, batch = towers_and_batch(captions=captions)
    image, text, scale, *_ = towers(batch.image_BCHW, batch.text_BT)
    unit = torch.nn.functional.normalize
    told = Context(
        caption_id_B=torch.tensor([0, 0, 2, 3, 4, 5, 6, 7]) if mask.same_caption else None,
        image_id_B=torch.tensor([0, 1, 2, 3, 4, 5, 6, 6]) if mask.same_image else None,
    )
    expected = contrastive_loss(RULES[1], unit(image), unit(text), scale, context=told).total
    unmasked = contrastive_loss(RULES[1], unit(image), unit(text), scale).total
    still = torch.optim.SGD(towers.parameters(), lr=0.0)
    report = run_step(towers, batch, still, rule=RULES[1], mask=mask, micro_batches=micro_batches)
    assert report.loss == pytest.approx(expected.item(), rel=1e-6)
    masks_something = mask != Mask()
    assert (abs(report.loss - unmasked.item()) > 1e-3) is masks_something


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_pairs_count_by_their_weight(micro_batches):
    """The loss is the weighted mean of every pair's own, by hand."""
    towers, batch = towers_and_batch(captions=[f"thing {i}" for i in range(8)])
    weight = torch.tensor([1.0, 0.1, 1.0, 0.5, 1.0, 1.0, 0.25, 1.0])
    image, text, scale, *_ = towers(batch.image_BCHW, batch.text_BT)
    unit = torch.nn.functional.normalize
    logits = scale * (unit(image) @ unit(text).T)
    own = torch.arange(8)
    entropy = torch.nn.functional.cross_entropy
    each = sum(entropy(way, own, reduction="none") for way in (logits, logits.T)) / 2
    expected = ((weight * each).sum() / weight.sum()).item()
    assert abs(expected - each.mean().item()) > 1e-3
    still = torch.optim.SGD(towers.parameters(), lr=0.0)
    report = run_step(
        towers, batch._replace(weight_B=weight), still, rule=InfoNCE(), micro_batches=micro_batches
    )
    assert report.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_bias_is_trained_and_reported(micro_batches):
    """Its gradient is what Σ_ij sigmoid s_ij exceeds the N own pairs by, over N: once."""
    towers, batch = towers_and_batch(config=BIASED)
    image, text, scale, bias, _ = towers(batch.image_BCHW, batch.text_BT)
    unit = torch.nn.functional.normalize
    answers = (scale * (unit(image) @ unit(text).T) + bias).sigmoid()
    gradient = (answers.sum().item() - len(image)) / len(image)
    plain = torch.optim.SGD(towers.parameters(), lr=0.1)
    report = run_step(towers, batch, plain, rule=SigLIP(), micro_batches=micro_batches)
    assert report.row()["bias"] == -4.0
    assert report.row()["scale"] == pytest.approx(torch.tensor(2.3).exp().item())
    assert towers.clip.logit_bias.item() == pytest.approx(-4.0 - 0.1 * gradient, rel=1e-5)
    assert abs(gradient) > 0.1


def test_without_a_bias_none_is_reported():
    towers, batch = towers_and_batch()
    assert "bias" not in run_step(towers, batch, build_optimizer(towers, AdamW())).row()


def test_a_row_of_metrics_takes_flags_counts_and_gaps():
    diagnostics = {
        "flag": torch.tensor([True, False, False, False]),
        "count": torch.tensor([1, 2, 3, 4]),
        "short": torch.full((4,), 3.0, dtype=torch.bfloat16),
        "of_soft_pairs": torch.tensor([torch.nan, 1.0, torch.nan, 2.0]),
        "of_no_pair": torch.full((4,), torch.nan),
    }
    report = StepReport(
        loss=1.0,
        gradient_norm=2.0,
        scale=3.0,
        bias=None,
        loss_B=torch.ones(4),
        diagnostics=diagnostics,
        direction_sums={"image": torch.tensor([4.0, 0.0]), "text": torch.tensor([0.0, 2.0])},
    )
    numbers = {"loss": 1.0, "gradient_norm": 2.0, "scale": 3.0}
    # All pictures lie in one direction; captions are as far apart as four right angles.
    numbers |= {"image_similarity": 1.0, "text_similarity": 0.0}
    means = {"flag": 0.25, "count": 2.5, "short": 3.0, "of_soft_pairs": 1.5}
    assert json.loads(json.dumps(report.row(), allow_nan=False)) == numbers | means


@pytest.mark.parametrize(
    ("rule", "towers_config", "open_clips_loss"),
    [(InfoNCE(), SMALL, ClipLoss()), (SigLIP(), BIASED, SigLipLoss())],
    ids=["infonce", "siglip"],
)
def test_three_steps_equal_a_plain_loop_with_open_clips_loss(rule, towers_config, open_clips_loss):
    config = AdamW(learning_rate=1e-3, max_gradient_norm=1.0)
    ours, batch = towers_and_batch(config=towers_config)
    optimizer = build_optimizer(ours, config)
    losses = [run_step(ours, batch, optimizer, rule=rule, max_norm=1.0).loss for _ in range(3)]
    theirs, batch = towers_and_batch(config=towers_config)
    optimizer, expected = build_optimizer(theirs, config), []
    for _ in range(3):
        optimizer.zero_grad()
        # Image and text embeddings, the scale and, where there is one, the bias.
        loss = open_clips_loss(
            *theirs.clip(theirs.image_normalizer(batch.image_BCHW), batch.text_BT)
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[2] < losses[0]
    for (name, ours_value), theirs_value in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours_value, theirs_value, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("poison", ["weights", "loss"])
def test_nothing_moves_when_something_is_not_finite(poison, monkeypatch):
    towers, batch = towers_and_batch()
    optimizer = build_optimizer(towers, AdamW())
    if poison == "weights":
        with torch.no_grad():
            towers.clip.text_projection[0, 0] = torch.inf
    else:
        honest = step_module.contrastive_loss

        def infinite(*arguments, **options):
            loss = honest(*arguments, **options)
            return type(loss)(
                total=loss.total * torch.inf, per_pair_B=loss.per_pair_B, diagnostics={}
            )

        monkeypatch.setattr(step_module, "contrastive_loss", infinite)
    before = {name: value.clone() for name, value in towers.state_dict().items()}
    with pytest.raises(NonFiniteError, match="step 3"):
        run_step(towers, batch, optimizer)
    for name, value in towers.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not optimizer.state


def test_the_scale_stays_clamped():
    towers, batch = towers_and_batch()
    with torch.no_grad():
        towers.clip.logit_scale.fill_(torch.log(torch.tensor(100.0)))
    optimizer = build_optimizer(towers, AdamW(learning_rate=0.5))
    for _ in range(3):
        run_step(towers, batch, optimizer)
        assert towers.clip.logit_scale.exp().item() <= 100.001


def test_batch_statistics_are_refused_with_micro_batches():
    towers = Towers(
        CustomTowers(embed_dim=16, image=TimmImageTower(name="resnet18", image_size=32))
    )
    refuse_batch_statistics(towers, 1)
    with pytest.raises(InputError, match="batch normalisation"):
        refuse_batch_statistics(towers, 2)


def test_gains_biases_and_the_temperature_are_not_decayed():
    towers, _ = towers_and_batch(config=BIASED)
    decayed, free = build_optimizer(towers, AdamW(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    for spared in (towers.clip.logit_scale, towers.clip.logit_bias):
        assert any(parameter is spared for parameter in free["params"])
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])


def test_the_schedule_warms_up_and_falls_along_a_cosine():
    towers, _ = towers_and_batch()
    config = AdamW(learning_rate=2.0, warmup_steps=4)
    optimizer = build_optimizer(towers, config)
    rates = [set_learning_rate(optimizer, config, step=s, steps=14) for s in range(14)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4] == pytest.approx(2.0)
    assert rates[9] == pytest.approx(1.0)
    assert rates[13] == pytest.approx(
        2.0 * (1 + torch.cos(torch.tensor(0.9 * torch.pi)).item()) / 2
    )
    assert optimizer.param_groups[0]["lr"] == rates[13]
