"""Small, prime and ragged batches, degenerate geometry, float32: finite, and the dense loss."""

import numpy as np
import pytest
import torch
from cases import EXECUTIONS, RULES, SCALE, by_execution, by_rule, embeddings, gradients
from torch.nn import functional as F

from winnow.objectives import (
    Context,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    SigLIP,
    contrastive_loss,
)

CONTRASTIVE = {name: rule for name, rule in RULES.items() if not isinstance(rule, SigLIP)}
by_contrastive_rule = pytest.mark.parametrize("rule", CONTRASTIVE.values(), ids=CONTRASTIVE.keys())
EXECUTED = {name: EXECUTIONS[name] for name in ("dense", "blocks-of-4", "tiled", "tiles-of-4")}
by_some_execution = pytest.mark.parametrize("execution", EXECUTED.values(), ids=EXECUTED.keys())


def identical(image, text):
    return image, image


def opposite(image, text):
    return image, -image


def collapsed(image, text):
    one = F.normalize(torch.ones_like(image), dim=1)
    return one, one


def two_clusters(image, text):
    sign = torch.where(torch.arange(len(image)) % 2 == 0, 1.0, -1.0)[:, None]
    one = F.normalize(torch.ones_like(image), dim=1)
    return sign * one, one


GEOMETRIES = (identical, opposite, collapsed, two_clusters)


@by_rule
@by_execution
@pytest.mark.parametrize("scale", [1e-4, 100.0, 1e4])
def test_finite_at_extreme_scale_in_float32(rule, execution, scale):
    image, text = (t.float() for t in embeddings())
    loss, found = gradients(rule, image, text, torch.tensor(scale), progress=1.0, **execution)
    assert loss.total.isfinite()
    assert all(gradient.isfinite().all() for gradient in found)
    assert all(value.isfinite().all() for value in loss.diagnostics.values())


@by_rule
@by_some_execution
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_degenerate_geometry_at_scale_100_is_the_dense_float64_loss(rule, execution, geometry):
    image, text = geometry(*embeddings(count=7, width=4))
    scale = torch.tensor(100.0, dtype=torch.float64)
    exact, expected = gradients(rule, image, text, scale, progress=1.0, execution="dense")
    loss, found = gradients(
        rule, image.float(), text.float(), scale.float(), progress=1.0, **execution
    )
    assert_within_law(loss, exact, largest_logit=100.0)
    for gradient, wanted in zip(found, expected, strict=True):
        bound = 1e-4 * (1 + wanted.abs().max())
        assert (gradient.double() - wanted).abs().max() <= bound


@by_rule
@by_some_execution
@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_float32_stays_within_the_law_at_any_count(rule, execution, count):
    image, text = embeddings(count=count)
    exact, expected = gradients(rule, image, text, SCALE, progress=1.0, execution="dense")
    loss, found = gradients(
        rule, image.float(), text.float(), SCALE.float(), progress=1.0, **execution
    )
    assert_within_law(loss, exact, largest_logit=SCALE.item())
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)


def assert_within_law(loss, exact, *, largest_logit):
    bound = 1e-5 * exact.total.abs().item() + 1e-6 * largest_logit
    assert abs(loss.total.item() - exact.total.item()) <= bound


@by_contrastive_rule
@by_execution
def test_a_pair_alone_has_no_gradient(rule, execution):
    image, text = embeddings(count=1)
    loss, found = gradients(rule, image, text, SCALE, progress=1.0, **execution)
    negatives = rule.negatives if isinstance(rule, HardNegativeSelfDistillation) else rule
    expected = np.log(negatives.alpha) if isinstance(negatives, HardNegativeNCE) else 0.0
    np.testing.assert_allclose(loss.total.item(), expected, atol=1e-14)
    assert all(gradient.abs().max() < 1e-14 for gradient in found)


@by_contrastive_rule
@by_execution
def test_a_batch_without_negatives_has_no_gradient(rule, execution):
    image, text = embeddings(count=5)
    same = Context(caption_id_B=torch.zeros(5, dtype=torch.int64))
    loss, found = gradients(rule, image, text, SCALE, context=same, progress=1.0, **execution)
    assert loss.total.isfinite()
    assert all(gradient.abs().max() < 1e-14 for gradient in found)
    for name, value in loss.diagnostics.items():
        assert value.isnan().all() if name.startswith("margin") else value.isfinite().all(), name


@pytest.mark.parametrize("name", [n for n in RULES if n != "psd-not-swapped"])
@by_some_execution
@pytest.mark.parametrize(("scale", "noise"), [(14.3, 0.02), (100.0, 0.3), (100.0, 0.15)])
def test_well_aligned_pairs_keep_their_digits_in_float32(name, execution, scale, noise):
    """At losses down to 1e-7 what is left of a pair must not be the rounding of a logit of 100."""
    generator = torch.Generator().manual_seed(2)
    image, other = torch.randn(2, 64, 32, generator=generator)
    text = F.normalize(image + noise * other, dim=1).double()
    image, scale = F.normalize(image, dim=1).double(), torch.tensor(scale, dtype=torch.float64)
    # The features that float32 can hold, so that only the loss's own rounding is seen.
    image, text = image.float().double(), text.float().double()
    rule, options = RULES[name], {"progress": 1.0, **execution}
    exact, expected = gradients(rule, image, text, scale, progress=1.0, execution="dense")
    loss, found = gradients(rule, image.float(), text.float(), scale.float(), **options)
    for key in exact.diagnostics.keys() & {"softness"}:
        torch.testing.assert_close(loss.diagnostics[key].double(), exact.diagnostics[key])
    if (
        execution["execution"] == "tiled"
    ):  # autograd on rows keeps only what float32 subtraction does
        for gradient, wanted in zip(found[:2], expected[:2], strict=True):
            assert (gradient.double() - wanted).norm() <= 1e-4 * wanted.norm()


def test_what_is_too_small_to_count_is_flushed():
    """A product over subnormal numbers takes ten times as long on a CPU: none may reach one."""
    from winnow.objectives.exponentials import exp_, flushed_

    exponents = torch.linspace(-110, 0, 1000)
    values = flushed_(exp_(exponents.clone()))
    assert values[exponents < -88].eq(0).all()
    torch.testing.assert_close(values[exponents > -80], exponents[exponents > -80].exp())


def test_weights_of_zero_leave_their_pairs_without_a_say():
    image, text = embeddings()
    kept = torch.arange(len(image)) != 3
    context = Context(weight_B=kept.double())
    for rule in RULES.values():
        loss = contrastive_loss(rule, image, text, SCALE, context=context, execution="tiled")
        torch.testing.assert_close(loss.total, loss.per_pair_B[kept].mean())
