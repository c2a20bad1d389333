"""metrics.jsonl: one row of numbers for every logged step, and nothing from a lost future.

A run that is killed may have logged steps that its last checkpoint does not hold. Resuming drops
those rows, so that the file is that of a run that was never interrupted. json has no NaN: a number
that is not finite is written as null, and read as NaN.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from winnow.types import InputError

METRICS_FILE = "metrics.jsonl"

_SOURCES_SHOWN, _NAME_SHOWN = 3, 12


class MetricsFile:
    """The rows of one run, appended one by one; `name` is for rows of another kind beside them."""

    def __init__(self, run: Path, *, resumed_at: int, name: str = METRICS_FILE) -> None:
        path = run / name
        rows = [row for row in _read_rows(path) if row["step"] <= resumed_at]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(map(_line, rows)), encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, step: int, row: Mapping[str, Any]) -> None:
        """Add the row of the state after `step` steps, and flush it."""
        self._file.write(_line({"step": step} | dict(row)))
        self._file.flush()


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Every whole row of a run's metrics, in order; a last line cut short by a kill is left out.

    Raises InputError for a line that is no row.
    """
    return [
        {name: math.nan if value is None else value for name, value in row.items()}
        for row in _read_rows(run / METRICS_FILE)
    ]


class Clock:
    """Where the time of a run goes, lap by lap.

    With the towers' `forward_flops` of a pair, by its number of tokens, and the `peak_flops` of all
    devices together, also which share of what they can do went into the model.
    """

    def __init__(
        self,
        batch_size: int,
        *,
        forward_flops: Callable[[int], float] | None = None,
        peak_flops: float | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`now` counts seconds from any start and never goes back."""
        self._batch_size, self._now = batch_size, now
        self._forward_flops, self._peak_flops = forward_flops, peak_flops
        self._begin()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Within, the run has nothing to compute on."""
        began = self._now()
        yield
        self._waited += self._now() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, the run does not train: it evaluates, say. No lap counts that time."""
        began = self._now()
        yield
        self._began += self._now() - began

    def step_done(self, *, tokens: int = 0) -> None:
        """Count one step, whose captions had so many `tokens` each with their padding."""
        self._steps += 1
        if self._forward_flops is not None:
            # A backward pass costs two forward ones; whatever is computed twice is not the model's.
            self._flops += 3 * self._forward_flops(tokens) * self._batch_size

    def lap(self) -> dict[str, float]:
        """Since the last lap: samples a second, the share of time without data, and mfu if known.

        The shares are from 0 to 1.
        """
        seconds = max(self._now() - self._began, 1e-9)
        rate = self._steps * self._batch_size / seconds
        row = {"samples_per_second": rate, "data_wait_share": self._waited / seconds}
        if self._forward_flops is not None and self._peak_flops is not None:
            row["mfu"] = self._flops / seconds / self._peak_flops
        self._begin()
        return row

    def _begin(self) -> None:
        self._began, self._waited, self._steps, self._flops = self._now(), 0.0, 0, 0.0


def progress_note(row: Mapping[str, float]) -> str:
    """What the progress line says of a row of metrics: no more than what the row has."""
    parts = [_loss(row)]
    for name, words in (
        ("scale", "scale {:.1f}"),
        ("gradient_norm", "gradient {:.2g}"),
        ("update_norm", "update {:.2g}"),
        ("samples_per_second", "{:,.0f} samples/s"),
        ("data_wait_share", "waiting for data {:.0%}"),
        ("memory_gb", "{:.1f} GB"),
        ("mfu", "MFU {:.0%}"),
    ):
        if name in row:
            parts.append(words.format(row[name]))
    return ", ".join(part for part in (*parts, _sources(row)) if part)


def by_source(row: Mapping[str, float], number: str) -> dict[str, float]:
    """`number` (`samples`, `loss`) of every source that the row has it of, by the source's name."""
    start, end = "source/", f"/{number}"
    return {
        name[len(start) : -len(end)]: value
        for name, value in row.items()
        if name.startswith(start) and name.endswith(end) and len(name) > len(start + end)
    }


def _loss(row: Mapping[str, float]) -> str:
    if "loss" not in row:
        return ""
    parts = [
        f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_")
    ]
    return f"loss {row['loss']:.3f}" + (f" ({', '.join(parts)})" if parts else "")


def _sources(row: Mapping[str, float]) -> str:
    """The largest sources: their share of the samples and their loss."""
    samples, losses = by_source(row, "samples"), by_source(row, "loss")
    total = sum(samples.values())
    if not total:
        return ""
    largest = sorted(samples, key=lambda name: (-samples[name], name))[:_SOURCES_SHOWN]
    words = [
        f"{_short(name)} {samples[name] / total:.0%}"
        + (f" at {losses[name]:.2f}" if name in losses else "")
        for name in largest
    ]
    rest = len(samples) - len(largest)
    return "; ".join(words) + (f"; {rest} more" if rest else "")


def _short(name: str) -> str:
    """A name that the terminal takes for no command of its own; brackets are for colours there."""
    letters = ("_" if not letter.isprintable() or letter in "[]" else letter for letter in name)
    plain = "".join(letters)
    return plain if len(plain) <= _NAME_SHOWN else plain[: _NAME_SHOWN - 1] + "…"


def _line(row: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [_read_row(line, f"{path} line {n}") for n, line in enumerate(lines, start=1)]


def _read_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no json ({error}): take the line out") from error
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise InputError(f"{where} is no row with a step: take the line out")
    return row
