import itertools

import numpy as np
import pytest
import torch
from few_shot_worlds import mean_cross_entropy, world
from scipy import optimize

from winnow.evaluation.few_shot.projected import (
    TOLERANCE,
    Balls,
    descend,
    project,
    projected_residual,
    solve_in_balls,
)
from winnow.evaluation.few_shot.softmax_regression import (
    regression_from_text,
    with_bias,
    zero_shot_weight,
)


def problem(dtype=np.float64, **kwargs):
    shape = {"classes": 3, "width": 4, "per_class": 6, "spread": 2.5, "text_error": 1.0} | kwargs
    shots, text_KD = world(**shape, dtype=dtype)
    start_DK = zero_shot_weight(text_KD, 5.0)
    return shots, start_DK, with_bias(regression_from_text(shots, start_DK))


def solve(regression, weight, bias):
    shape = regression.x_NX.shape[1], regression.known_NK.shape[1]
    start_XK = torch.zeros(shape, dtype=regression.x_NX.dtype)
    balls = Balls(weight, bias)
    return solve_in_balls(regression, balls, lipschitz=regression.lipschitz(), start_XK=start_XK)


def objective(shots, start_DK, weight_XK):
    logits_NK = shots.feature_ND @ (start_DK + weight_XK[:-1]) + weight_XK[-1]
    return mean_cross_entropy(logits_NK, shots.label_N)


@pytest.mark.parametrize(("weight", "bias"), [(0.5, 0.0), (2.0, 0.3), (1.0, 50.0)])
def test_it_finds_what_scipy_finds_under_the_same_constraints(weight, bias):
    shots, start_DK, regression = problem()
    found_XK = solve(regression, weight, bias).weight_XK.numpy()
    shape = found_XK.shape

    def loss(flat):
        return objective(shots, start_DK, flat.reshape(shape))

    limits = [
        {"type": "ineq", "fun": lambda flat: weight**2 - np.sum(flat.reshape(shape)[:-1] ** 2)},
        {"type": "ineq", "fun": lambda flat: bias**2 - np.sum(flat.reshape(shape)[-1] ** 2)},
    ]
    start = np.full(found_XK.size, 1e-3)
    exact = optimize.minimize(
        loss, start, method="SLSQP", constraints=limits, options={"ftol": 1e-13, "maxiter": 1000}
    )
    assert abs(loss(found_XK.ravel()) - exact.fun) < 1e-6
    assert loss(found_XK.ravel()) < loss(np.zeros(found_XK.size)) - 0.01


def test_on_the_edge_the_gradient_points_straight_in():
    _, _, regression = problem()
    weight_XK = solve(regression, 1.0, 0.2).weight_XK
    gradient_XK = regression.gradient(regression.logits(weight_XK))
    for rows, radius in ((slice(None, -1), 1.0), (slice(-1, None), 0.2)):
        inwards = -torch.sum(weight_XK[rows] * gradient_XK[rows])
        norms = weight_XK[rows].norm() * gradient_XK[rows].norm()
        assert abs(weight_XK[rows].norm().item() - radius) < 1e-9
        assert (inwards / norms).item() > 1 - 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_iterate_leaves_the_balls(dtype):
    _, _, regression = problem(dtype)
    start_XK = torch.zeros(5, 3, dtype=regression.x_NX.dtype)
    balls = Balls(1.7, 0.4)
    iterates = descend(regression, balls, lipschitz=regression.lipschitz(), start_XK=start_XK)
    at_the_edge = 0
    for weight_XK in itertools.islice(iterates, 200):
        assert weight_XK[:-1].double().norm().item() <= 1.7
        assert weight_XK[-1].double().norm().item() <= 0.4
        at_the_edge += weight_XK[:-1].double().norm().item() > 1.7 * (1 - 1e-5)
    assert at_the_edge > 100


def test_a_wider_ball_never_costs_more():
    shots, start_DK, regression = problem()
    losses = [
        objective(shots, start_DK, solve(regression, radius, 0.5).weight_XK.numpy())
        for radius in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
    ]
    assert all(wider < tighter for tighter, wider in itertools.pairwise(losses))


