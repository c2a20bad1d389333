"""The learning rate of every step: a linear warm-up, then one of two ways down.

With peak p, w steps of warm-up and c of cool-down, in N steps, step s (from 0) has

    s < w       p (s + 1) / w
    cosine      p (1 + cos(pi (s - w) / (N - w))) / 2
    constant    p, and in the last c steps p (N - s) / c

The constant one need not know N before its cool-down begins, so that one long run can be cooled
down from several of its checkpoints (Zhai et al. 2022, arXiv 2106.04560, section 3.5).
"""

import math
from dataclasses import dataclass
from typing import Literal

from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How large the steps of a run are, from its first to its last."""

    learning_rate: float = 1e-3
    """Peak, reached at the end of the warm-up."""
    warmup_steps: int = 100
    """Steps of linear warm-up, the first at 1 / warmup_steps of the peak."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: along a cosine to 0, or at the peak until the cool-down."""
    cooldown_steps: int = 0
    """Last steps of a constant schedule, in which it falls to 0 along a line."""

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.warmup_steps >= 0 and self.cooldown_steps >= 0):
            raise InputError(
                "learning_rate of an optimizer must be above 0, warmup_steps and cooldown_steps at "
                f"least 0 (given: {self})"
            )
        if self.cooldown_steps and self.schedule == "cosine":
            raise InputError(
                f"cooldown_steps {self.cooldown_steps} are of a constant schedule, and a cosine "
                "falls by itself: take schedule `constant`, or leave them out"
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step` (from 0) of `steps`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            left = steps - step
            return self.learning_rate * min(1.0, left / max(1, self.cooldown_steps))
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
