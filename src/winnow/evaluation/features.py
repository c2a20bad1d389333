"""What every probe works on: features with their labels, and what a probe comes to.

N samples, D features, K classes. A probe is fitted on features of the training split and scored by
someone else on those of the test split, which its fitting never sees.
"""

from typing import NamedTuple

import numpy as np


class Labelled(NamedTuple):
    """Features and the class of each."""

    feature_ND: np.ndarray
    """float32; as the protocol wants them: before or after the projection, normalized or not."""
    label_N: np.ndarray
    """int64, 0 to K - 1."""

    def rows(self, index: np.ndarray) -> "Labelled":
        """Those of some samples."""
        return Labelled(self.feature_ND[index], self.label_N[index])


class LinearClassifier(NamedTuple):
    """Logits feature_ND @ weight_DK + bias_K."""

    weight_DK: np.ndarray
    """float32."""
    bias_K: np.ndarray
    """float32."""

    def logits(self, feature_ND: np.ndarray) -> np.ndarray:
        """(N, K) float32."""
        return feature_ND @ self.weight_DK + self.bias_K
