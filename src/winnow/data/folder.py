"""Folders to write results into, on this machine or in an object store: what both can promise.

A file appears whole or not at all, and the last of several writers wins. On this machine it is
written beside its place and renamed; in a store it is written here and sent as one object. There
is no lock, no appending and no renaming of folders, because a store has none of them.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from winnow.data.files import file_system, is_remote
from winnow.types import InputError

_LOCAL = ("file://", "local://")
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}-(?P<process>\d+)-(?P<host>.*)\.partial")
_DAY = 24 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder, which need not exist yet; names in it are names of files, without a slash.

    What a store refuses is an InputError that names the URL; this machine's own OSErrors name the
    path and are left alone, and so is FileNotFoundError from both.
    """

    url: str
    """Absolute path, or URL without a slash at its end."""

    @classmethod
    def at(cls, place: "str | Path | Folder") -> "Folder":
        """The folder at a path or URL. Raises InputError where no file system answers to it."""
        if isinstance(place, Folder):
            return place
        url = str(place)
        for protocol in _LOCAL:
            url = url.removeprefix(protocol)
        if not is_remote(url):
            return cls(url=os.path.abspath(url))  # noqa: PTH100 - resolves `..`, leaves links alone
        if "::" in url:
            raise InputError(f"{url} is a chain of URLs: give the last one alone, to be written to")
        folder = cls(url=url.rstrip("/"))
        if not folder.is_remote:
            raise InputError(f"{url} names no folder: put one after it")
        folder._remote()
        return folder

    def __truediv__(self, name: str) -> "Folder":
        """The folder called `name` in this one."""
        return Folder(url=f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def is_remote(self) -> bool:
        """Whether it is in a store rather than on this machine."""
        return is_remote(self.url)

    @property
    def path(self) -> Path:
        """The folder of this machine. Raises InputError where it is in a store."""
        if self.is_remote:
            raise InputError(f"{self.url} is not on this machine: copy it here first")
        return Path(self.url)

    def exists(self, name: str) -> bool:
        """Whether there is a file (or a folder) called `name`."""
        if not self.is_remote:
            return (self.path / name).exists()
        with suppress(FileNotFoundError), _told(f"{self.url}/{name}"):
            store, path = self._remote()
            # Not its `exists`, to which no connection may be the same as no file.
            store.info(f"{path}/{name}")
            return True
        return False

    def names(self) -> list[str]:
        """The files directly in the folder, sorted; none where there is no folder."""
        return [name for name in self._list("file") if not _PARTIAL.fullmatch(name)]

    def folders(self) -> list[str]:
        """The folders directly in the folder, sorted, but for hidden ones; none where it is not."""
        return [name for name in self._list("directory") if not name.startswith(".")]

    def read(self, name: str) -> bytes:
        """What is in the file. Raises FileNotFoundError where there is none."""
        if not self.is_remote:
            return (self.path / name).read_bytes()
        with _told(f"{self.url}/{name}"):
            store, path = self._remote()
            return store.cat_file(f"{path}/{name}")

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The file as a seekable stream. Raises FileNotFoundError where there is none."""
        if not self.is_remote:
            with (self.path / name).open("rb") as local:
                yield local
            return
        with _told(f"{self.url}/{name}"):
            store, path = self._remote()
            remote = store.open(f"{path}/{name}", "rb")
        with remote:
            yield remote

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to; `name` appears, or is replaced, when the block ends well.

        Several writers of one name may be at it at once: each writes its own, the last one stays.
        """
        if not self.is_remote:
            self.path.mkdir(parents=True, exist_ok=True)
            partial = self.path / partial_name(name)
            try:
                yield partial
                partial.replace(self.path / name)
            except OSError as error:
                if error.filename is not None:
                    raise
                # Libraries that write say what, but not where.
                target = str(self.path / name)
                raise OSError(error.errno or errno.EIO, str(error), target) from error
            finally:
                partial.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix="winnow-") as here:
            yield Path(here, name)
            with _told(f"{self.url}/{name}", missing=InputError):
                store, path = self._remote()
                store.put_file(str(Path(here, name)), f"{path}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Put `data` under `name`."""
        with self.writing(name) as path:
            path.write_bytes(data)

    def remove(self, name: str) -> None:
        """Remove the file if it is there."""
        if not self.is_remote:
            (self.path / name).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError), _told(f"{self.url}/{name}"):
            store, path = self._remote()
            store.rm_file(f"{path}/{name}")

    def rename(self, old: str, new: str) -> None:
        """Give the file `old` the name `new`, over what has it; a store copies and then removes."""
        if not self.is_remote:
            (self.path / old).replace(self.path / new)
            return
        with _told(f"{self.url}/{old}"):
            store, path = self._remote()
            store.mv(f"{path}/{old}", f"{path}/{new}")

    def remove_tree(self) -> None:
        """Remove the folder and all that is in it, if it is there."""
        with suppress(FileNotFoundError):
            if not self.is_remote:
                shutil.rmtree(self.path)
                return
            with _told(self.url):
                store, path = self._remote()
                store.rm(path, recursive=True)

    def sweep(self) -> None:
        """Remove what killed writers left in a folder of this machine, so that it cannot pile up.

        That is what processes of this machine have left that are gone, and whatever is a day old.
        """
        if self.is_remote:
            return  # their files were in temporary folders of their own machines
        for name in self._list("file"):
            if is_abandoned(self.path / name):
                self.remove(name)

    def _list(self, kind: str) -> list[str]:
        with suppress(FileNotFoundError):
            if not self.is_remote:
                with os.scandir(self.path) as found:
                    return sorted(e.name for e in found if e.is_dir() == (kind == "directory"))
            with _told(self.url):
                store, path = self._remote()
                listed = store.ls(path, detail=True)
            # A store may also list an object that stands for the folder itself.
            parent = path.strip("/") + "/"
            places = [e["name"].strip("/") for e in listed if e["type"] == kind]
            return sorted(p.removeprefix(parent) for p in places if p.startswith(parent))
        return []

    def _remote(self) -> tuple[Any, str]:
        """The file system and the path in it, with nothing remembered of what others changed."""
        store, path = file_system(self.url)
        return store, path.rstrip("/")


