"""InfoNCE, the loss of CLIP (Radford et al. 2021, section 2.3): the baseline of every comparison.

i2t_i = -s_ii + log Σ_j exp s_ij          t2i_i = -s_ii + log Σ_j exp s_ji
"""

from dataclasses import dataclass

from torch import Tensor

from winnow.objectives.closed_form import Measure
from winnow.objectives.pairs import Pairs
from winnow.objectives.rows import RowLoss, Rows, own_pair_costs, own_pair_diagnostics
from winnow.objectives.softmax_form import SoftmaxForm


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Each picture picks its caption among all captions of the batch, and the other way round."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Nothing is needed of the whole batch."""
        return {}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        image_C, text_C = own_pair_costs(rows)
        return RowLoss(
            loss_C=(image_C + text_C) / 2,
            diagnostics=own_pair_diagnostics(rows),
        )

    def closed_form(self, pairs: Pairs, measure: Measure) -> SoftmaxForm:
        """The same loss for the tiled and triton executions."""
        return SoftmaxForm()
