"""All methods on the same shots: fitting, which sees the training split only, and predicting.

Features come projected, as the encoder gives them, and are brought to norm 1 here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from winnow.evaluation.features import Labelled
from winnow.evaluation.few_shot import (
    from_zero,
    lp_plus_plus,
    pulled_to_text,
    text_initialised,
    tip_adapter,
    zero_shot,
)
from winnow.evaluation.few_shot.fitted import Fitted
from winnow.evaluation.few_shot.shots import class_orders, take_shots
from winnow.evaluation.few_shot.softmax_regression import Device
from winnow.progress import track
from winnow.types import InputError

SHOTS = (1, 2, 4, 8, 16)
SUBSETS = 5
ZERO_SHOT = "zero-shot"
METHODS: Mapping[str, Callable[..., Fitted]] = {
    ZERO_SHOT: zero_shot.fit,
    "text-initialised": text_initialised.fit,
    "from-zero": from_zero.fit,
    "pulled-to-text": pulled_to_text.fit,
    "tip-adapter": tip_adapter.fit,
    "lp++": lp_plus_plus.fit,
}
_BLOCK_ROWS = 8192


class FewShotFit(NamedTuple):
    """One method, fitted to one subset."""

    method: str
    shots: int
    """k; 0 for zero-shot."""
    subset: int
    """Its number, which is its seed; 0 for zero-shot."""
    fitted: Fitted
    num_shots: int
    """Pictures that it was fitted to: k times the classes, where none is short."""


def fit_all(
    train: Labelled,
    keys: Sequence[str],
    *,
    fingerprint: str,
    class_KD: np.ndarray,
    scale: float,
    shots: Sequence[int] = SHOTS,
    subsets: int = SUBSETS,
    methods: Sequence[str] = tuple(METHODS),
    device: Device = "cpu",
) -> Iterator[FewShotFit]:
    """Fit every method to every subset; zero-shot, which no shot changes, once.

    `train` is the training split, row n of which has the n-th key; `fingerprint` is the data set's.
    `class_KD` has norm 1. A class with fewer than k samples gives what it has: the settings count
    such classes ("short_classes") and those with none ("absent_classes").
    """
    _check(train, class_KD, methods)
    learning = [method for method in methods if method != ZERO_SHOT]
    if ZERO_SHOT in methods:
        none = train.rows(np.arange(0))
        yield FewShotFit(ZERO_SHOT, 0, 0, zero_shot.fit(none, None, class_KD, scale), 0)
    total = len(learning) * len(shots) * subsets
    with track("fitting few-shot probes", total=total, unit="probes") as advance:
        for seed in range(subsets):
            orders = class_orders(
                keys,
                train.label_N,
                num_classes=len(class_KD),
                fingerprint=fingerprint,
                seed=seed,
            )
            for k in shots:
                subset = take_shots(orders, k)
                chosen = normalized(train.rows(subset.shots))
                further = normalized(train.rows(subset.further)) if len(subset.further) else None
                for method in learning:
                    fitted = METHODS[method](chosen, further, class_KD, scale, device=device)
                    settings = {
                        **fitted.settings,
                        "short_classes": subset.short,
                        "absent_classes": subset.absent,
                    }
                    fitted = Fitted(fitted.classifier, settings)
                    yield FewShotFit(method, k, seed, fitted, len(subset.shots))
                    advance(note=f"{method}, {k} shots")


def predictions(fitted: Fitted, feature_ND: np.ndarray, classnames: Sequence[str]) -> np.ndarray:
    """int64 (N,): the class of the highest logit, -1 where it is shared, in blocks of pictures.

    A tie counts against the probe, as in zero-shot; classes of one name are told apart by their
    order, as there.
    """
    name_K = np.unique(np.asarray(classnames), return_inverse=True)[1]
    blocks = [feature_ND[at : at + _BLOCK_ROWS] for at in range(0, len(feature_ND), _BLOCK_ROWS)]
    found = [_predicted(fitted, _of_norm_one(block_ND), name_K) for block_ND in blocks]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _predicted(fitted: Fitted, feature_ND: np.ndarray, name_K: np.ndarray) -> np.ndarray:
    logits_NK = fitted.logits(feature_ND)
    highest_NK = logits_NK >= logits_NK.max(axis=1, keepdims=True) - fitted.tie
    first_N = highest_NK.argmax(axis=1)
    is_shared_N = (highest_NK & (name_K != name_K[first_N, None])).any(axis=1)
    return np.where(is_shared_N, -1, first_N)


def normalized(labelled: Labelled) -> Labelled:
    """The same with features of norm 1."""
    return Labelled(_of_norm_one(labelled.feature_ND), labelled.label_N)


def _of_norm_one(feature_ND: np.ndarray) -> np.ndarray:
    norm_N1 = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    return feature_ND / np.maximum(norm_N1, np.finfo(feature_ND.dtype).tiny)


def _check(train: Labelled, class_KD: np.ndarray, methods: Sequence[str]) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise InputError(
            f"few-shot: there is no method {', '.join(unknown)}; there are {', '.join(METHODS)}"
        )
    if len(train.label_N) == 0:
        raise InputError("few-shot: the training split has no samples; give a data set that does")
    assert train.label_N.min() >= 0
    assert train.label_N.max() < len(class_KD)
