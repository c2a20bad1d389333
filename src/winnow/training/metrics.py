"""metrics.jsonl: one row of numbers for every logged step, and nothing from a lost future.

A run that is killed may have logged steps that its last checkpoint does not hold. Resuming drops
those rows, so that the file is that of a run that was never interrupted.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """The metrics of one run, appended row by row."""

    def __init__(self, run: Path, *, resumed_at: int) -> None:
        self._path = run / METRICS_FILE
        rows = [row for row in read_metrics(run) if row["step"] <= resumed_at]
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
        partial.replace(self._path)
        self._file = self._path.open("a")

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, step: int, row: dict[str, float]) -> None:
        """Add the row of the state after `step` steps, and flush it."""
        self._file.write(json.dumps({"step": step} | row) + "\n")
        self._file.flush()


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Every whole row of a run's metrics; a last line cut short by a kill is left out."""
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


class Clock:
    """Where the time of a run goes, lap by lap."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._begin()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Within, the run has nothing to compute on."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def step_done(self) -> None:
        """Count one step."""
        self._steps += 1

    def lap(self) -> dict[str, float]:
        """Samples a second and the share of the time spent waiting for data, since the last lap."""
        seconds = time.perf_counter() - self._began
        row = {
            "samples_per_second": self._steps * self._batch_size / seconds,
            "data_wait_share": self._waited / seconds,
        }
        self._begin()
        return row

    def _begin(self) -> None:
        self._began, self._waited, self._steps = time.perf_counter(), 0.0, 0


def progress_note(row: dict[str, float]) -> str:
    """What the progress line says of a row of metrics."""
    return (
        f"loss {row['loss']:.3f}, {row['samples_per_second']:,.0f} samples/s, "
        f"waiting for data {row['data_wait_share']:.0%}"
    )
