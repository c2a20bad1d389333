"""Made-up features with labels that a linear head can find in them, and a few it cannot."""

from itertools import pairwise

import numpy as np

from winnow.concepts.labels import HeadLabels


class ArrayFeatures:
    """Features that are in memory; counts what is asked for."""

    def __init__(self, features_NF):
        self.features_NF, self.asked = features_NF, []

    @property
    def width(self):
        return self.features_NF.shape[1]

    def __len__(self):
        return len(self.features_NF)

    def take(self, rows):
        self.asked.append(rows)
        return self.features_NF[rows]


def head_labels(concepts):
    """Labels from a list of concepts per row."""
    counts = [len(row) for row in concepts]
    values = np.array([value for row in concepts for value in sorted(row)], dtype=np.uint16)
    return HeadLabels(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), values)


def concept_sets(labels):
    """The other way round."""
    bounds = labels.offsets_N1.tolist()
    return [labels.values[start:end].tolist() for start, end in pairwise(bounds)]


def planted(num_rows=3000, *, num_concepts=12, width=16, seed=0):
    """Features, and the concepts of each row: the one or two that a linear map likes best.

    Concept c is rarer the higher c; every fifth row has none, every third two. Dimensions differ
    in mean and scale, and the last one is constant.
    """
    random = np.random.default_rng(seed)
    z_NF = random.standard_normal((num_rows, width))
    score_NV = z_NF[:, : width - 1] @ random.standard_normal((width - 1, num_concepts))
    score_NV += random.gumbel(size=score_NV.shape) - 0.6 * np.arange(num_concepts)
    best_NV = np.argsort(-score_NV, axis=1)
    concepts = [
        [] if row % 5 == 0 else best_NV[row, : 2 if row % 3 == 0 else 1].tolist()
        for row in range(num_rows)
    ]
    scale_F, shift_F = 10.0 ** random.uniform(-2, 1, width), 5 * random.standard_normal(width)
    features_NF = z_NF * scale_F + shift_F
    features_NF[:, -1] = 3.0
    return features_NF.astype(np.float32), concepts
