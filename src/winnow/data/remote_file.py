"""A remote file in the state it was found in: read by requests that are made again, and checked."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from winnow.data.files import file_system, mendable, state_of
from winnow.data.retries import is_missing, retried
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class RemoteFile:
    """What `url` named when it was looked at first."""

    url: str
    size: int
    """Bytes."""
    change: str
    """Entity tag or time of modification; empty where a store gives neither."""
    retries: int
    """Tries after a request that failed in a way that may pass; see `retries.retried`."""
    sleep: Callable[[float], None] | None
    """Waits between tries; None is `time.sleep`."""

    @classmethod
    def found_at(
        cls, url: str, *, retries: int, sleep: Callable[[float], None] | None
    ) -> "RemoteFile":
        """The file as it is now. Raises InputError where there is none."""
        size, change = retried(lambda: state_of(url), url=url, retries=retries, sleep=sleep)
        return cls(url=url, size=size, change=change, retries=retries, sleep=sleep)

    def read(self, offset: int, end: int, *, retries: int | None = None) -> bytes:
        """The bytes [offset, end), by one request; `retries` other than its own.

        Raises InputError where the file is gone or another one by the end of the request: what
        was sent is then of no known file.
        """
        tries = self.retries if retries is None else retries
        with self._told():
            data = retried(
                lambda: self._attempt(offset, end), url=self.url, retries=tries, sleep=self.sleep
            )
            now = retried(lambda: state_of(self.url), url=self.url, retries=tries, sleep=self.sleep)
        if now != (self.size, self.change):
            raise InputError(
                f"{self.url} has changed since it was opened (it had {self.size} bytes and now has "
                f"{now[0]}, or has another entity tag): put the old file back, or curate it again"
            )
        return data

    def digest(self, *what: int) -> bytes:
        """32 bytes that stand for numbers `what` of this file in this state and of no other."""
        named = json.dumps([self.url, self.size, self.change, *what])
        return hashlib.sha256(named.encode("utf-8", "surrogateescape")).digest()

    def _attempt(self, offset: int, end: int) -> bytes:
        store, name = file_system(self.url)
        data = store.cat_file(name, start=offset, end=end)
        if len(data) != end - offset:
            raise OSError(f"the store sent {len(data)} of {end - offset} bytes from {offset}")
        return data

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with mendable(self.url):
                yield
        except InputError as error:
            if not is_missing(error):
                raise
            raise InputError(
                f"{self.url} is gone: it was there when it was opened; put it back and start again"
            ) from error
