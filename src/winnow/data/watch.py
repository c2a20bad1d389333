"""Watching those who read: what each is at, and how long a batch has been waited for.

Whoever reads a batch notes the picture it is at in memory that all processes share. The one that
waits looks at these notes now and then, says in a line what is slow, and gives up on a reader that
has not moved for as long as its patience lasts. A reader that is slow and moves is not given up.

Time is what a monotonic clock gained between two looks, as seen by the one that waits: a clock that
went back loses nothing but that span, and no two processes need to agree on the time.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Any

from winnow.types import InputError

FIRST_LINE_SECONDS = 10.0
"""A batch that is waited for longer than this is spoken of, again when the time has doubled."""
_LINE_AT_LEAST_EVERY = 60.0
# A process that was stopped for an hour and goes on finds the hour gone at one look.
_LOOKS_BEFORE_GIVING_UP = 10
_NONE = -1


class _Slot(ctypes.Structure):
    """What one reader is at, in shared memory."""

    _fields_ = [
        ("pid", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("done", ctypes.c_int64),
        ("total", ctypes.c_int64),
        ("changes", ctypes.c_uint64),
        ("what", ctypes.c_char * 1000),
    ]


class Notes:
    """What each of some readers is at; read by the process that waits for them."""

    def __init__(self, readers: int) -> None:
        self._slots: Any = RawArray(_Slot, readers)
        self.clear()

    def clear(self) -> None:
        """Nobody has begun anything."""
        for slot in self._slots:
            slot.pid, slot.step, slot.what = 0, _NONE, b""

    def begin(self, reader: int, step: int, total: int) -> None:
        """`reader` begins the batch of `step`, of `total` pictures."""
        slot = self._slots[reader]
        slot.pid, slot.step, slot.done, slot.total = os.getpid(), step, 0, total
        self.at(reader, "")

    def at(self, reader: int, what: str) -> None:
        """`reader` is at `what` now."""
        slot = self._slots[reader]
        slot.what = what.encode("utf-8", "replace")[:999]
        slot.changes += 1

    def has_read(self, reader: int) -> None:
        """`reader` has one more picture of its batch."""
        slot = self._slots[reader]
        slot.done += 1
        slot.changes += 1

    def changes(self, step: int) -> int:
        """A number that is another whenever the reader of `step`, or else any, has moved."""
        reader = self._reader_of(step)
        slots = self._slots if reader is None else [self._slots[reader]]
        return sum(slot.changes for slot in slots)

    def describe(self, step: int, *, still_seconds: float) -> str:
        """What the reader of `step` is at, and for how long."""
        reader = self._reader_of(step)
        if reader is None:
            return "no worker has begun the batch"
        slot = self._slots[reader]
        what = _text(slot.what) or "preparing or handing over its batch"
        who = "this process" if slot.pid == os.getpid() else f"worker {reader} (process {slot.pid})"
        return (
            f"{who} has been {what} for {still_seconds:.0f} s, "
            f"with {slot.done} of {slot.total} pictures read"
        )

    def of_process(self, pid: int) -> str:
        """What the process `pid` was at, or nothing."""
        found = [_text(slot.what) for slot in self._slots if slot.pid == pid]
        return f" while {found[0]}" if found and found[0] else ""

    def _reader_of(self, step: int) -> int | None:
        return next((n for n, slot in enumerate(self._slots) if slot.step == step), None)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How waiting is watched."""

    patience: float
    """Seconds for which a reader may stand still."""
    say: Callable[[str], None]
    """Given a line of plain text."""
    clock: Callable[[], float]
    """Seconds from whatever time."""
    stops: Callable[[], bool] = lambda: False
    """Whether whoever waits was asked to stop, and wants no batch that is not there."""


class Waiting:
    """The waiting for the batch of one step."""

    def __init__(self, step: int, notes: Notes, watch: Watch) -> None:
        self._step, self._notes, self._watch = step, notes, watch
        self._last_look, self._changes = watch.clock(), notes.changes(step)
        self._waited = self._still = 0.0
        self._looks_still = 0
        self._next_line = FIRST_LINE_SECONDS

    def look(self) -> InputError | None:
        """Say what there is to say; an error, which names what is stuck, once patience is out."""
        now, changes = self._watch.clock(), self._notes.changes(self._step)
        gained, self._last_look = max(0.0, now - self._last_look), now
        self._waited += gained
        if changes == self._changes:
            self._still, self._looks_still = self._still + gained, self._looks_still + 1
        else:
            self._still, self._looks_still = 0.0, 0
        self._changes = changes
        if self._waited >= self._next_line:
            self._next_line = self._waited + min(self._waited, _LINE_AT_LEAST_EVERY)
            self._watch.say(f"waiting {self._waited:.0f} s for data: {self._state()}")
        if self._still >= self._watch.patience and self._looks_still >= _LOOKS_BEFORE_GIVING_UP:
            return InputError(
                f"reading stands still at step {self._step}: {self._state()}. See whether that "
                "shard can be read and its disk, network or store answers; the same command goes "
                "on from the last checkpoint"
            )
        return None

    def over(self) -> None:
        """The batch has come."""
        if self._next_line > FIRST_LINE_SECONDS:
            self._watch.say(f"data again at step {self._step}, after {self._waited:.0f} s")

    def _state(self) -> str:
        return self._notes.describe(self._step, still_seconds=self._still)


def name_of_death(exit_code: int) -> str:
    """What ended a process, by the exit code that `multiprocessing` gives it."""
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"was ended by {name}{_COMMON_CAUSES.get(name, '')}"


_COMMON_CAUSES = {
    "SIGKILL": " (most often for want of memory: fewer --runtime.workers take less)",
    "SIGBUS": " (most often for want of shared memory: enlarge /dev/shm, docker's --shm-size)",
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
