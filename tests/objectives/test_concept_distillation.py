import math

import pytest
import torch
from torch import nn

from winnow.objectives import ConceptDistillation, ConceptHeads, soft_cross_entropy
from winnow.types import InputError

DOUBLE = torch.float64


def drawn(batch=5, concepts=7, kept=3, *, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, concepts, generator=generator, dtype=dtype)
    index = torch.stack([torch.randperm(concepts, generator=generator)[:kept] for _ in logits])
    mass = torch.rand(batch, kept, generator=generator, dtype=dtype)
    return logits, index, mass / mass.sum(dim=1, keepdim=True)


def by_loops(logits, index, mass):
    """CE(q, softmax(z)) = -Σ_v q_v log softmax(z)_v, with q written out over all concepts."""
    losses = []
    logits = logits.detach()
    for row, places, shares in zip(logits, index.tolist(), mass.tolist(), strict=True):
        dense = [0.0] * len(row)
        for place, share in zip(places, shares, strict=True):
            dense[place] += share
        total = sum(math.exp(z) for z in row.tolist())
        logs = [math.log(math.exp(z) / total) for z in row.tolist()]
        losses.append(-sum(q * log for q, log in zip(dense, logs, strict=True)))
    return torch.tensor(losses, dtype=DOUBLE)


def test_the_loss_is_the_literal_cross_entropy():
    torch.testing.assert_close(soft_cross_entropy(*drawn()), by_loops(*drawn()), rtol=1e-12, atol=0)


def test_the_gradient_is_that_of_finite_differences():
    logits, index, mass = drawn()
    assert torch.autograd.gradcheck(
        lambda z: soft_cross_entropy(z, index, mass), logits.requires_grad_(), atol=1e-9
    )


def test_the_gradient_is_that_of_dense_targets():
    logits, index, mass = drawn()
    upstream = torch.arange(1.0, 6.0, dtype=DOUBLE)
    dense = torch.zeros_like(logits).scatter_(1, index, mass)
    theirs = logits.clone().requires_grad_()
    (nn.functional.cross_entropy(theirs, dense, reduction="none") * upstream).sum().backward()
    ours = logits.clone().requires_grad_()
    (soft_cross_entropy(ours, index, mass) * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_one_concept_with_all_the_mass_is_ordinary_cross_entropy():
    logits, index, _ = drawn()
    one = index[:, :1]
    expected = nn.functional.cross_entropy(logits, one[:, 0], reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, one, torch.ones_like(one)), expected)


def test_what_the_teacher_says_is_the_least_loss():
    """At softmax(z) = q the loss is the entropy of q and its gradient vanishes."""
    _, index, mass = drawn(concepts=3, kept=3)
    logits = torch.zeros(5, 3, dtype=DOUBLE).scatter_(1, index, mass.log()).requires_grad_()
    loss = soft_cross_entropy(logits, index, mass)
    torch.testing.assert_close(loss, -(mass * mass.log()).sum(dim=1))
    loss.sum().backward()
    assert logits.grad.abs().max() < 1e-15


def test_a_picture_without_targets_counts_for_nothing():
    logits, index, mass = drawn()
    mass[2] = 0
    loss = soft_cross_entropy(logits.requires_grad_(), index, mass)
    loss.sum().backward()
    assert loss[2] == 0 and logits.grad[2].abs().max() == 0
    assert logits.grad[1].abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_short_and_extreme_logits_stay_finite(dtype):
    logits, index, mass = drawn()
    logits = (logits * 1e3).to(dtype).requires_grad_()
    loss = soft_cross_entropy(logits, index, mass)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()
    assert logits.grad.float().sum(dim=1).abs().max() < 0.02, "softmax and masses both sum to 1"


def test_no_gradient_reaches_the_targets():
    logits, index, mass = drawn()
    mass.requires_grad_()
    soft_cross_entropy(logits.requires_grad_(), index, mass).sum().backward()
    assert mass.grad is None


def heads(width=4, **settings):
    return ConceptHeads(ConceptDistillation(**settings), width, {"objects": 7, "attributes": 5})


def targets(batch=5):
    _, index, mass = drawn(batch, 7, seed=1)
    _, other, shares = drawn(batch, 5, seed=2)
    return {"objects": (index, mass), "attributes": (other, shares)}


def test_heads_begin_without_an_opinion_and_without_chance():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    module = heads().double()
    assert torch.equal(torch.rand(4), expected), "the next random number is what it would be"
    image = torch.randn(5, 4, dtype=DOUBLE).requires_grad_()
    losses = module(image, targets())
    for head, size in (("objects", 7), ("attributes", 5)):
        torch.testing.assert_close(losses[head], torch.full((5,), math.log(size), dtype=DOUBLE))
    module.term_B(losses).sum().backward()
    assert image.grad.abs().max() == 0, "who knows nothing pulls nowhere"
    assert module.linear["objects"].weight.grad.abs().max() > 0.1


def test_the_term_is_the_weighted_sum_of_both_heads():
    module = heads(object_weight=0.5, attribute_weight=2.0).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    image = torch.randn(5, 4, dtype=DOUBLE)
    losses = module(image, targets())
    for head, (index, mass) in targets().items():
        linear = module.linear[head]
        logits = image @ linear.weight.T + linear.bias
        torch.testing.assert_close(losses[head], by_loops(logits, index, mass))
    expected = 0.5 * losses["objects"] + 2.0 * losses["attributes"]
    torch.testing.assert_close(module.term_B(losses), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"object_weight": -1.0},
        {"attribute_weight": math.nan},
        {"learning_rate_factor": 0.0},
        {"weight_decay_factor": math.inf},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        ConceptDistillation(**settings)


def test_targets_of_other_heads_are_refused():
    with pytest.raises(InputError, match=r"objects, verbs.*objects, attributes"):
        ConceptHeads(ConceptDistillation(), 4, {"objects": 7, "verbs": 5})
