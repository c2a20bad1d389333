"""What shall be fetched soon: spans of blocks in a bounded queue, and those being fetched."""

import threading
from collections import deque
from typing import NamedTuple

from winnow.data.remote_file import RemoteFile

REQUEST_BLOCKS = 64
"""Blocks of one request at most."""

_ANNOUNCED_SPANS = 256  # a first window announces 64 runs at once


class Span(NamedTuple):
    """Blocks [first, last) of a file."""

    file: RemoteFile
    first: int
    last: int

    def covers(self, file: RemoteFile, block: int) -> bool:
        """Whether it has this block of this file."""
        return self.file is file and self.first <= block < self.last

    def joins(self, other: "Span") -> bool:
        """Whether both make one request: no gap between, and not too long."""
        is_next = self.file is other.file and self.first <= other.first <= self.last
        return is_next and other.last - self.first <= REQUEST_BLOCKS


class Announced:
    """The spans of a process that shall be fetched, oldest first, and those that are just now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Span] = deque()
        self._running: list[Span] = []
        self._has_thread = False

    def add(self, span: Span) -> bool:
        """Put it last, or drop it if there are too many; whether a thread has to be started."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if last is not None and last.joins(span):
                self._waiting[-1] = last._replace(last=max(last.last, span.last))
                return False
            if len(self._waiting) < _ANNOUNCED_SPANS:
                self._waiting.append(span)
            starts = not self._has_thread
            self._has_thread = True
            return starts

    def next(self) -> Span | None:
        """The oldest; None ends the thread that asks."""
        with self._changed:
            if not self._waiting:
                self._has_thread = False
                return None
            span = self._waiting.popleft()
            self._running.append(span)
            return span

    def take(self, file: RemoteFile, block: int) -> Span | None:
        """The span that covers the block, once it is not being fetched; None where none waits."""
        with self._changed:
            self._changed.wait_for(
                lambda: not any(span.covers(file, block) for span in self._running)
            )
            for span in self._waiting:
                if span.covers(file, block):
                    self._waiting.remove(span)
                    self._running.append(span)
                    return span
        return None

    def done(self, span: Span) -> None:
        """Say that it is no longer being fetched."""
        with self._changed:
            self._running.remove(span)
            self._changed.notify_all()
