"""What a cell scores on every picture of a set, so that the mean over pictures is its number.

A hit counts 1, or 1 / (pictures of its class) on the scale of the mean over classes; a few-shot
probe's is the share of its subsets that have the picture right. A caption's hit counts for its
picture: of C pictures with q_c captions and h_c hits each, recall is Σ h_c / Σ q_c, so picture c
scores C h_c / Σ q, and what it weighs is C q_c / Σ q.

A difference d of two such ratios varies over pictures as gain_c - d (C q_c / Σ q - 1) does, which
is the ratio's linearisation (Cochran 1977, Sampling Techniques, section 6.3).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.evaluation.comparing import TOLERANCE
from winnow.evaluation.results import Result, not_of, predictions_path
from winnow.evaluation.study.reading import Cell, Quantity
from winnow.predictions import cutoff, split_direction


class UnknownScoresError(ValueError):
    """There is no score of every picture; the words say why."""


class Pair(NamedTuple):
    """The baseline's cell and a method's, of one seed."""

    first: Cell
    second: Cell


class Scores(NamedTuple):
    """Of one cell in one number."""

    pictures: str
    """A hash of the C pictures' names, in whose order the scores are."""
    score_C: np.ndarray
    """float64, with the number as its mean."""
    weight_C: np.ndarray | None = None
    """float64, of mean 1: above it where a picture has more captions than others; None: all 1."""


class PictureScores:
    """Of a study's cells; every file of predictions is read once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Path, Quantity], Scores | str] = {}

    def of(self, cell: Cell, quantity: Quantity) -> Scores:
        """Raises UnknownScoresError where predictions are missing, or not those of the number."""
        key = cell.evaluation, quantity
        if key not in self._found:
            self._read(cell, predictions_path(cell.evaluation, cell.numbers[quantity]))
        found = self._found[key]
        if isinstance(found, str):
            raise UnknownScoresError(found)
        return found

    def gains(self, quantity: Quantity, pairs: Sequence[Pair]) -> np.ndarray:
        """float64 (S, C): what every second scores more, varying as the difference does.

        Raises UnknownScoresError as above, and where they are not of the same pictures.
        """
        both = [[self.of(cell, quantity) for cell in pair] for pair in pairs]
        if len({scores.pictures for pair in both for scores in pair}) > 1:
            raise UnknownScoresError("the predictions are not of the same pictures")
        gain_SC = np.stack([second.score_C - first.score_C for first, second in both])
        weight_C = both[0][0].weight_C
        if weight_C is None:
            return gain_SC
        return gain_SC - gain_SC.mean(axis=1, keepdims=True) * (weight_C - 1)

    def _read(self, cell: Cell, path: Path) -> None:
        """All numbers of the cell that the file holds."""
        table = _table(path)
        for quantity, row in cell.numbers.items():
            if predictions_path(cell.evaluation, row) == path:
                try:
                    found: Scores | str = _checked(table, quantity, row)
                except UnknownScoresError as error:
                    found = str(error)
                self._found[cell.evaluation, quantity] = found


def _table(path: Path) -> pa.Table | str:
    """Why there is none, else."""
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        return "the predictions are missing"
    except (pa.ArrowException, OSError) as error:
        return f"the predictions are damaged ({error})"


def _checked(table: pa.Table | str, quantity: Quantity, row: Result) -> Scores:
    if isinstance(table, str):
        raise UnknownScoresError(table)
    if not_of(table, row):
        raise UnknownScoresError("predictions and results are of two evaluations")
    try:
        scores = _scores(table, quantity)
    except KeyError as error:
        raise UnknownScoresError(f"the predictions have no column {error}") from error
    if len(scores.score_C) == 0 or abs(scores.score_C.mean() - row.value) > TOLERANCE:
        raise UnknownScoresError("the predictions do not give the number that was recorded")
    return scores


def _scores(table: pa.Table, quantity: Quantity) -> Scores:
    if quantity.protocol == "few-shot":
        return _few_shot(table, quantity)
    within = 1 if quantity.metric == "mean_per_class" else cutoff(quantity.metric)
    if within is None:
        raise UnknownScoresError(f"{quantity.metric} is no mean over pictures")
    direction, _ = split_direction(quantity.metric)
    if direction:
        table = table.filter(pc.equal(table["direction"], direction))
        name = "query" if direction == "image_to_text" else "picture"
    else:
        name = "key"
    hit_Q = table["rank"].to_numpy() <= within
    if quantity.metric == "mean_per_class":
        hit_Q = hit_Q * _class_weights(table["label"].to_numpy())
    return _by_picture(table[name], hit_Q)


def _few_shot(table: pa.Table, quantity: Quantity) -> Scores:
    of_probe = pc.and_(
        pc.equal(table["method"], quantity.probe), pc.equal(table["shots"], quantity.shots or 0)
    )
    table = table.filter(of_probe)
    label_Q = table["label"].to_numpy()
    hit_Q = (table["predicted"].to_numpy() == label_Q).astype(np.float64)
    if quantity.metric == "mean_per_class":
        hit_Q *= _class_weights(label_Q)
    found = _by_picture(table["key"], hit_Q)
    # Every subset is tested on the same pictures.
    return found._replace(weight_C=None)


def _by_picture(names: pa.ChunkedArray, hit_Q: np.ndarray) -> Scores:
    picture_C, place_Q, asked_C = np.unique(
        np.array(names.to_pylist(), dtype=object).astype(str),
        return_inverse=True,
        return_counts=True,
    )
    per_picture = len(picture_C) / max(1, len(hit_Q))
    score_C = np.bincount(place_Q, weights=hit_Q, minlength=len(picture_C)) * per_picture
    pictures = hashlib.sha256("\0".join(picture_C.tolist()).encode()).hexdigest()
    is_even = len(asked_C) == 0 or asked_C.min() == asked_C.max()
    return Scores(pictures, score_C, None if is_even else asked_C * per_picture)


def _class_weights(label_Q: np.ndarray) -> np.ndarray:
    """What a hit counts in a mean over classes, on average 1."""
    _, class_Q, count_K = np.unique(label_Q, return_inverse=True, return_counts=True)
    return len(label_Q) / (len(count_K) * count_K[class_Q])
