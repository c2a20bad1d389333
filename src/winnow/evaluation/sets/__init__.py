"""Evaluation sets: what one is on disk, a reader for each layout."""

from winnow.evaluation.sets.evaluation_set import (
    EvaluationSet,
    LabelKind,
    MissingSetError,
    Sample,
    open_set,
    splits_of,
)

__all__ = ["EvaluationSet", "LabelKind", "MissingSetError", "Sample", "open_set", "splits_of"]
