"""A running average of the weights (EMA): often a better model than the last step's, and a teacher.

After each `every`-th update, averaged <- d * averaged + (1 - d) * weights, where d is `decay`, less
at first so that the random start is soon forgotten: min(decay, (1 + n) / (10 + n)) at update n
(TensorFlow's ExponentialMovingAverage; the idea is Polyak and Juditsky 1992).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from winnow.models.towers import Towers, unwrapped
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class WeightAverage:
    """A running average of the weights; it is what is evaluated and exported."""

    decay: float = 0.9995
    """What the average keeps of itself at an update, from 0 to 1: 0.9995 looks 2,000 updates back.
    """
    every: int = 1
    """Steps between updates of the average."""

    def __post_init__(self) -> None:
        if not (0 <= self.decay < 1 and self.every >= 1):
            raise InputError(
                f"WeightAverage: decay must be from 0 to below 1, every at least 1 (given: {self})"
            )

    def decay_at(self, update: int) -> float:
        """What is kept at this update, counted from 0."""
        return min(self.decay, (1 + update) / (10 + update))


def averaged_copy(towers: Towers) -> Towers:
    """What the average starts from: the same weights without heads, never trained."""
    heads, towers.heads = towers.heads, None
    try:
        average = copy.deepcopy(towers)
    finally:
        towers.heads = heads
    return average.requires_grad_(False).eval()


@torch.no_grad()
def update_average(
    average: nn.Module, towers: nn.Module, config: WeightAverage, *, step: int
) -> None:
    """Take the weights after `step` steps (from 1) into the average, where its turn has come."""
    if step % config.every:
        return
    share = 1 - config.decay_at(step // config.every - 1)
    own, new = unwrapped(average), unwrapped(towers)
    torch._foreach_lerp_(_parameters(own), _parameters(new), share)
    for kept, buffer in zip(own.clip.buffers(), new.clip.buffers(), strict=True):
        kept.copy_(buffer)


def _parameters(towers: Towers) -> list[Tensor]:
    """Of the model without its heads; of sharded ones the part that is here."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in towers.clip.parameters()]