def test_the_residual_is_that_of_a_literal_projection_onto_the_ways_that_stay_inside():
    generator = np.random.default_rng(5)
    weight_XK = project(torch.from_numpy(generator.normal(size=(5, 3))), Balls(1.0, 0.5))
    gradient_XK = torch.from_numpy(generator.normal(size=(5, 3)))
    balls = Balls(1.0, 0.5)
    step = 1e-7
    moved_XK = project(weight_XK - step * gradient_XK, balls) - weight_XK
    expected = moved_XK.norm().item() / step
    assert abs(projected_residual(weight_XK, gradient_XK, balls) - expected) < 1e-5
    assert expected < gradient_XK.norm().item() - 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_rounding_hides_no_edge(seed):
    """Straight out of the ball there is no way, however many weights its norm is summed over."""
    weight_XK = torch.from_numpy(np.random.default_rng(seed).normal(size=(257, 300)))
    balls = Balls(1.0, 0.0)
    weight_XK = project(weight_XK, balls)
    assert projected_residual(weight_XK, -weight_XK, balls) < 1e-12


def test_it_says_when_it_ran_out_of_steps():
    _, _, regression = problem()
    start_XK = torch.zeros(5, 3, dtype=torch.float64)
    solution = solve_in_balls(
        regression,
        Balls(2.0, 0.3),
        lipschitz=regression.lipschitz(),
        start_XK=start_XK,
        max_steps=3,
    )
    assert solution.steps == 3
    assert solution.residual > TOLERANCE
    assert solve(regression, 2.0, 0.3).residual < TOLERANCE


def test_single_precision_reaches_the_tolerance_too():
    shots, text_KD = world(
        classes=20, width=32, per_class=4, spread=2.0, text_error=1.0, dtype=np.float32
    )
    start_DK = zero_shot_weight(text_KD, 100.0)
    regression = with_bias(regression_from_text(shots, start_DK))
    norm = float(np.linalg.norm(start_DK))
    for share in (0.01, 0.1, 1.0):
        assert solve(regression, share * norm, 1.0).residual < TOLERANCE


def literal_residual(shots, start_DK, weight_XK, radius):
    """Of the sum over the shots, in float64, without a bias."""
    feature_ND, weight_DK = shots.feature_ND.astype(np.float64), weight_XK[:-1].numpy()
    logits_NK = feature_ND @ (start_DK + weight_DK).astype(np.float64)
    share_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    share_NK /= share_NK.sum(axis=1, keepdims=True)
    share_NK[np.arange(len(share_NK)), shots.label_N] -= 1
    way_DK = -feature_ND.T @ share_NK
    if np.linalg.norm(weight_DK) > radius * (1 - 1e-6):
        way_DK -= (way_DK * weight_DK).sum() / (weight_DK**2).sum() * weight_DK
    return np.linalg.norm(way_DK)


@pytest.mark.parametrize("share", [0.03, 0.3, 1.0])
def test_it_stops_by_the_sum_over_the_shots_where_all_are_fitted(share):
    shots, text_KD = world(
        classes=20, width=64, per_class=8, spread=1.8, text_error=1.0, dtype=np.float32
    )
    start_DK = zero_shot_weight(text_KD, 100.0)
    regression = with_bias(regression_from_text(shots, start_DK))
    radius = share * float(np.linalg.norm(start_DK))
    solution = solve(regression, radius, 0.0)
    assert solution.residual < 1e-5
    assert literal_residual(shots, start_DK, solution.weight_XK, radius) < 2e-5


def test_where_single_precision_comes_no_nearer_double_goes_on():
    shots, text_KD = world(
        classes=60, width=64, per_class=16, spread=4.0, text_error=1.5, dtype=np.float32
    )
    start_DK = zero_shot_weight(text_KD, 100.0)
    regression = with_bias(regression_from_text(shots, start_DK))
    radius = 0.3 * float(np.linalg.norm(start_DK))
    solution = solve(regression, radius, 0.0)
    assert solution.residual < 1e-5
    assert solution.weight_XK.dtype == torch.float32
    assert solution.weight_XK[:-1].double().norm().item() <= radius


def test_starting_anew_and_steps_as_long_as_the_bend_allows_shorten_the_way():
    """30 steps; without starting anew it takes 80, with L at its bound from the start 60, at once
    after the first step that is too long 50.
    """
    shots, text_KD = world(classes=6, width=12, per_class=4, spread=2.0, text_error=1.0)
    start_DK = zero_shot_weight(text_KD, 100.0)
    regression = with_bias(regression_from_text(shots, start_DK))
    solution = solve(regression, 0.1 * float(np.linalg.norm(start_DK)), 1.0)
    assert solution.residual < TOLERANCE
    assert solution.steps <= 30
