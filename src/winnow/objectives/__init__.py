"""Objectives: a rule is one pure function of a block of rows; the engine makes it exact.

    loss = contrastive_loss(HardNegativeNCE(alpha=1.0, beta=0.25), image_BD, text_BD, scale)

Adding an objective is one file with its rule, one test with its literal double loop and its limit
case, and one line in a recipe. A rule that also states its closed form runs in tiles and kernels.
Concept distillation is no rule but a term of each pair, beside any of them.
"""

from winnow.objectives.batch import Loss
from winnow.objectives.concept_distillation import (
    ConceptDistillation,
    ConceptHeads,
    soft_cross_entropy,
)
from winnow.objectives.engine import contrastive_loss
from winnow.objectives.hard_negative import HardNegativeNCE
from winnow.objectives.hard_negative_distillation import HardNegativeSelfDistillation
from winnow.objectives.infonce import InfoNCE
from winnow.objectives.pairs import Context
from winnow.objectives.rows import RowLoss, Rows, Rule, Teacher
from winnow.objectives.self_distillation import ProgressiveSelfDistillation
from winnow.objectives.siglip import SigLIP

__all__ = [
    "ConceptDistillation",
    "ConceptHeads",
    "Context",
    "HardNegativeNCE",
    "HardNegativeSelfDistillation",
    "InfoNCE",
    "Loss",
    "ProgressiveSelfDistillation",
    "RowLoss",
    "Rows",
    "Rule",
    "SigLIP",
    "Teacher",
    "contrastive_loss",
    "soft_cross_entropy",
]
