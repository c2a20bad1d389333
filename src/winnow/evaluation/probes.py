"""The protocols that fit something: on features of the training split, then scored on the test's.

Fitting is given training features alone (`linear_probe.py`, `few_shot/`); only here, after it is
done, do its classifiers meet the pictures that are measured on.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from winnow.evaluation.embed import ImageFeatures
from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.harness import METHODS, SHOTS, SUBSETS, fit_all, predictions
from winnow.evaluation.few_shot.summary import accuracy, accuracy_over_subsets
from winnow.evaluation.linear_probe import Chosen, LinearProbe, choose, choose_holding_out
from winnow.evaluation.outcome import Outcome, Scored, ranking_columns
from winnow.evaluation.ranking import Ranking, rank_scores
from winnow.evaluation.subject import Subject, UnsuitableError
from winnow.evaluation.zero_shot import zero_shot_measures
from winnow.types import InputError

_LACKING = ("short_classes", "absent_classes")
"""What a few-shot probe's settings call the classes with fewer training pictures than shots."""
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Which few-shot probes."""

    shots: tuple[int, ...] = SHOTS
    """Pictures a class."""
    subsets: int = SUBSETS
    """How many subsets of shots, over which the mean is taken."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Of the methods in evaluation/few_shot."""

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 1 or len({*self.shots}) < len(self.shots):
            raise InputError(f"few-shot: shots are {self.shots}; give numbers from 1, each once")
        if self.subsets < 1:
            raise InputError(f"few-shot: subsets is {self.subsets}; it must be at least 1")
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods:
            raise InputError(
                f"few-shot: methods are {self.methods}; give some of {', '.join(METHODS)}"
            )


def measure_linear_probe(subject: Subject, config: LinearProbe, *, device: str) -> Outcome:
    """Accuracies of logistic regression on the features before the projection."""
    test = subject.tested.samples
    chosen = _chosen(subject, config, device=device)
    ranking = rank_logits(chosen.classifier, subject.tested.hidden_NH, test.label_N)
    measures = zero_shot_measures(ranking, test.label_N, num_classes=len(subject.test.classnames))
    columns = {"key": test.keys, "label": test.label_N, **ranking_columns(ranking)}
    settings = {**chosen.settings, "seed": config.seed, **_fitted_on(subject)}
    scored = [Scored(measure, settings=settings) for measure in measures]
    return Outcome(scored, pa.table(columns))


def _chosen(subject: Subject, config: LinearProbe, *, device: str) -> Chosen:
    assert subject.train is not None
    assert subject.training is not None
    num_classes = len(subject.test.classnames)
    train = _hidden(subject.training)
    if len(np.unique(train.label_N)) < 2:
        raise UnsuitableError("training pictures of two classes or more")
    if subject.validating is not None:
        validation = _hidden(subject.validating)
        return choose(train, validation, num_classes=num_classes, config=config, device=device)
    if np.bincount(train.label_N).max() < 2:
        raise UnsuitableError("two training pictures or more of some class, or a validation split")
    return choose_holding_out(
        train,
        subject.training.samples.keys,
        fingerprint=subject.train.fingerprint,
        num_classes=num_classes,
        config=config,
        device=device,
    )


def _hidden(features: ImageFeatures) -> Labelled:
    return Labelled(features.hidden_NH, features.samples.label_N)


def rank_logits(
    classifier: LinearClassifier, feature_ND: np.ndarray, label_N: np.ndarray
) -> Ranking:
    """The true class of every sample among all, by logit; a tie counts against the classifier."""
    starts = range(0, len(label_N), _ROWS_AT_ONCE)
    blocks = [slice(start, start + _ROWS_AT_ONCE) for start in starts]
    parts = [rank_scores(classifier.logits(feature_ND[rows]), label_N[rows]) for rows in blocks]
    return Ranking(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def measure_few_shot(subject: Subject, config: FewShot, *, device: str) -> Outcome:
    """Top-1 of every method, number of shots and subset, and their means over subsets."""
    train, test = subject.training, subject.tested
    assert train is not None
    assert subject.train is not None
    label_N, num_classes = test.samples.label_N, len(subject.class_KD)
    fits = fit_all(
        Labelled(train.image_ND, train.samples.label_N),
        train.samples.keys,
        fingerprint=subject.train.fingerprint,
        class_KD=subject.class_KD,
        scale=subject.embedder.encoder.logit_scale,
        shots=config.shots,
        subsets=config.subsets,
        methods=config.methods,
        device=device,
    )
    scored: list[Scored] = []
    tables: list[pa.Table] = []
    hits = defaultdict[tuple[str, int], list[np.ndarray]](list)
    lacking: dict[int, dict[str, object]] = {}
    for fit in fits:
        predicted_N = predictions(fit.fitted, test.image_ND, subject.test.classnames)
        hit_N = predicted_N == label_N
        hits[fit.method, fit.shots].append(hit_N)
        # Sizes of classes are those of every subset.
        known = fit.fitted.settings
        lacking[fit.shots] = {name: known[name] for name in _LACKING if name in known}
        settings = {**fit.fitted.settings, "num_shots": fit.num_shots, **_fitted_on(subject)}
        measure = accuracy(hit_N, num_classes=num_classes)
        scored.append(Scored(measure, fit.method, fit.shots, fit.subset, settings))
        tables.append(_table(fit.method, fit.shots, fit.subset, subject, predicted_N))
    for (method, shots), of_subsets in hits.items():
        measure = accuracy_over_subsets(of_subsets, num_classes=num_classes)
        settings = {"subsets": len(of_subsets), **lacking[shots], **_fitted_on(subject)}
        scored.append(Scored(measure, method, shots, None, settings))
    return Outcome(scored, pa.concat_tables(tables))


def _fitted_on(subject: Subject) -> dict[str, str | None]:
    """What a comparison has to find equal."""
    assert subject.train is not None
    validation = None if subject.validation is None else subject.validation.fingerprint
    return {
        "train_fingerprint": subject.train.fingerprint,
        "validation_fingerprint": validation,
    }


def _table(
    method: str, shots: int, subset: int, subject: Subject, predicted_N: np.ndarray
) -> pa.Table:
    samples, n = subject.tested.samples, len(predicted_N)
    columns = {
        "method": pa.array([method] * n).dictionary_encode(),
        "shots": pa.array(np.full(n, shots, np.int32)),
        "subset": pa.array(np.full(n, subset, np.int32)),
        "key": pa.array(samples.keys),
        "label": pa.array(samples.label_N.astype(np.int32)),
        "predicted": pa.array(predicted_N.astype(np.int32)),
    }
    return pa.table(columns)
