"""What the health rules need of all rows of metrics so far."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from winnow.models.architecture import MAX_LOGIT_SCALE

WINDOW = 10
"""Rows that a median is taken over."""
REMEMBERED = 100
"""Rows that are kept, which the gradient's usual norm is taken over."""
CLAMP = math.exp(MAX_LOGIT_SCALE)
"""The largest scale that training allows."""


class Evaluation(NamedTuple):
    """The validation loss after a number of steps, and the training loss around it."""

    step: int
    validation_loss: float
    training_loss: float


class History:
    """What the rules need of all rows so far."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.rows: deque[Mapping[str, float]] = deque(maxlen=REMEMBERED)
        self.first_scale: float | None = None
        self.warm_at: int | None = None
        """The step from which on the learning rate no longer rises."""
        self.clamped_at: int | None = None
        """The step since which the scale is at its clamp."""
        self.best: Evaluation | None = None
        self.since_best: list[Evaluation] = []

    @property
    def row(self) -> Mapping[str, float]:
        """The last one."""
        return self.rows[-1]

    @property
    def step(self) -> int:
        """Of the last row."""
        return int(self.row["step"])

    def add(self, row: Mapping[str, float]) -> None:
        """One more row, of a later step."""
        if self.warm_at is None:
            self.warm_at = self._warm_at(row)
        self.rows.append(row)
        scale = self.now("scale")
        if scale is not None:
            self.first_scale = scale if self.first_scale is None else self.first_scale
            if scale < 0.999 * CLAMP:
                self.clamped_at = None
            elif self.clamped_at is None:
                self.clamped_at = self.step
        self._evaluated()

    def now(self, name: str) -> float | None:
        """The last row's number, where it has one that is finite."""
        value = self.row.get(name)
        return None if value is None or not math.isfinite(value) else value

    def median(self, *names: str, over: int = WINDOW, least: int = WINDOW) -> float | None:
        """Of the last `over` rows that have it finite; None for fewer than `least`.

        Of several names, the mean over those that a row has.
        """
        values: list[float] = []
        for row in reversed(self.rows):
            found = [row[name] for name in names if name in row and math.isfinite(row[name])]
            values += [statistics.fmean(found)] if found else []
            if len(values) == over:
                break
        return statistics.median(values) if len(values) >= least else None

    def is_within(self, steps: int) -> bool:
        """Whether it is still the warm-up, or less than so many steps after it."""
        return self.warm_at is None or self.step - self.warm_at < steps

    def training_loss(self, *, least: int = WINDOW) -> float | None:
        """The objective's own part where heads lose too."""
        contrastive = self.median("loss_contrastive", least=least)
        return self.median("loss", least=least) if contrastive is None else contrastive

    def _warm_at(self, row: Mapping[str, float]) -> int | None:
        if "learning_rate" not in row:
            return int(row["step"])
        if not self.rows or "learning_rate" not in self.row:
            return None
        is_rising = row["learning_rate"] > self.row["learning_rate"]
        return None if is_rising else self.step

    def _evaluated(self) -> None:
        loss, training = self.now("validation_loss"), self.training_loss(least=1)
        if loss is None or training is None:
            return
        evaluation = Evaluation(self.step, loss, training)
        if self.best is None or loss < self.best.validation_loss:
            self.best, self.since_best = evaluation, []
        else:
            self.since_best.append(evaluation)
