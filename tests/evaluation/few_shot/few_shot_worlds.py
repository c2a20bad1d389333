"""Small made-up feature spaces: classes with a text direction that is near their pictures."""

import numpy as np

from winnow.evaluation.features import Labelled


def unit(array):
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def world(*, classes, width, per_class, spread, text_error, seed=0, dtype=np.float64):
    """Pictures of norm 1, by class, and (K, D) text of norm 1."""
    generator = np.random.default_rng(seed)
    centre_KD = unit(generator.normal(size=(classes, width)))
    text_KD = unit(centre_KD + text_error * unit(generator.normal(size=(classes, width))))
    label_N = np.repeat(np.arange(classes), per_class)
    noise_ND = generator.normal(size=(len(label_N), width)) / np.sqrt(width)
    feature_ND = unit(centre_KD[label_N] + spread * noise_ND)
    return Labelled(feature_ND.astype(dtype), label_N), text_KD.astype(dtype)


def mean_cross_entropy(logits_NK, label_N):
    """As it is written."""
    losses = [
        np.log(np.sum(np.exp(logits - logits.max()))) + logits.max() - logits[label]
        for logits, label in zip(logits_NK.astype(np.float64), label_N, strict=True)
    ]
    return float(np.mean(losses))


def accuracy(fitted, labelled):
    return float(np.mean(fitted.logits(labelled.feature_ND).argmax(axis=1) == labelled.label_N))
