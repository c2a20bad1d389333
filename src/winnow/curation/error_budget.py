"""How many samples may fail before a run is stopped, since something else must be wrong.

An error is not a rejection: a reader that fails on every picture would otherwise look like a strict
filter. What is done stays done, so a run goes on where it stopped.
"""

from collections.abc import Iterable

from winnow.curation.shard_work import Outcome
from winnow.types import InputError

_ENOUGH = 10_000
"""Samples before which a share says little, and a run is not stopped on its way."""


class ErrorBudget:
    """The share `most` (0 to 1) of all samples that may be errors."""

    def __init__(self, most: float, done: Iterable[Outcome]) -> None:
        if not 0 <= most <= 1:
            raise InputError(f"max-errors is {most}: give a share from 0 to 1")
        self._most = most
        self._outcomes = [outcome for outcome in done if outcome.problem is None]
        self._samples = sum(outcome.samples for outcome in self._outcomes)
        self._errors = sum(outcome.errors.total() for outcome in self._outcomes)

    def charge(self, outcome: Outcome) -> None:
        """Count a shard. Raises InputError where the share is sure to be more than it may be."""
        if outcome.problem is not None:
            return
        self._outcomes.append(outcome)
        self._samples += outcome.samples
        self._errors += outcome.errors.total()
        if self._errors > self._most * max(self._samples, _ENOUGH):
            raise self._too_many()

    def close(self) -> None:
        """All shards are counted. Raises InputError where too many samples are errors."""
        if self._errors > self._most * self._samples:
            raise self._too_many()

    def _too_many(self) -> InputError:
        worst = sorted(self._outcomes, key=lambda one: -one.errors.total() / max(1, one.samples))
        named = [
            f"{one.shard}: {one.errors.total():,} of {one.samples:,}, most often "
            f"{one.errors.most_common(1)[0][0]!r}"
            for one in worst[:3]
            if one.errors
        ]
        return InputError(
            f"{self._errors:,} of {self._samples:,} samples are errors "
            f"({self._errors / self._samples:.1%}, more than {self._most:.1%}); the worst are "
            f"{'; '.join(named)}. Mend or leave out those shards, or allow more with `--max-errors`"
        )