@contextmanager
def claimed(folder: Path, *, doing: str) -> Iterator[None]:
    """Within, a folder of this machine is this process's alone; the lock goes with the process.

    Raises InputError, which says that another is `doing` something there, where one has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is {doing} {folder}: wait for it or stop it"
            ) from error
        held = [lock.fileno()]
        # A worker that outlives this process must not keep what it never asked for.
        os.register_at_fork(after_in_child=lambda: _close(held))
        try:
            yield
        finally:
            held.clear()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Within, no other process is within the same of this folder; for what takes no time."""
    with (folder / ".writing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A path of this machine with what is at `path`, which is `path` itself where it is one.

    A remote file is downloaded once, whole, and keeps its last name; the copy goes with the block.
    Not for a table, whose pictures stand beside it. Raises InputError where it cannot be read.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="winnow-") as here:
        copy = Path(here, path.rpartition("/")[2])
        with _told(path, missing=InputError):
            store, name = file_system(path)
            with store.open(name, "rb") as remote, copy.open("wb") as local:
                shutil.copyfileobj(remote, local, 1 << 20)
        yield str(copy)


def partial_name(name: str) -> str:
    """A name that nobody else writes to, and that says who does."""
    return f".{name}.{secrets.token_hex(4)}-{os.getpid()}-{socket.gethostname()}.partial"


def is_abandoned(path: Path) -> bool:
    """Whether whoever wrote to a `partial_name` is gone: its process, or for a day from afar."""
    named = _PARTIAL.fullmatch(path.name)
    if named is None:
        return False
    try:
        if named["host"] == socket.gethostname():
            os.kill(int(named["process"]), 0)
        return time.time() - path.stat().st_mtime > _DAY
    except ProcessLookupError:
        return True
    except (FileNotFoundError, PermissionError):  # finished just now; another user's process
        return False


@contextmanager
def _told(url: str, *, missing: type[Exception] = FileNotFoundError) -> Iterator[None]:
    """Turn what a store raises into errors that name `url`."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise missing(f"{url} is not there: {error}") from error
    # Every store brings exceptions of its own (no credentials, no connection), few are OSErrors.
    except Exception as error:
        raise InputError(f"{url} cannot be used: {error}") from error


def flush_folder(folder: Path) -> None:
    """Let the names in a folder of this machine outlast a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
