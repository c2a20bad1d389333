"""The linear probe: logistic regression on frozen features, its strength chosen by validation.

    C* = argmax over the C tried of accuracy(validation), of equals the one with the lowest
    cross-entropy there, of equals in that too the smallest;
    the probe is the fit at C* to training and validation samples together

Radford et al. 2021 (arXiv 2103.00020, appendix A.3) on features before the projection, and a
cheaper search, the default. `logistic.py` has the fit; each begins where the nearest one before
ended.

- `openai`: 7 strengths from 1e-6 to 1e6, then the interval around the best is halved until there
  are 8 steps a decade: at most 15 fits of a grid of 97 points.
- `half-decades`: from 1e-6 upwards by half decades, until `PATIENCE` in a row were clearly less
  accurate than the best: by more than its standard error, and it knows more than the classes'
  frequencies. At tiny strengths, and on few samples, less is a ripple. Small strengths are the
  cheap ones to fit.

Only training and validation samples come in here. Test samples meet a probe when it is done.

Features may be memory-mapped. They are read in blocks, what is held out is a list of rows, and the
one copy in memory is the regression's: first of the training samples, then of all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.shots import class_orders
from winnow.evaluation.logistic import MAX_ITERATIONS, TOLERANCE, Fit, Regression, Samples
from winnow.types import InputError

STEPS_A_DECADE = 8
LOWEST, HIGHEST = -6 * STEPS_A_DECADE, 6 * STEPS_A_DECADE
"""Ends of the grid, as steps from C = 1."""
PATIENCE = 3
LEARNED = 0.9
"""Below this share of the cross-entropy that the classes' frequencies have, a fit has learned."""
MOST_NATS = 100.0
"""A sample of a class that was not trained on would else outweigh all others."""
OWN_SPLIT = "the set's own validation split"
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """How the strength is searched for, and on what."""

    search: Literal["half-decades", "openai"] = "half-decades"
    """Which strengths are tried. half-decades: cheap; openai: Radford et al.'s, at most 15 fits."""
    held_out: float = 0.2
    """Share of each class's training samples that choose, where a set has no validation split."""
    seed: int = 0
    """Which samples these are."""
    max_iterations: int = MAX_ITERATIONS
    """Of one fit."""
    tolerance: float = TOLERANCE
    """How near to its least value a fit must come, relatively."""

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise InputError(f"linear-probe: held_out must be between 0 and 1, not {self.held_out}")
        if self.max_iterations < 1:
            raise InputError(
                f"linear-probe: max_iterations must be at least 1, not {self.max_iterations}"
            )
        if not self.tolerance > 0:
            raise InputError(f"linear-probe: tolerance must be above 0, not {self.tolerance}")


class Standing(NamedTuple):
    """How good a fit is on the validation samples; the greater tuple is the better fit.

    Accuracy alone ties on few samples, where the smallest strength of all may look as good as any.
    """

    accuracy: float
    minus_cross_entropy: float
    """Mean over the samples, in nats, each counted up to MOST_NATS."""


class PathPoint(NamedTuple):
    """One strength that was tried."""

    strength: float
    validation_accuracy: float
    validation_cross_entropy: float
    loss: float
    iterations: int
    converged: bool


class Chosen(NamedTuple):
    """The probe, and how its strength was chosen."""

    classifier: LinearClassifier
    strength: float
    path: tuple[PathPoint, ...]
    """In the order of the trials."""
    final: Fit
    """To training and validation samples."""
    held_out: str
    """Which samples chose."""
    search: str

    @property
    def settings(self) -> dict[str, Any]:
        """For the row of results."""
        path = sorted(self.path)
        return {
            "search": self.search,
            "strength": self.strength,
            "chosen_by": self.held_out,
            "path": [(point.strength, point.validation_accuracy) for point in path],
            "not_converged": [point.strength for point in path if not point.converged],
            "converged": self.final.converged,
            "iterations": self.final.iterations,
        }


