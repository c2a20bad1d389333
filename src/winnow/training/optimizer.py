"""AdamW as CLIP uses it: warm-up, cosine, no decay on gains, biases and the temperature.

Heads of concept distillation have groups of their own, with the factors that it gives them.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from winnow.models.towers import Towers
from winnow.objectives import ConceptDistillation
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019) with CLIP's constants (Radford et al. 2021, table 18)."""

    learning_rate: float = 1e-3
    """Peak, reached at the end of the warm-up."""
    weight_decay: float = 0.2
    """Decoupled; only on parameters of two or more dimensions."""
    beta1: float = 0.9
    """Decay of the gradient's mean."""
    beta2: float = 0.98
    """Decay of the gradient's square."""
    epsilon: float = 1e-6
    """Added to the denominator."""
    warmup_steps: int = 100
    """Steps of linear warm-up, the first at 1 / warmup_steps of the peak."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm; `inf` leaves them."""

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.warmup_steps >= 0 and self.max_gradient_norm > 0):
            raise InputError(
                "learning_rate and max_gradient_norm must be above 0, warmup_steps at least 0 "
                f"(given: {self})"
            )


def build_optimizer(
    towers: Towers, config: OptimizerConfig, concepts: ConceptDistillation | None = None
) -> torch.optim.AdamW:
    """The optimizer over all trainable parameters; `concepts` has the heads' factors."""
    groups = _groups(towers.clip, weight_decay=config.weight_decay, factor=1.0)
    if concepts is not None and towers.heads is not None:
        decay = config.weight_decay * concepts.weight_decay_factor
        groups += _groups(towers.heads, weight_decay=decay, factor=concepts.learning_rate_factor)
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True
    )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, *, step: int, steps: int
) -> float:
    """Set the learning rate of `step` (from 0) of `steps`, and return it."""
    if step < config.warmup_steps:
        factor = (step + 1) / config.warmup_steps
    else:
        done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        factor = (1 + math.cos(math.pi * done)) / 2
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor * group.get(_FACTOR, 1.0)
    return config.learning_rate * factor


_FACTOR = "learning_rate_factor"


def _groups(module: nn.Module, *, weight_decay: float, factor: float) -> list[dict[str, Any]]:
    """The trainable parameters of a module: matrices, which decay, and vectors, which do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay, _FACTOR: factor},
        {"params": vectors, "weight_decay": 0.0, _FACTOR: factor},
    ]
