"""Blocks of bytes in a folder of bounded size, shared by all processes of a machine.

    blocks/ab/abcdef...    a block: magic, length, a checksum of every 16 KiB, the bytes
    locks/0 ... 255        what processes hold while they fetch
    used, lock             bytes that the blocks take, and who may count

A block appears whole or not at all. One that is cut or damaged is noticed, removed and not there.
What was used longest ago goes first, where its time of modification is the time of its last use:
when it was written, or `touch`ed.
The folder never holds more than its limit, but for a block of every process that is writing one.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from winnow.data.folder import is_abandoned, partial_name

_MAGIC = b"winnow1\n"
_HEAD = struct.Struct("<8sQ")
_CHECKED_BYTES = 1 << 14  # a picture is some 50 KB: little is read beside it
_LOCKS = 256
_SPARE = 20  # a sweep frees a 20th of the folder, so that few writes have to sweep

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class BlockStore:
    """The blocks in a folder, by key: hex digits that say for ever what is in a block."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._blocks, self._locks = folder / "blocks", folder / "locks"
        self._used, self._lock = folder / "used", folder / "lock"
        self._limit = limit_bytes
        self._blocks.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(exist_ok=True)

    def read(self, key: str, offset: int, size: int) -> bytes | None:
        """`size` bytes of a block from `offset`, or None where it is not there or damaged.

        It is no use of the block, which goes when its turn comes. Raises OSError where the disk
        cannot be read.
        """
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            found = _read_checked(descriptor, offset, size)
        finally:
            os.close(descriptor)
        if found is None:
            path.unlink(missing_ok=True)
        return found

    def touch(self, key: str) -> bool:
        """Whether the block is there, which counts as a use of it."""
        try:
            os.utime(self._path(key))
        except PermissionError:  # a folder that another user filled
            return True
        except OSError:
            return False
        return True

    def write(self, key: str, data: bytes) -> None:
        """Keep `data`; others may go. Raises OSError where it cannot be written."""
        path = self._path(key)
        checksums = [
            zlib.crc32(data[start : start + _CHECKED_BYTES])
            for start in range(0, len(data), _CHECKED_BYTES)
        ]
        head = _HEAD.pack(_MAGIC, len(data)) + struct.pack(f"<{len(checksums)}I", *checksums)
        self._make_room(len(head) + len(data))
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(partial_name(path.name))
        try:
            partial.write_bytes(head + data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def alone_with(self, names: Iterable[bytes]) -> Iterator[None]:
        """Within, no other process or thread is within for one of these names.

        A name is a digest of its own. Where the disk gives no locks, others may be.
        """
        numbers = sorted({int.from_bytes(name[:8], "little") % _LOCKS for name in names})
        with ExitStack() as stack:
            for number in numbers:  # all go through them in one order, so none waits for ever
                with suppress(OSError):
                    stack.enter_context(_locked(self._locks / str(number)))
            yield

    def _path(self, key: str) -> Path:
        return self._blocks / key[:2] / key

    def _make_room(self, size: int) -> None:
        """Count `size` bytes more, after removing what must go for them."""
        with _locked(self._lock):
            try:
                used = int(self._used.read_text())
            except (FileNotFoundError, ValueError):
                used = self._limit  # unknown: count
            if used + size > self._limit:
                used = self._sweep(size)
            self._used.write_text(str(used + size))

    def _sweep(self, size: int) -> int:
        """The bytes of all blocks, after removing the longest unused until `size` more fit."""
        files = sorted(self._files(), key=lambda file: file[0])
        used = sum(length for _, length, _ in files)
        wanted = self._limit - max(size, self._limit // _SPARE)
        if used + size > self._limit:
            for _, length, path in files:
                if used <= wanted:
                    break
                if not path.name.startswith("."):  # another process is writing it
                    path.unlink(missing_ok=True)
                    used -= length
        return used

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Time of last use in nanoseconds, bytes and path of every file among the blocks."""
        for folder in self._blocks.iterdir():
            for entry in os.scandir(folder):
                path = Path(entry.path)
                if entry.name.startswith(".") and is_abandoned(path):
                    path.unlink(missing_ok=True)
                    continue
                with suppress(FileNotFoundError):
                    facts = entry.stat()
                    yield facts.st_mtime_ns, facts.st_size, path


def _read_checked(descriptor: int, offset: int, size: int) -> bytes | None:
    """Bytes of the block that is open, or None where it is cut or one of their checksums fails."""
    length = os.fstat(descriptor).st_size
    head = os.pread(descriptor, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        return None
    magic, data_length = _HEAD.unpack(head)
    num_checks = -(-data_length // _CHECKED_BYTES)
    start = _HEAD.size + 4 * num_checks
    if magic != _MAGIC or length != start + data_length or offset + size > data_length:
        return None
    first, last = offset // _CHECKED_BYTES, -(-(offset + size) // _CHECKED_BYTES)
    checks = os.pread(descriptor, 4 * (last - first), _HEAD.size + 4 * first)
    begin, end = first * _CHECKED_BYTES, min(last * _CHECKED_BYTES, data_length)
    data = os.pread(descriptor, end - begin, start + begin)
    if len(data) != end - begin or len(checks) != 4 * (last - first):
        return None
    for number, check in enumerate(struct.unpack(f"<{last - first}I", checks)):
        part = data[number * _CHECKED_BYTES : (number + 1) * _CHECKED_BYTES]
        if zlib.crc32(part) != check:
            return None
    return data[offset - begin : offset - begin + size]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process or thread in at a time; the lock goes with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A child that was forked meanwhile has the file open too.
            fcntl.flock(file, fcntl.LOCK_UN)
