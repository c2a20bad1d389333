"""Projected FISTA: softmax regression inside two balls.

    min f(W, b)  over  ‖W‖ <= δ, ‖b‖ <= δ_b        (Frobenius and Euclidean norms)

FISTA (Beck and Teboulle 2009). A step of 1/L is safe at L = λ_max(X̃ᵀX̃) / (2N), X̃ = [X, 1]; on the
sum over the shots instead of the mean the same step is 2/λ_max(X̃ᵀX̃). Where the probe is sure of
most shots f bends far less than that, and ever less as it gets surer, so L begins at 1/64 of the
bound, falls by a tenth before each step and doubles, up to the bound, whenever a step bends f more
than L says (their backtracking). Where momentum points uphill it starts anew, with L at a quarter
(O'Donoghue and Candès 2015, gradient scheme). Every step ends with a projection, so every iterate
keeps both bounds, rounding included.

It stops when the **projected residual** of the sum over the N shots is below the tolerance: N times
the norm of -∇f projected onto the directions that do not leave the balls. It is 0 at the optimum
and only there, and unlike a length of step it does not drown in the rounding of a large W. Of the
mean it would be small wherever all shots are fitted, well before the ball's edge. Where float32
comes no nearer, float64 goes on.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from winnow.evaluation.few_shot.softmax_regression import Regression, bend

TOLERANCE = 1e-5
MAX_STEPS = 1000
_STEPS_PER_CHECK = 10  # a check costs as much as a step
_PATIENCE = 3  # checks without a lower residual, after which float32 has given what it can
_SHRINK = 0.9  # of L before each step
_EDGE = 1e-6  # of the radius: so near, rounding may hide that a point is on the edge


class Balls(NamedTuple):
    """Radii, in the units of the weights."""

    weight: float
    bias: float


class Solution(NamedTuple):
    """Where the solver stopped; the last row of the weight is the bias."""

    weight_XK: Tensor
    residual: float
    """Of the sum over the shots."""
    steps: int


def solve_in_balls(
    regression: Regression,
    balls: Balls,
    *,
    lipschitz: float,
    start_XK: Tensor,
    max_steps: int = MAX_STEPS,
) -> Solution:
    """Minimize from `start_XK`, the last row of which is the bias."""
    found = _search(regression, balls, lipschitz, start_XK, max_steps)
    if found.residual < TOLERANCE or start_XK.dtype == torch.float64:
        return found
    exact = _search(
        regression.double(), balls, lipschitz, found.weight_XK.double(), max_steps - found.steps
    )
    # Rounding may take it out of the balls.
    weight_XK = project(exact.weight_XK.to(start_XK.dtype), balls)
    return Solution(weight_XK, exact.residual, found.steps + exact.steps)


def _search(
    regression: Regression, balls: Balls, lipschitz: float, start_XK: Tensor, max_steps: int
) -> Solution:
    """In the precision of the start; the best of the checked iterates."""
    num_shots = len(regression.label_N)
    current_XK = project(start_XK, balls)
    iterates = descend(regression, balls, lipschitz=lipschitz, start_XK=current_XK)
    patience = _PATIENCE * _STEPS_PER_CHECK if start_XK.dtype != torch.float64 else max_steps
    best = Solution(current_XK, float("inf"), 0)
    for steps in range(max_steps + 1):
        if steps % _STEPS_PER_CHECK == 0 or steps == max_steps:
            gradient_XK = regression.gradient(regression.logits(current_XK))
            residual = num_shots * projected_residual(current_XK, gradient_XK, balls)
            if residual < best.residual:
                best = Solution(current_XK, residual, steps)
            if best.residual < TOLERANCE or steps - best.steps >= patience:
                break
        if steps < max_steps:
            current_XK = next(iterates)
    return best._replace(steps=steps)


def descend(
    regression: Regression, balls: Balls, *, lipschitz: float, start_XK: Tensor
) -> Iterator[Tensor]:
    """Every next iterate, without end; `lipschitz` bounds how much f can bend."""
    current_XK = ahead_XK = start_XK
    logits_NK = ahead_logits_NK = regression.logits(start_XK)
    momentum, bound = 1.0, lipschitz / 64
    while True:
        gradient_XK = regression.gradient(ahead_logits_NK)
        bound *= _SHRINK
        while True:
            next_XK = project(ahead_XK - gradient_XK / bound, balls)
            next_logits_NK = regression.logits(next_XK)
            allowed = bound / 2 * (next_XK - ahead_XK).double().square().sum().item()
            if bound >= lipschitz or bend(ahead_logits_NK, next_logits_NK) <= allowed:
                break
            bound = min(2 * bound, lipschitz)
        if torch.sum((ahead_XK - next_XK) * (next_XK - current_XK)) > 0:
            momentum, bound = 1.0, bound / 4
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        reach = 1 + (momentum - 1) / next_momentum
        ahead_XK = torch.lerp(current_XK, next_XK, reach)
        ahead_logits_NK = torch.lerp(logits_NK, next_logits_NK, reach)
        current_XK, logits_NK, momentum = next_XK, next_logits_NK, next_momentum
        yield current_XK


def project(weight_XK: Tensor, balls: Balls) -> Tensor:
    """The nearest point inside both balls."""
    return torch.cat([_inside(weight_XK[:-1], balls.weight), _inside(weight_XK[-1:], balls.bias)])


def projected_residual(weight_XK: Tensor, gradient_XK: Tensor, balls: Balls) -> float:
    """How steep it still is downhill, without leaving the balls."""
    blocks = (slice(None, -1), balls.weight), (slice(-1, None), balls.bias)
    squares = [
        _tangential(weight_XK[rows], gradient_XK[rows], radius).square().sum().item()
        for rows, radius in blocks
    ]
    return sum(squares) ** 0.5


def _inside(block: Tensor, radius: float) -> Tensor:
    norm = torch.linalg.vector_norm(block, dtype=torch.float64).item()
    if norm <= radius:
        return block
    # A hair shorter, since rounding may lengthen every entry by half of one.
    return block * (radius / norm * (1 - 2 * torch.finfo(block.dtype).eps))


def _tangential(block: Tensor, gradient: Tensor, radius: float) -> Tensor:
    """-gradient, without what of it points out of the ball."""
    if radius == 0:
        return torch.zeros_like(gradient)
    square = block.double().square().sum()
    on_the_edge = square.sqrt() >= radius * (1 - _EDGE)
    outwards = -torch.sum(gradient.double() * block.double())
    if not on_the_edge or outwards <= 0:
        return -gradient
    return -gradient - (outwards / square).to(block.dtype) * block
