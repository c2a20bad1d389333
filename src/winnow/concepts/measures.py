"""What a concept head is worth on pictures that it did not learn from.

A picture whose caption names m concepts has the target 1/m on each. Measured over the held-out
pairs whose captions name at least one:

- recall@k: the share of a caption's concepts among the head's first k, averaged over pairs. A tie
  is a miss. Beside it the majority's: always the k most frequent concepts of training.
- cross-entropy in nats: LSE(logits) - mean of the caption's concepts' logits; beside it that of the
  best answer which ignores pictures, the mean target of training (smoothed by one pair that names
  every concept).
- calibration: over all (picture, concept), the mean probability against the mean target in bins of
  half a decade. Among 10,000 concepts nearly all probabilities are below 1e-4: bins of equal counts
  would all lie there, equal widths would put everything into the first. Half decades show the few
  probabilities that become targets, and with fixed edges one walk over the pairs suffices.

P counts (picture, concept of its caption), V the concepts of a head.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from winnow.statistics import wilson_interval

RECALL_AT = (1, 5, 10)
BIN_EDGES = 10.0 ** np.arange(-4.5, 0.0, 0.5)
"""Nine inner edges of the ten bins of probability: 10^-4.5, 10^-4, ..., 10^-0.5."""
_NUM_BINS = len(BIN_EDGES) + 1


class Targets(NamedTuple):
    """The targets of a batch's pictures, as entries: all others are 0."""

    picture_P: np.ndarray
    """int64, ascending: the picture's place in the batch."""
    concept_P: np.ndarray
    """int64: which concept of the head."""
    mass_P: np.ndarray
    """float64: one over the number of the picture's concepts."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """The share of a caption's concepts among the first `k`, 0 to 1."""

    k: int
    value: float
    standard_error: float
    """From the spread over pairs."""
    low: float
    """Lower end of the 95 % interval: Wilson's, a little too wide for means of shares."""
    high: float
    majority: float
    """The same if the answer is always the `k` most frequent concepts of training."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The (picture, concept) whose probability lies in one bin."""

    count: int
    mean_probability: float
    """0 in an empty bin, as is the next."""
    mean_target: float


@dataclass(frozen=True, kw_only=True)
class HeadReport:
    """What one head learned from, and what it is worth on held-out pairs."""

    size: int
    """Concepts."""
    trained: int
    """Pairs that are not held out."""
    trained_with_concept: int
    """Those of them that the head learned from."""
    held_out: int
    held_out_with_concept: int
    """What all numbers below are means over."""
    recall: tuple[Recall, ...]
    cross_entropy: float
    """Nats."""
    cross_entropy_of_frequencies: float
    calibration: tuple[CalibrationBin, ...]
    """By rising probability; the edges are BIN_EDGES."""
    calibration_error: float
    """Sum over bins of |mean probability - mean target| x count / pairs, 0 to 2.

    That is the expected calibration error times the number of concepts, without which it would be
    next to nothing for any head: nearly all of the entries are nearly 0.
    """


@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """How often training names each concept of a head."""

    pairs: int
    """Training pairs that name any."""
    count_V: np.ndarray
    """int64: pairs that name the concept."""
    mass_V: np.ndarray
    """float64: sum of its targets; all of them add up to `pairs`."""

    def mean_target_V(self) -> np.ndarray:
        """float64, above 0, adding up to 1: what to answer without looking at the picture."""
        return (self.mass_V + 1 / len(self.mass_V)) / (self.pairs + 1)


class Batch(NamedTuple):
    """Measures of a batch: per picture, and per bin of probability."""

    recall_BK: np.ndarray
    """By RECALL_AT."""
    majority_BK: np.ndarray
    cross_entropy_B: np.ndarray
    cross_entropy_of_frequencies_B: np.ndarray
    bins_3N: np.ndarray
    """Count, sum of probabilities, sum of targets."""


