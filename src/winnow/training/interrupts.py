"""Ctrl-C and SIGTERM ask a run to stop; it stops between two steps, saved.

What a run does there that takes long, an evaluation, ends at once: nothing is lost that is not made
again when the run goes on.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


class BrokenOff(KeyboardInterrupt):
    """What was under way ended before its end, since `signal_number` asked to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@dataclass
class StopRequest:
    """Whether a stop was asked for."""

    signal_number: int = 0
    """The signal that asked; 0 while none has."""
    _breaks_off: bool = field(default=False, init=False, repr=False)

    def is_made(self) -> bool:
        """Whether one was."""
        return self.signal_number != 0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, raises BrokenOff as soon as a stop is asked for, or at the start if one was.

        For work of one process: others would wait for the one that left.
        """
        try:
            self._breaks_off = True
            if self.is_made():
                raise BrokenOff(self.signal_number)
            yield
        finally:
            self._breaks_off = False

    def make(self, signal_number: int) -> None:
        """Ask for a stop."""
        is_first = not self.is_made()
        self.signal_number = signal_number
        if is_first and self._breaks_off:
            raise BrokenOff(signal_number)


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM makes the request; a second SIGINT acts at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request.make(number)

    if threading.current_thread() is not threading.main_thread():
        # Python gives signals to the main thread only; who trains in another handles them there.
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
