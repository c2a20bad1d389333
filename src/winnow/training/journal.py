"""The journal of a run: its rows of numbers, what they say of its health, and the best so far.

Every rank has one and knows the best; rows are the first rank's business.
"""

from pathlib import Path
from types import TracebackType

from winnow.config import as_dict
from winnow.progress import say_to_stderr
from winnow.training.health import Finding, Health
from winnow.training.judging import Best
from winnow.training.metrics import progress_note, read_metrics
from winnow.training.recipe import Recipe
from winnow.training.telemetry import Telemetry


class Journal:
    """Of one run, from `resumed_at` on: rows of a lost future are dropped, others are known."""

    def __init__(self, recipe: Recipe, out: Path, *, resumed_at: int) -> None:
        """Raises InputError where what shows the numbers cannot be reached."""
        rows = [row for row in read_metrics(out) if row["step"] <= resumed_at]
        runtime = recipe.runtime
        self.best = Best(out, rows, by=runtime.best_by)
        self.folder = out
        self.stops: Finding | None = None
        """What the health rules that shall end a run have found."""
        self._health = Health(runtime.health, batch_size=recipe.batch_size, seen=rows)
        self._telemetry = Telemetry(
            out, resumed_at=resumed_at, sinks=runtime.telemetry, config=as_dict(recipe)
        )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._telemetry.__exit__(kind, error, trace)

    def write(self, step: int, row: dict[str, float]) -> str:
        """Add the row of the state after `step` steps; what the progress line says of it.

        For the first rank: clocks of ranks differ, and so might what they find.
        """
        self._telemetry.append(step, row)
        findings = self._health.see({"step": step} | row)
        self._telemetry.record(findings)
        for finding in findings:
            say_to_stderr(finding.sentence)
        self.stops = self.stops or self._health.stops(findings)
        return progress_note(row)
