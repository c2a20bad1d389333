"""HN-NCE's negatives with PSD's soft targets: the composition that neither paper tries.

    loss_i = log D_i - Σ_j A_ij s_ij          D_i = α exp s_ii + Σ_{j≠i} w_ij exp s_ij

D is HN-NCE's denominator (hard_negative.py), A the targets of PSD (self_distillation.py). A one-hot
A is HN-NCE; (α, β) = (1, 0) is PSD. The formula is ours.
"""

from dataclasses import dataclass, field, replace

from torch import Tensor

from winnow.objectives.closed_form import Measure
from winnow.objectives.hard_negative import HardNegativeNCE
from winnow.objectives.pairs import Pairs
from winnow.objectives.rows import RowLoss, Rows
from winnow.objectives.self_distillation import ProgressiveSelfDistillation
from winnow.objectives.softmax_form import SoftmaxForm


@dataclass(frozen=True, kw_only=True)
class HardNegativeSelfDistillation:
    """Hard negatives for every pair, soft targets for some."""

    negatives: HardNegativeNCE = field(default_factory=HardNegativeNCE)
    """How negatives weigh."""
    targets: ProgressiveSelfDistillation = field(default_factory=ProgressiveSelfDistillation)
    """Which pairs take soft targets, and how soft."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """What the choice of the soft pairs needs."""
        return self.targets.prepare(rows)

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        image_C, text_C = self.negatives.own_pair_costs(rows)
        gap_C, diagnostics = self.targets.gaps(rows)
        return RowLoss(
            loss_C=(image_C + text_C) / 2 + gap_C,
            diagnostics=self.negatives.diagnostics(rows) | diagnostics,
        )

    def closed_form(self, pairs: Pairs, measure: Measure) -> SoftmaxForm:
        """The same loss for the tiled and triton executions."""
        negatives = self.negatives
        return replace(
            self.targets.closed_form(pairs, measure),
            alpha=negatives.alpha,
            beta=negatives.beta,
            detach_weights=negatives.detach_weights,
        )
