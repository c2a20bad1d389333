"""Optimizers as CLIP uses them: no decay on gains, biases and the temperature.

Heads of concept distillation have the factors that these give them, and in fine-tuning the layers
of a tower those of its depth.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from winnow.models.locking import FineTuning, layer_factors
from winnow.models.towers import Towers
from winnow.objectives import ConceptDistillation
from winnow.training.orthogonal import IS_HIDDEN, MuonAdamW
from winnow.training.schedule import Schedule
from winnow.types import InputError


@dataclass(frozen=True)
class Trained:
    """A parameter, and how it is trained."""

    parameter: Tensor
    weight_decay: float
    factor: float
    """Of the learning rate."""
    is_hidden: bool
    """Whether it is a matrix inside a block of a tower, which maps features to features."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Schedule, ABC):
    """What every optimizer here has, with CLIP's constants (Radford et al. 2021, table 18)."""

    weight_decay: float = 0.2
    """Decoupled; only on parameters of two or more dimensions."""
    beta1: float = 0.9
    """Decay of the gradient's mean in AdamW."""
    beta2: float = 0.98
    """Decay of the gradient's square in AdamW."""
    epsilon: float = 1e-6
    """Added to AdamW's denominator."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm; `inf` leaves them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.max_gradient_norm > 0:
            raise InputError(
                f"max_gradient_norm {self.max_gradient_norm} of an optimizer must be above 0"
            )

    @abstractmethod
    def build(self, trained: Sequence[Trained]) -> torch.optim.Optimizer:
        """The optimizer of these parameters, whose groups carry the factors of the rate."""

    def _of_adamw(self) -> dict[str, Any]:
        betas = (self.beta1, self.beta2)
        return {"lr": self.learning_rate, "betas": betas, "eps": self.epsilon, "fused": True}


@final
@dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019), in one fused kernel."""

    def build(self, trained: Sequence[Trained]) -> torch.optim.Optimizer:
        """torch's."""
        return torch.optim.AdamW(_grouped(trained), **self._of_adamw())


@final
@dataclass(frozen=True, kw_only=True)
class Muon(OptimizerConfig):
    """Muon (Jordan et al. 2024) on the matrices within the blocks, AdamW on everything else.

    Its update is the gradient's mean with all singular values near 1, made as long as AdamW's, so
    that learning rate and decay are those of AdamW. Convolutions are matrices of a row for every
    output channel; depthwise ones stay with AdamW.
    """

    momentum: float = 0.95
    """Decay of the gradient's mean, where the update is Muon's; its length is the same whatever
    `max_gradient_norm` does to a gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum {self.momentum} of Muon must be from 0 to below 1")

    def build(self, trained: Sequence[Trained]) -> torch.optim.Optimizer:
        """Both updates in one optimizer."""
        hidden = _grouped([one for one in trained if one.is_hidden])
        others = _grouped([one for one in trained if not one.is_hidden])
        groups = [group | {IS_HIDDEN: True} for group in hidden]
        groups += [group | {IS_HIDDEN: False} for group in others]
        return MuonAdamW(groups, momentum=self.momentum, **self._of_adamw())


Optimizer = AdamW | Muon
"""The optimizers that a recipe may choose from."""


def build_optimizer(
    towers: Towers,
    config: Optimizer,
    concepts: ConceptDistillation | None = None,
    *,
    fine_tuning: FineTuning | None = None,
) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters, sharded or not.

    `concepts` has the heads' factors, `fine_tuning` those of the towers' layers.
    """
    factors = {} if fine_tuning is None else layer_factors(towers.clip, fine_tuning)
    blocks = towers.blocks()
    hidden = {id(parameter) for block in blocks for parameter in block.parameters()}
    trained = _trained(
        towers.clip, weight_decay=config.weight_decay, factors=factors, hidden=hidden
    )
    if concepts is not None and towers.heads is not None:
        every = dict.fromkeys(dict(towers.heads.named_parameters()), concepts.learning_rate_factor)
        decay = config.weight_decay * concepts.weight_decay_factor
        trained += _trained(towers.heads, weight_decay=decay, factors=every, hidden=set())
    return config.build(trained)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: Optimizer, *, step: int, steps: int
) -> float:
    """Set the learning rate of `step` (from 0) of `steps`, and return it."""
    rate = config.rate(step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1.0)
    return rate


_FACTOR = "learning_rate_factor"
_LEAST_SIDE = 8
"""Rows and columns from which on singular values say something."""


def _trained(
    module: nn.Module, *, weight_decay: float, factors: dict[str, float], hidden: set[int]
) -> list[Trained]:
    """The trainable parameters of a module: matrices, which decay, then vectors, which do not."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return [
        Trained(
            parameter=parameter,
            weight_decay=weight_decay if is_matrix else 0.0,
            factor=factors.get(name, 1.0),
            is_hidden=id(parameter) in hidden and _maps_features(parameter),
        )
        for is_matrix in (True, False)
        for name, parameter in named
        if (parameter.ndim >= 2) is is_matrix
    ]


def _maps_features(parameter: Tensor) -> bool:
    """Whether it is a matrix, or as good as one; not filters of one channel, nor a few vectors."""
    if parameter.ndim < 2 or (parameter.ndim > 2 and parameter.shape[1] == 1):
        return False
    rows = parameter.shape[0]
    return min(rows, parameter.numel() // rows) >= _LEAST_SIDE


def _grouped(trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """torch's groups: what has the same decay and the same factor, in the order of the first."""
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for one in trained:
        key = (one.parameter.ndim >= 2, one.weight_decay, one.factor)
        fresh = {"params": [], "weight_decay": one.weight_decay, _FACTOR: one.factor}
        groups.setdefault(key, fresh)["params"].append(one.parameter)
    return list(groups.values())