class HeldOut(NamedTuple):
    """Rows of the training split, ascending."""

    training: np.ndarray
    validation: np.ndarray


def choose(
    train: Labelled,
    validation: Labelled,
    *,
    num_classes: int,
    config: LinearProbe,
    device: str | torch.device = "cpu",
    held_out: str = OWN_SPLIT,
) -> Chosen:
    """Choose the strength on `validation`, and fit at it to both. Raises InputError.

    `held_out` says in words what `validation` is.
    """
    return _choose(
        train,
        validation,
        both=(train, validation),
        num_classes=num_classes,
        config=config,
        device=device,
        held_out=held_out,
    )


def choose_holding_out(
    train: Labelled,
    keys: Sequence[str],
    *,
    fingerprint: str,
    num_classes: int,
    config: LinearProbe,
    device: str | torch.device = "cpu",
) -> Chosen:
    """For a set without a validation split: `hold_out` and `choose`."""
    rows = hold_out(
        train.label_N,
        keys,
        fingerprint=fingerprint,
        num_classes=num_classes,
        share=config.held_out,
        seed=config.seed,
    )
    return _choose(
        _Rows(train, rows.training),
        _Rows(train, rows.validation),
        both=(train,),
        num_classes=num_classes,
        config=config,
        device=device,
        held_out=f"{len(rows.validation):,} held out of {len(keys):,} training samples",
    )


def _choose(
    train: Samples,
    validation: Samples,
    *,
    both: Sequence[Samples],
    num_classes: int,
    config: LinearProbe,
    device: str | torch.device,
    held_out: str,
) -> Chosen:
    if len(validation.label_N) == 0:
        raise InputError(
            "there are no validation samples to choose the linear probe's strength by: give the "
            "set a validation split, or more training samples of a class"
        )
    trials = _Trials(train, validation, num_classes, config, device)
    best = SEARCHES[config.search](trials)
    start = trials.fits[best].classifier
    path = tuple(trials.points.values())
    del trials  # and with it the features' copy, before there is one of all
    final = Regression(*both, num_classes=num_classes, device=device).fit(
        strength_at(best),
        start=start,
        max_iterations=config.max_iterations,
        tolerance=config.tolerance,
    )
    return Chosen(final.classifier, strength_at(best), path, final, held_out, config.search)


def hold_out(
    label_N: np.ndarray,
    keys: Sequence[str],
    *,
    fingerprint: str,
    num_classes: int,
    share: float,
    seed: int,
) -> HeldOut:
    """A share of each class, first by the hash of (data set, seed, key), whatever the rows' order.

    At least one of a class that has two samples, none of one that has one; never all.
    """
    orders = class_orders(
        keys, label_N, num_classes=num_classes, fingerprint=fingerprint, seed=seed
    )
    held = [order[: _count(len(order), share)] for order in orders]
    is_held_N = np.zeros(len(label_N), bool)
    is_held_N[np.concatenate(held)] = True
    return HeldOut(np.flatnonzero(~is_held_N), np.flatnonzero(is_held_N))


def strength_at(step: int) -> float:
    """C at a step of the grid."""
    return float(10 ** (step / STEPS_A_DECADE))


class Asked(Protocol):
    """What a search may ask."""

    def standing(self, step: int) -> Any:
        """Of the fit at a step of the grid; the greater is the better."""

    def has_fallen(self, standing: Any, best: Any) -> bool:
        """Whether one is so far below the best that it is no ripple."""


