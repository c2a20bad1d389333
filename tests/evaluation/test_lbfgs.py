"""L-BFGS against its dense formula, and where it has to shorten, to skip or to begin anew."""

import math

import numpy as np
import pytest
import torch

from winnow.evaluation.lbfgs import Pair, minimize


def quadratic(width, *, seed=0, floor=5.0):
    """(evaluate, Hessian, where it is least); its least value is `floor`."""
    rng = np.random.default_rng(seed)
    root = torch.from_numpy(rng.normal(size=(width, width)))
    hessian = root @ root.T + 0.1 * torch.eye(width)
    least = torch.from_numpy(rng.normal(size=width))

    def evaluate(at):
        away = at - least
        return floor + float(away @ hessian @ away) / 2, hessian @ away

    return evaluate, hessian, least


def minimized(evaluate, start, precondition=torch.clone, *, pairs=(), **kwargs):
    settings = {"tolerance": 1e-12, "max_iterations": 500} | kwargs
    start = torch.as_tensor(start, dtype=torch.float64)
    return minimize(evaluate, start, precondition, pairs=list(pairs), **settings)


def literal_inverse(pairs, inverse):
    """H = (1 - ρ s yᵀ) H (1 - ρ y sᵀ) + ρ s sᵀ from the oldest pair on, beginning at γ P."""
    step, change = pairs[-1]
    found = inverse * (step @ change) / (change @ inverse @ change)
    for step, change in pairs:
        share = 1 / (step @ change)
        left = torch.eye(len(step)) - share * torch.outer(step, change)
        found = left @ found @ left.T + share * torch.outer(step, step)
    return found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("num_pairs", [1, 2, 4])
def test_a_step_is_that_of_the_dense_formula_and_the_unit_of_p_does_not_matter(num_pairs, scale):
    evaluate, hessian, _ = quadratic(6)
    steps = torch.from_numpy(np.random.default_rng(1).normal(size=(num_pairs, 6)))
    pairs = [Pair(step, hessian @ step) for step in steps]
    inverse = scale * torch.diag(1 / hessian.diagonal())
    start = torch.zeros(6, dtype=torch.float64)
    found = minimized(
        evaluate, start, lambda slope: inverse @ slope, pairs=pairs, max_iterations=1, tolerance=0
    )
    assert found.evaluations == 2  # length 1 was taken
    expected = -literal_inverse(pairs, inverse) @ evaluate(start)[1]
    torch.testing.assert_close(found.point.at, expected, rtol=1e-9, atol=1e-9)


def test_with_all_pairs_of_a_quadratic_one_step_is_enough():
    evaluate, hessian, least = quadratic(6)
    # Along its own directions the pairs know all of the Hessian.
    pairs = [Pair(step, hessian @ step) for step in torch.linalg.eigh(hessian).eigenvectors.T]
    found = minimized(evaluate, torch.zeros(6), pairs=pairs)
    assert (found.converged, found.iterations) == (True, 1)
    torch.testing.assert_close(found.point.at, least, rtol=1e-9, atol=1e-9)


def test_the_last_twenty_pairs_are_kept():
    evaluate, hessian, _ = quadratic(40)

    def precondition(slope):
        return slope / hessian.diagonal()

    found = minimized(evaluate, torch.zeros(40), precondition)
    assert found.converged
    assert found.point.value == pytest.approx(5, rel=1e-9)
    assert found.iterations > 20
    assert len(found.pairs) == 20
    for step, change in found.pairs:
        torch.testing.assert_close(change, hessian @ step, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("tolerance", "iterations"), [(0.101, 0), (0.099, 1)])
def test_it_ends_by_what_is_still_to_be_gained(tolerance, iterations):
    """1 + x²/2 where a tenth of its value is above the least one, and P is its inverse Hessian."""
    start = [math.sqrt(2 / 9)]
    found = minimized(
        lambda at: (1 + float(at.square().sum()) / 2, at.clone()), start, tolerance=tolerance
    )
    assert (found.converged, found.iterations) == (True, iterations)


@pytest.mark.parametrize("outside", [math.inf, math.nan])
def test_a_step_to_where_the_function_is_not_finite_is_made_shorter(outside):
    """1 - log(1 - x²) from 0.9, where the first step in the metric of 1 goes far over the edge."""

    def evaluate(at):
        x = float(at)
        if abs(x) >= 1:
            return outside, torch.full_like(at, math.nan)
        return 1 - math.log1p(-(x**2)), 2 * at / (1 - at**2)

    found = minimized(evaluate, [0.9], tolerance=1e-9)
    assert found.converged
    assert found.evaluations > found.iterations + 1
    assert abs(float(found.point.at)) < 1e-3


def test_pairs_that_are_wrong_are_dropped():
    """They say that the function hardly bends, so every step that they give is far too long."""
    evaluate, _, least = quadratic(4)
    poisoned = [Pair(step, 1e-9 * step) for step in torch.eye(4, dtype=torch.float64)]
    found = minimized(evaluate, torch.zeros(4), lambda slope: slope / 100, pairs=poisoned)
    assert found.converged
    torch.testing.assert_close(found.point.at, least, rtol=0, atol=1e-4)


def test_a_step_along_which_the_gradient_stays_is_no_pair():
    """Huber's function is a straight line from 10 to 1, where a pair would divide by 0."""

    def evaluate(at):
        x = float(at)
        return 1 + (x**2 / 2 if abs(x) <= 1 else abs(x) - 0.5), at.clamp(-1, 1)

    found = minimized(evaluate, [10.0])
    assert found.converged
    assert float(found.point.at) == 0
    assert len(found.pairs) == 1


def test_a_rise_of_a_rounding_is_none():
    """Values of float32, which are 1 around the minimum, and the true gradient."""
    found = minimized(
        lambda at: (float(np.float32(1 + float(at.square().sum()) / 2)), at.clone()), [1e-4]
    )
    assert (found.converged, found.iterations) == (True, 1)


def test_a_step_that_helps_nowhere_ends_unconverged():
    start = torch.ones(3, dtype=torch.float64)
    uphill = minimized(
        lambda at: (1 + float((at - start).square().sum()), -torch.ones(3, dtype=torch.float64)),
        start,
        tolerance=1e-9,
        max_iterations=100,
    )
    assert (uphill.converged, uphill.iterations) == (False, 0)
