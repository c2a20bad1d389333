"""What the two-pass executions need of a rule: sums over a row, and the gradient given those.

The N x N logits are walked twice in tiles that are never kept. The first walk adds up per row what
the loss needs (statistics); the second turns each tile into dL/ds, which is a function of the tile
and of the statistics alone. One tile serves both directions: its rows are image to text, its
columns text to image, and a form is written for rows only.

A tile holds negatives. The own pair and forbidden columns stand in it as MASKED and never count;
the own logit s_ii, the same number in both directions, is a vector beside the tiles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from winnow.objectives.pairs import Pairs

Statistics = dict[str, Tensor]
"""Sums over a row's negatives by name. Gathered, each is (2, N): image to text, text to image."""


@dataclass(frozen=True, kw_only=True)
class TargetTiles:
    """Which teacher's logits a form wants beside the model's."""

    swap: bool
    """Row i's target is made of the other direction's affinities, t_i·x_j for s_ij."""
    temperature: float
    """Divides the teacher's logits."""
    columns_N: Tensor | None = None
    """bool: the columns that targets spread over beside the own pair; None for all."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The batch after the first walk, the same on every rank."""

    own_N: Tensor
    """s_ii."""
    target_own_N: Tensor | None
    """The teacher's own logits, where the form wants a teacher."""
    scale: Tensor
    statistics_2N: Statistics


@dataclass(frozen=True, kw_only=True)
class Settled:
    """All that the second walk and the caller need."""

    loss_N: Tensor
    """(i2t_i + t2i_i) / 2."""
    own_gradient_N: Tensor
    """dL/ds_ii of the total loss, both directions together."""
    gradient_terms: tuple["GradientTerm", ...]
    """What dL/ds_ij of a negative is the sum of."""
    diagnostics_N: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class GradientTerm:
    """One term of dL/ds_ij of a negative: sign · exp(power · logit_ij - shift_i)."""

    sign: int
    power: float
    shift_2N: Tensor
    """Of each row in each direction; the pair's weight in the mean is in it."""
    of_target: bool = False
    """The logit is the teacher's, not the model's."""


class ClosedForm(Protocol):
    """A loss of rows by its statistics and its gradient. `logits_RC` is a tile of one direction."""

    @property
    def targets(self) -> TargetTiles | None:
        """The teacher's tiles that are wanted, if any."""
        ...

    @property
    def identity(self) -> Mapping[str, float]:
        """Each statistic of no columns at all."""
        ...

    def observe(self, logits_RC: Tensor, target_RC: Tensor | None) -> Statistics:
        """(R,) the statistics of these columns alone."""
        ...

    def merge(self, parts_P: Statistics) -> Statistics:
        """Join statistics of P disjoint sets of columns, stacked along the first dimension."""
        ...

    def settle(self, observed: Observed, pairs: Pairs) -> Settled:
        """Loss and gradients, once every column has been seen."""
        ...

    def gradient(
        self,
        settled: Settled,
        direction: int,
        rows: slice,
        logits_RC: Tensor,
        target_RC: Tensor | None,
    ) -> Tensor:
        """(R, C) dL/ds of the negatives in one direction; 0 where MASKED."""
        ...


Measure = Callable[[ClosedForm], Observed]
"""One walk over the batch for a form's statistics."""


@runtime_checkable
class ClosedFormRule(Protocol):
    """A rule that the two-pass executions can run."""

    def closed_form(self, pairs: Pairs, measure: Measure) -> ClosedForm:
        """The rule on this batch; `measure` may be called where it takes a walk to say."""
        ...
