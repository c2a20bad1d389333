"""Files wherever they are: whole, by byte range, or by pattern; local paths and fsspec URLs alike.

A URL may be chained as fsspec chains them: `filecache::s3://bucket/00000.tar` keeps a copy of each
shard on the local disk. What is read again and again goes through `block_cache.BlockCache`, which
keeps a bounded part of all shards there.
"""

import functools
import glob
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from winnow.data.retries import retried
from winnow.types import InputError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
# Linux reads ahead at most a device's largest request for one advice, so advice comes in pieces.
_ADVICE_BYTES = 512 * 1024


class Ranges(Protocol):
    """A file of which any range of bytes can be read."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`, fewer than `size` where the file ends before."""

    def will_need(self, offset: int, size: int) -> None:
        """Announce that these bytes will be read soon; costs little, promises nothing."""

    def close(self) -> None:
        """Give the file back."""


def is_remote(path: str) -> bool:
    """Whether `path` is a URL rather than a path of this machine."""
    return "://" in path or "::" in path


def open_ranges(path: str) -> Ranges:
    """The file at `path`, for random access. Raises InputError where there is none."""
    if is_remote(path):
        return _RemoteRanges(path)
    with mendable(path):
        return _LocalRanges(path)


@contextmanager
def open_whole(path: str) -> Iterator[BinaryIO]:
    """The file at `path` as a seekable stream; a remote file is first copied to an unnamed one.

    Raises InputError where there is none.
    """
    if not is_remote(path):
        with mendable(path):
            local = Path(path).open("rb")  # noqa: SIM115 - closed by the `with` below
        with local:
            yield local
        return
    with tempfile.TemporaryFile() as copy:
        store, name = file_system(path)
        with mendable(path), store.open(name, "rb") as remote:
            shutil.copyfileobj(remote, copy, 1 << 20)
        copy.seek(0)
        yield copy


def read_whole(path: str, *, limit: int) -> bytes:
    """The first `limit` bytes of the file at `path`. Raises OSError where it cannot be read."""
    if not is_remote(path):
        with Path(path).open("rb") as file:
            return file.read(limit)
    store, name = file_system(path)
    with store.open(name, "rb") as file:
        return file.read(limit)


def expand_braces(pattern: str) -> list[str]:
    """`{000..009}` counts with its leading zeros, `{a,b}` lists; several multiply, in order."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    counted = _RANGE.fullmatch(found[1])
    if counted:
        first, last = counted[1], counted[2]
        choices = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        choices = found[1].split(",")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [whole for choice in choices for whole in expand_braces(head + choice + tail)]


def matching(pattern: str) -> list[str]:
    """The files that a glob pattern names, sorted; those of a directory where it is one.

    Anything else names one file; a remote one is looked for only when it is opened.
    """
    if is_remote(pattern):
        return _remote_matching(pattern)
    if glob.has_magic(pattern) and not Path(pattern).exists():
        return sorted(os.path.abspath(p) for p in glob.iglob(pattern, recursive=True))  # noqa: PTH100, PTH207
    path = Path(os.path.abspath(pattern))  # noqa: PTH100 - resolves `..`, leaves links alone
    if path.is_dir():
        return sorted(str(entry) for entry in path.iterdir())
    return [str(path)] if path.exists() else []


def _remote_matching(pattern: str) -> list[str]:
    store, name = file_system(pattern)
    with mendable(pattern):
        if glob.has_magic(name):
            names = store.glob(name)
        elif store.isdir(name):
            names = store.ls(name, detail=False)
        else:
            return [pattern]
    return sorted(_with_protocol(pattern, str(found)) for found in names)


def _with_protocol(url: str, name: str) -> str:
    """`name`, as a file system lists it, with the protocols (a chain, perhaps) of `url`."""
    chain, link, last = url.rpartition("::")
    protocol = last.partition("://")[0]
    return chain + link + (name if "://" in name else f"{protocol}://{name.lstrip('/')}")


def file_system(url: str) -> tuple[Any, str]:
    """The file system behind `url` and the name in it; nothing is remembered of earlier listings.

    Raises InputError where none answers to it.
    """
    from fsspec.core import url_to_fs

    try:
        store, name = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} cannot be reached: {error}") from error
    store.invalidate_cache()
    return store, name


def state_of(path: str) -> tuple[int, str]:
    """Size in bytes and time of modification (or entity tag) as they are now: another, changed.

    The second is empty where a store gives neither. Raises InputError where there is no such file.
    """
    with mendable(path):
        if not is_remote(path):
            facts = Path(path).stat()
            return facts.st_size, str(facts.st_mtime_ns)
        store, name = file_system(path)
        info: dict[str, Any] = store.info(name)
    changes = (info.get(key) for key in ("ETag", "LastModified", "mtime", "updated", "created"))
    return info.get("size") or 0, str(next((change for change in changes if change), ""))


@contextmanager
def mendable(path: str) -> Iterator[None]:
    """Turn what reading `path` raises into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # Every store brings exceptions of its own (no credentials, no connection).
        if not is_remote(path):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error


class _LocalRanges:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:  # a signal or a network file system may cut a read short
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def will_need(self, offset: int, size: int) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        for start in range(offset, offset + size, _ADVICE_BYTES):
            length = min(_ADVICE_BYTES, offset + size - start)
            os.posix_fadvise(self._descriptor, start, length, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        os.close(self._descriptor)


class _RemoteRanges:
    """One ranged request a read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file_system, self._name = file_system(url)

    @functools.cached_property
    def size(self) -> int:
        return state_of(self._url)[0]

    def read(self, offset: int, size: int) -> bytes:
        with mendable(self._url):
            return retried(
                lambda: self._file_system.cat_file(self._name, start=offset, end=offset + size),
                url=self._url,
            )

    def will_need(self, offset: int, size: int) -> None:
        pass

    def close(self) -> None:
        pass


class RangesStream(io.RawIOBase):
    """Ranges as a seekable stream, for libraries that want one; closing it closes them."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges, self._position = ranges, 0

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See io.RawIOBase."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ranges.size}
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        data = self._ranges.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """See io.RawIOBase."""
        if not self.closed:
            self._ranges.close()
        super().close()


def sha256_of(path: Path) -> str:
    """The hex digits of what is in a file of this machine. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
