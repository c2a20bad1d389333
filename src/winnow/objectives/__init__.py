"""Objectives: a rule is one pure function of a block of rows; the engine makes it exact.

    loss = contrastive_loss(HardNegativeNCE(alpha=1.0, beta=0.25), image_BD, text_BD, scale)

Adding an objective is one file with its rule, one test with its literal double loop and its limit
case, and one line in a recipe.
"""

from winnow.objectives.engine import Loss, contrastive_loss
from winnow.objectives.hard_negative import HardNegativeNCE
from winnow.objectives.infonce import InfoNCE
from winnow.objectives.rows import Context, RowLoss, Rows, Rule, Teacher
from winnow.objectives.self_distillation import ProgressiveSelfDistillation

__all__ = [
    "Context",
    "HardNegativeNCE",
    "InfoNCE",
    "Loss",
    "ProgressiveSelfDistillation",
    "RowLoss",
    "Rows",
    "Rule",
    "Teacher",
    "contrastive_loss",
]
