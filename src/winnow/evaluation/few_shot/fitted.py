"""What every few-shot method gives back, and how a hyper-parameter is chosen.

Of a grid, the candidate that has most of the further shots right is taken; of equals the one with
the lowest cross-entropy on them, and of those the first, so grids begin at their most cautious end.
Without further shots nothing is chosen and a fixed candidate is taken.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from winnow.evaluation.features import Labelled


class Classifier(Protocol):
    """Gives each picture a logit per class."""

    def logits(self, feature_ND: np.ndarray) -> np.ndarray:
        """(N, K) float32, from features of norm 1."""
        ...


class Fitted(NamedTuple):
    """A probe, and what was chosen for it by what data."""

    classifier: Classifier
    settings: Mapping[str, object]
    """What json can hold; "chosen_by" says which data chose, and never means test data."""
    tie: float = 0.0
    """Logits this near to each other are equal."""

    def logits(self, feature_ND: np.ndarray) -> np.ndarray:
        """(N, K) float32, from features of norm 1."""
        return self.classifier.logits(feature_ND)


NOTHING_CHOSEN = "nothing to choose"
FIXED = "fixed: no further shots"


def chosen_by(validation: Labelled) -> str:
    """The words of `settings` for a choice."""
    return f"accuracy, then cross-entropy on {len(validation.label_N)} further shots"


def best(candidates: Iterable[Fitted], validation: Labelled) -> Fitted:
    """The candidate that does best on the further shots, the first of equals."""
    lead, kept = (-1, 0.0), None
    for candidate in candidates:
        logits_NK = candidate.logits(validation.feature_ND)
        right = int(np.sum(logits_NK.argmax(axis=1) == validation.label_N))
        score = right, -cross_entropy(logits_NK, validation.label_N)
        if kept is None or score > lead:
            lead, kept = score, candidate
    assert kept is not None, "a grid has candidates"
    settings = {
        **kept.settings,
        "chosen_by": chosen_by(validation),
        "further_shots_right": lead[0],
        "further_cross_entropy": -lead[1],
    }
    return Fitted(kept.classifier, settings)


def cross_entropy(logits_NK: np.ndarray, label_N: np.ndarray) -> float:
    """Mean over the samples, in nats, in float64."""
    shifted_NK = logits_NK.astype(np.float64)
    shifted_NK -= shifted_NK.max(axis=1, keepdims=True)
    of_label_N = shifted_NK[np.arange(len(label_N)), label_N]
    return float(np.mean(np.log(np.exp(shifted_NK).sum(axis=1)) - of_label_N))
