"""Ctrl-C and SIGTERM ask a run to stop; it stops between two steps, saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether a stop was asked for."""

    signal_number: int = 0
    """The signal that asked; 0 while none has."""

    @property
    def asked(self) -> bool:
        """Whether one has."""
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within, the first SIGINT or SIGTERM sets the request; a second SIGINT acts at once."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        # Python gives signals to the main thread only; who trains in another handles them there.
        yield request
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
