"""Loss scaling for fp16, whose smallest number is 6e-8: gradients are computed larger, and divided.

The factor falls to half when a gradient overflows, and that step moves no weight; after
`growth_steps` steps without one it doubles (Micikevicius et al. 2018, section 3.2). torch's own
GradScaler looks at the gradients of one rank, which under FSDP2 are not all; here the norm over all
ranks, which the step computes anyway, tells.
"""

import math
from typing import Any

from winnow.types import InputError

_LEAST = 2.0**-10


class LossScale:
    """The factor, and how many steps it has held."""

    def __init__(self, value: float = 2.0**16, *, growth_steps: int = 2000) -> None:
        self.value = value
        self.skipped = 0
        """Steps that moved no weight so far."""
        self._growth_steps, self._held = growth_steps, 0

    def accepts(self, gradient_norm: float) -> bool:
        """Whether a step with this norm may move weights; the factor changes for the next.

        Raises InputError where gradients overflow however small the factor: it is the model.
        """
        if math.isfinite(gradient_norm):
            self._held += 1
            if self._held == self._growth_steps:
                self.value, self._held = self.value * 2, 0
            return True
        self.value, self._held = self.value / 2, 0
        self.skipped += 1
        if self.value < _LEAST:
            raise InputError(
                f"gradients overflow in fp16 even {self.value:g} times their size: train in bf16 "
                "or fp32, or lower the learning rate, in another --out"
            )
        return False

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"value": self.value, "held": self._held, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave once."""
        self.value, self._held = float(state["value"]), int(state["held"])
        self.skipped = int(state["skipped"])
