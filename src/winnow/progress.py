"""Long work says how far it is, how fast, and how long it still takes.

On a terminal that is a bar; in a log file it is a line now and then.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[..., None]
"""`advance(count=1, note="")`: that many more units are done; the note stands behind the rate."""

_LINE_EVERY_SECONDS = 10.0


def say_to_stderr(line: str) -> None:
    """A line on standard error; a progress bar there lets it pass above itself."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def track(what: str, *, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show the progress of `what` towards `total` units, `done` of which were done before.

    Nothing is shown where there is nothing to do.
    """
    console = Console(file=sys.stderr)
    meter = _Meter(total=total, unit=unit, done=done)
    # Of processes that torchrun started, the first speaks for all.
    if done >= total or os.environ.get("RANK", "0") != "0":
        yield lambda count=1, note="": None
        return
    if not console.is_terminal:
        yield from _lines(console, what, meter)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, completed=done, state="")

        def advance(count: int = 1, note: str = "") -> None:
            meter.advance(count)
            bar.update(task, completed=meter.done, state=f"{meter.state()}  {note}".rstrip())

        yield advance


def _lines(console: Console, what: str, meter: "_Meter") -> Iterator[Advance]:
    last_line, last_note = time.monotonic(), ""

    def line() -> None:
        text = f"{what}: {meter.state()}, {meter.remaining()}  {last_note}".rstrip()
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal last_line, last_note
        meter.advance(count)
        last_note = note
        if time.monotonic() - last_line > _LINE_EVERY_SECONDS:
            line()
            last_line = time.monotonic()

    yield advance
    line()


class _Meter:
    """Counts units and the time since the first of this session."""

    def __init__(self, *, total: int, unit: str, done: int) -> None:
        self.total, self.unit, self.done = total, unit, done
        self._before, self._started = done, time.monotonic()

    def advance(self, count: int) -> None:
        self.done += count

    def rate(self) -> float:
        """Units a second."""
        return (self.done - self._before) / max(time.monotonic() - self._started, 1e-9)

    def state(self) -> str:
        return f"{self.done:,}/{self.total:,} {self.unit}, {self.rate():,.4g} {self.unit}/s"

    def remaining(self) -> str:
        if self.done >= self.total:
            return "done"
        seconds = (self.total - self.done) / max(self.rate(), 1e-9)
        return f"{seconds:,.0f} s left" if self.done > self._before else "estimating"