def measure_batch(logits_BV: np.ndarray, targets: Targets, frequencies: Frequencies) -> Batch:
    """The measures of pictures that all have a concept."""
    picture_P, concept_P, mass_P = targets
    num_pictures, size = logits_BV.shape
    log_probability_BV = _log_softmax(logits_BV.astype(np.float64))
    log_frequency_V = np.log(frequencies.mean_target_V())
    own_P = logits_BV[picture_P, concept_P]
    rank_P = np.sum(logits_BV[picture_P] >= own_P[:, None], axis=1)
    most_frequent_first_V = np.argsort(-frequencies.count_V, kind="stable")
    majority_rank_V = np.empty(size, dtype=np.int64)
    majority_rank_V[most_frequent_first_V] = np.arange(1, size + 1)

    def per_picture(value_P: np.ndarray) -> np.ndarray:
        return np.bincount(picture_P, mass_P * value_P, minlength=num_pictures)

    return Batch(
        recall_BK=np.stack([per_picture(rank_P <= k) for k in RECALL_AT], axis=1),
        majority_BK=np.stack(
            [per_picture(majority_rank_V[concept_P] <= k) for k in RECALL_AT], axis=1
        ),
        cross_entropy_B=-per_picture(log_probability_BV[picture_P, concept_P]),
        cross_entropy_of_frequencies_B=-per_picture(log_frequency_V[concept_P]),
        bins_3N=_bin_sums(np.exp(log_probability_BV), targets),
    )


def report_of(
    batches: Iterable[Batch], frequencies: Frequencies, *, trained: int, held_out: int
) -> HeadReport:
    """The report of a head from the measures of its held-out pictures, of which there are some."""
    recalls, majorities, own, of_frequencies, bins = zip(*batches, strict=True)
    recall_NK, majority_NK = np.concatenate(recalls), np.concatenate(majorities)
    bins_3N = np.sum(bins, axis=0)
    pairs = len(recall_NK)
    return HeadReport(
        size=len(frequencies.count_V),
        trained=trained,
        trained_with_concept=frequencies.pairs,
        held_out=held_out,
        held_out_with_concept=pairs,
        recall=tuple(
            _recall(k, recall_NK[:, place], majority_NK[:, place])
            for place, k in enumerate(RECALL_AT)
        ),
        cross_entropy=float(np.mean(np.concatenate(own))),
        cross_entropy_of_frequencies=float(np.mean(np.concatenate(of_frequencies))),
        calibration=tuple(
            CalibrationBin(
                count=int(count),
                mean_probability=float(probability / max(count, 1)),
                mean_target=float(target / max(count, 1)),
            )
            for count, probability, target in bins_3N.T
        ),
        calibration_error=float(np.abs(bins_3N[1] - bins_3N[2]).sum() / pairs),
    )


def _recall(k: int, recall_N: np.ndarray, majority_N: np.ndarray) -> Recall:
    value, num = float(np.mean(recall_N)), len(recall_N)
    # Shares of one caption lie in 0..1, so they vary at most as hits and misses do.
    low, high = wilson_interval(value, num)
    return Recall(
        k=k,
        value=value,
        standard_error=float(np.std(recall_N)) / math.sqrt(num),
        low=low,
        high=high,
        majority=float(np.mean(majority_N)),
    )


def _bin_sums(probability_BV: np.ndarray, targets: Targets) -> np.ndarray:
    bin_BV = np.searchsorted(BIN_EDGES, probability_BV, side="right")
    flat = bin_BV.ravel()
    return np.stack(
        [
            np.bincount(flat, minlength=_NUM_BINS),
            np.bincount(flat, probability_BV.ravel(), minlength=_NUM_BINS),
            np.bincount(
                bin_BV[targets.picture_P, targets.concept_P], targets.mass_P, minlength=_NUM_BINS
            ),
        ]
    )


def _log_softmax(logits_BV: np.ndarray) -> np.ndarray:
    shifted_BV = logits_BV - logits_BV.max(axis=1, keepdims=True)
    return shifted_BV - np.log(np.exp(shifted_BV).sum(axis=1, keepdims=True))
