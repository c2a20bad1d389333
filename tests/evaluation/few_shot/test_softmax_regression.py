import numpy as np
import torch
from few_shot_worlds import mean_cross_entropy, world

from winnow.evaluation.few_shot.softmax_regression import (
    bend,
    regression_from_text,
    with_bias,
    zero_shot_weight,
)


def problem(scale=20.0):
    shots, text_KD = world(classes=4, width=6, per_class=5, spread=1.5, text_error=1.0)
    start_DK = zero_shot_weight(text_KD, scale)
    return shots, start_DK, with_bias(regression_from_text(shots, start_DK))


def test_loss_and_gradient_are_autograd_s_of_the_literal_loss():
    shots, start_DK, regression = problem()
    weight_XK = torch.from_numpy(np.random.default_rng(2).normal(size=(7, 4))).requires_grad_()
    x_ND = torch.from_numpy(shots.feature_ND)
    logits_NK = x_ND @ (torch.from_numpy(start_DK) + weight_XK[:-1]) + weight_XK[-1]
    literal = torch.nn.functional.cross_entropy(logits_NK, torch.from_numpy(shots.label_N))
    (expected,) = torch.autograd.grad(literal, weight_XK)
    found_NK = regression.logits(weight_XK.detach())
    torch.testing.assert_close(regression.loss(found_NK), literal.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(regression.gradient(found_NK), expected, rtol=0, atol=1e-13)
    by_hand = mean_cross_entropy(logits_NK.detach().numpy(), shots.label_N)
    assert abs(by_hand - literal.item()) < 1e-12


def test_the_bound_on_the_bend_holds_and_half_of_it_does_not():
    """Two classes at p = 1/2 bend as much as any softmax does."""
    shots, text_KD = world(classes=2, width=3, per_class=8, spread=0.5, text_error=0.0)
    regression = regression_from_text(shots, zero_shot_weight(text_KD, 0.0))
    gram = regression.x_NX.T @ regression.x_NX
    steepest = torch.linalg.eigh(gram).eigenvectors[:, -1:]
    step_XK = 1e-3 * torch.cat([steepest, -steepest], dim=1)
    from_NK = regression.logits(torch.zeros(3, 2, dtype=torch.float64))
    found = bend(from_NK, regression.logits(step_XK))
    square = step_XK.square().sum().item()
    assert found <= regression.lipschitz() / 2 * square
    assert found > 0.99 * regression.lipschitz() / 2 * square


def test_the_bend_is_what_the_tangent_leaves():
    _, _, regression = problem()
    generator = np.random.default_rng(3)
    u_XK, v_XK = (torch.from_numpy(generator.normal(size=(7, 4))) for _ in range(2))
    from_NK, to_NK = regression.logits(u_XK), regression.logits(v_XK)
    tangent = torch.sum(regression.gradient(from_NK) * (v_XK - u_XK))
    expected = regression.loss(to_NK) - regression.loss(from_NK) - tangent
    assert abs(bend(from_NK, to_NK) - expected.item()) < 1e-12


def test_small_bends_survive_single_precision():
    _, _, regression = problem()
    step_XK = 1e-4 * torch.from_numpy(np.random.default_rng(4).normal(size=(7, 4)))
    from_NK, to_NK = regression.logits(torch.zeros(7, 4).double()), regression.logits(step_XK)
    exact = bend(from_NK, to_NK)
    assert abs(bend(from_NK.float(), to_NK.float()) / exact - 1) < 0.1