def half_decades(trials: Asked) -> int:
    """The best step of those that the default search tries."""
    found: dict[int, Any] = {}
    for step in range(LOWEST, HIGHEST + 1, STEPS_A_DECADE // 2):
        found[step] = trials.standing(step)
        best = max(found.values())
        # Of fewer than PATIENCE one is the best, which has not fallen.
        if all(trials.has_fallen(last, best) for last in list(found.values())[-PATIENCE:]):
            break
    return _best(found)


def openai(trials: Asked) -> int:
    """The best step of those that OpenAI's search tries."""
    interval = 2 * STEPS_A_DECADE
    found = {step: trials.standing(step) for step in range(LOWEST, HIGHEST + 1, interval)}
    while interval > 1:
        interval //= 2
        peak = _best(found)
        for step in (peak - interval, peak + interval):
            if LOWEST <= step <= HIGHEST:
                found[step] = trials.standing(step)
    return _best(found)


SEARCHES = {"half-decades": half_decades, "openai": openai}


class _Rows(NamedTuple):
    """Some rows of samples, which stay where they are."""

    samples: Labelled
    row_N: np.ndarray

    @property
    def label_N(self) -> np.ndarray:
        """Of these rows."""
        return self.samples.label_N[self.row_N]

    def rows(self, index: np.ndarray) -> Labelled:
        """A copy of some of these rows."""
        return self.samples.rows(self.row_N[index])


class _Trials:
    """Fits at steps of the grid, each from the nearest one before."""

    def __init__(
        self,
        train: Samples,
        validation: Samples,
        num_classes: int,
        config: LinearProbe,
        device: str | torch.device,
    ) -> None:
        self.regression = Regression(train, num_classes=num_classes, device=device)
        self.validation, self.config = validation, config
        share_L = np.unique(validation.label_N, return_counts=True)[1] / len(validation.label_N)
        self.nats_of_frequencies = -float((share_L * np.log(share_L)).sum())
        self.fits: dict[int, Fit] = {}
        self.points: dict[int, PathPoint] = {}

    def standing(self, step: int) -> Standing:
        """On the validation samples."""
        nearest = min(self.fits, key=lambda other: (abs(other - step), other), default=None)
        fit = self.regression.fit(
            strength_at(step),
            start=None if nearest is None else self.fits[nearest].classifier,
            max_iterations=self.config.max_iterations,
            tolerance=self.config.tolerance,
        )
        standing = standing_of(fit.classifier, self.validation)
        self.fits[step] = fit
        self.points[step] = PathPoint(
            strength_at(step),
            standing.accuracy,
            -standing.minus_cross_entropy,
            fit.loss,
            fit.iterations,
            fit.converged,
        )
        return standing

    def has_fallen(self, standing: Standing, best: Standing) -> bool:
        """By more than the best accuracy's standard error, once the best has learned something."""
        learned = -best.minus_cross_entropy < LEARNED * self.nats_of_frequencies
        variance = best.accuracy * (1 - best.accuracy) / len(self.validation.label_N)
        return learned and standing.accuracy < best.accuracy - variance**0.5


def standing_of(classifier: LinearClassifier, samples: Samples) -> Standing:
    """Accuracy, a tie being a miss as it is in the test (`probes.py`), and cross-entropy."""
    hits, nats = 0, 0.0
    for feature_CD, label_C in _blocks(samples):
        logits_CK = classifier.logits(feature_CD).astype(np.float64)
        own_C = logits_CK[np.arange(len(label_C)), label_C]
        hits += int(((logits_CK >= own_C[:, None]).sum(axis=1) == 1).sum())
        highest_C = logits_CK.max(axis=1)
        total_C = np.log(np.exp(logits_CK - highest_C[:, None]).sum(axis=1)) + highest_C
        nats += float(np.minimum(total_C - own_C, MOST_NATS).sum())
    return Standing(hits / len(samples.label_N), -nats / len(samples.label_N))


def _blocks(samples: Samples) -> Iterator[Labelled]:
    num_samples = len(samples.label_N)
    for start in range(0, num_samples, _ROWS_AT_ONCE):
        yield samples.rows(np.arange(start, min(start + _ROWS_AT_ONCE, num_samples)))


def _best(found: dict[int, Any]) -> int:
    """The strongest regularization of those that are best."""
    best = max(found.values())
    return min(step for step, standing in found.items() if standing == best)


def _count(samples: int, share: float) -> int:
    return 0 if samples < 2 else min(max(1, round(share * samples)), samples - 1)
