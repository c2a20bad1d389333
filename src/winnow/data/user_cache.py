"""The user's cache: what can be made again from a user's files, shared by all runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def user_cache() -> Path:
    """The folder for what can be made again; it need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "winnow"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process of this machine in at a time; `path` is the lock.

    Where the file system has no locks several are let in, and make the same.
    """
    import fcntl

    with path.open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
