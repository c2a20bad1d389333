"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) beside AdamW, in one optimizer.

For a matrix W with gradient G, momentum m, rate r and decay d:

    B <- m B + (1 - m) G,   U = m B + (1 - m) G
    W <- (1 - r d) W - r 0.2 sqrt(max(rows, columns)) orthogonal(U)

where the orthogonal one has the singular vectors of U, and singular values near 1; the factor makes
it as long as an update of AdamW (Liu et al. 2025, arXiv 2502.16982), whose rate and decay it takes.

Libraries' Muon multiplies shards of a matrix, in bf16: where gradients have a low rank, its update
is then another one for every number of processes. Here a sharded matrix is gathered for it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's: steepest at 0, and no further from 1 than 0.7 to 1.2 after five iterations."""
_ITERATIONS = 5
IS_HIDDEN = "is_hidden"
"""The key of a group whose parameters are matrices for Muon."""


class MuonAdamW(torch.optim.AdamW):
    """Muon for the groups that are hidden, AdamW for the others.

    Its state is a `momentum_buffer` for the former, sharded as its matrix is.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, **options: Any) -> None:
        super().__init__(groups, **options)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all that has a gradient; sharded matrices are gathered one by one."""
        every = self.param_groups
        for group in every:
            if group[IS_HIDDEN]:
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        self._update(matrix, group)
        self.param_groups = [group for group in every if not group[IS_HIDDEN]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = every

    def _update(self, matrix: Tensor, group: dict[str, Any]) -> None:
        assert matrix.grad is not None, "matrices without a gradient are left out"
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
            # AdamW wants one of every state that it loads.
            state["step"] = torch.zeros((), dtype=torch.float32)
        buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - self._momentum)
        update = _orthogonal(matrix.grad.lerp(buffer, self._momentum))
        rows = matrix.shape[0]
        length = 0.2 * math.sqrt(max(rows, matrix.numel() // rows))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update * (-group["lr"] * length))


def _orthogonal(update: Tensor) -> Tensor:
    """With singular values near 1; a convolution is a matrix of a row for every output channel."""
    if isinstance(update, DTensor):
        whole = DTensor.from_local(
            _orthogonal(update.full_tensor()), update.device_mesh, [Replicate()]
        )
        return whole.redistribute(placements=update.placements)
    matrix = update.flatten(1)
    # Half of a GPU's bits suffice it, for the iteration need not converge; a CPU has no use for it.
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else matrix.dtype)
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if is_tall else x
    return x.to(update.dtype).view_as(update)
