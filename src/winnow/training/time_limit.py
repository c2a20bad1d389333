"""How long a run may go on: `--runtime.time-limit`, for machines that are lent by the hour."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from winnow.types import InputError

_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(limit: str) -> float:
    """Seconds of `H:MM:SS` or `D-HH:MM:SS` (as SLURM writes them) or of a number with s, m, h, d.

    Raises InputError for anything else, and for no time at all.
    """
    text = limit.strip()
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
    elif number := _NUMBER.fullmatch(text):
        total = float(number[1]) * _SECONDS[number[2]]
    else:
        raise InputError(
            f"time_limit {limit!r} is no length of time: write 3:50:00, 1-12:00:00, 90m or 3.5h"
        )
    if total <= 0:
        raise InputError(f"time_limit {limit!r} leaves no time: give more than 0")
    return total


class TimeLimit:
    """Whether the time is up, counted from here on; without a limit it never is.

    In a process that torchrun started again after a crash it counts from torchrun's own start.
    """

    def __init__(self, limit: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if limit is None else clock() + seconds_of(limit) - seconds_gone()

    @property
    def is_up(self) -> bool:
        """Whether it is."""
        return self._end is not None and self._clock() >= self._end


def seconds_gone() -> float:
    """Seconds since torchrun began, in a process that it started again after a crash.

    0 in any other, and where the system does not tell.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return 0.0
    try:
        line = Path(f"/proc/{os.getppid()}/stat").read_text()
    except OSError:
        return 0.0
    began_ticks = int(line.rpartition(")")[2].split()[19])  # proc(5): starttime, since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began_ticks / os.sysconf("SC_CLK_TCK")
