"""L-BFGS for a convex function, in the metric of something that resembles its Hessian.

    θ ← θ - t H ∇F(θ),   H the inverse Hessian by the last pairs (s, y) of steps and changes of the
    gradient, beginning from γ P,   P the inverse of what resembles it,
    γ = sᵀy / yᵀP y of the newest pair

Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5. Three things are
why this is not `torch.optim.LBFGS`: the pairs can be handed on to the next problem, the first step
has length 1 in that metric, where torch begins at 1 / ‖∇F‖₁ and searches its way up, and it ends by
what is still to be gained:

    ½ ∇Fᵀ H ∇F <= tolerance F(θ)

which is the decrease that the quadratic model promises, and needs no unit.

The function is convex, so a step that decreases it enough (Armijo) leaves sᵀy > 0, and the step is
only ever made shorter. Its values are sums of float32 numbers: a rise within `NOISE` is none.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

MEMORY = 20
"""Pairs that are kept."""
NOISE = 1e-7
"""Of the value: what rounding may add to it."""
_DECREASE = 1e-4
_SHORTEST = 1e-4


class Pair(NamedTuple):
    """A step and what it changed the gradient by."""

    step: Tensor
    change: Tensor


class Point(NamedTuple):
    """Where the function was evaluated."""

    at: Tensor
    value: float
    gradient: Tensor


class Minimum(NamedTuple):
    """Where it ended."""

    point: Point
    iterations: int
    evaluations: int
    converged: bool
    """The tolerance was met; if not, the iterations ran out or rounding let no step succeed."""
    pairs: list[Pair]


def minimize(
    evaluate: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    pairs: list[Pair],
    tolerance: float,
    max_iterations: int,
) -> Minimum:
    """From `start`, of any shape. `precondition` is P: linear, symmetric, positive; `pairs` may be
    empty.

    `evaluate` gives a value of at least 0 and the gradient. Pairs are of this very function.
    """
    point = Point(start, *evaluate(start))
    pairs, iterations, evaluations = list(pairs), 0, 1
    while True:
        direction = _direction(point.gradient, pairs, precondition)
        gain = _dot(direction, point.gradient)
        if gain / 2 <= tolerance * point.value:
            return Minimum(point, iterations, evaluations, True, pairs)
        if iterations == max_iterations:
            return Minimum(point, iterations, evaluations, False, pairs)
        found, tried = _search(evaluate, point, direction, gain)
        evaluations += tried
        if found is not None:
            step = Pair(found.at - point.at, found.gradient - point.gradient)
            if _dot(*step) > 0:
                pairs = [*pairs, step][-MEMORY:]
            point, iterations = found, iterations + 1
        elif pairs:
            # What the pairs say of the curvature is of no use here: begin anew without them.
            pairs = []
        else:
            return Minimum(point, iterations, evaluations, False, pairs)


def _direction(
    gradient: Tensor, pairs: list[Pair], precondition: Callable[[Tensor], Tensor]
) -> Tensor:
    """H times the gradient, by the recursion over the pairs, there and back."""
    rest = gradient.clone()
    weights = []
    for step, change in reversed(pairs):
        weight = _dot(step, rest) / _dot(step, change)
        weights.append(weight)
        rest -= weight * change
    rest = precondition(rest)
    if pairs:
        step, change = pairs[-1]
        rest *= _dot(step, change) / _dot(change, precondition(change))
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        rest += (weight - _dot(change, rest) / _dot(step, change)) * step
    return rest


def _search(
    evaluate: Callable[[Tensor], tuple[float, Tensor]],
    point: Point,
    direction: Tensor,
    gain: float,
) -> tuple[Point | None, int]:
    """The first of the lengths 1, then ever shorter ones, that decreases enough; and the tries."""
    length, tried = 1.0, 0
    while length >= _SHORTEST:
        at = point.at - length * direction
        new = Point(at, *evaluate(at))
        tried += 1
        rise = new.value - point.value
        if rise <= NOISE * point.value - _DECREASE * length * gain:
            return new, tried
        # To the lowest point of the parabola through what is known, or to a tenth.
        lowest = gain * length**2 / (2 * (rise + gain * length)) if math.isfinite(rise) else 0.0
        length = min(max(lowest, length / 10), length / 2)
    return None, tried


def _dot(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum())
