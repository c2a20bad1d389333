"""Remote shards through a bounded folder of blocks on this machine.

A file is read in aligned blocks; those that are missing and stand together are asked for in one
ranged request. What is announced (a run of 256 pictures, 13 MB, a window before its turn) is
fetched in the background, oldest first, and a reader that needs it earlier takes it over. So a run
is one request, whoever comes first, and an epoch fetches the data set about once, as long as the
folder holds two windows of the order: 2 x 64 runs x 13 MB = 1.7 GB. What was asked for longest ago
goes first. That a block was read does not keep it: a picture is read once an epoch, and those of
the window before would push out what is announced and still to be read.

What is made from a shard and dear to make again, decoded row groups, is kept beside the blocks, and
what was read of it longest ago goes first: many runs read of one.

A block's key is a hash of the URL, the file's size and entity tag as it was opened, and the block's
number: another file is never taken for it. That the file is still that one is asked after every
request, and before its blocks are kept. Where the disk is full, the rest is read without the cache.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from winnow.data.announced import REQUEST_BLOCKS, Announced, Span
from winnow.data.block_store import DISK_FULL, BlockStore
from winnow.data.files import Ranges, is_remote, open_ranges
from winnow.data.remote_file import RemoteFile
from winnow.data.retries import RETRIES
from winnow.progress import say_to_stderr
from winnow.types import InputError

_LEAST_BLOCKS = 16
_BLOCKS_OF_A_LOCK = 16
_MADE = (0, 0)  # no block has 0 bytes: what is made is never taken for one


@dataclass(frozen=True, kw_only=True)
class BlockCache:
    """Where blocks of remote shards are kept, and how many.

    All processes of a machine may share one folder, other runs' too; those of one folder must be
    given the same limit. It can be removed at any time between runs.
    """

    folder: Path
    """On a disk of this machine; made where it is missing."""
    gigabytes: float = 20.0
    """Bound of what is kept there, in 10^9 bytes; 1.7 hold two windows at 50 KB a picture."""
    block_bytes: int = 1 << 20
    """Bytes of a block; a request is for a whole number of them."""
    retries: int = RETRIES
    """Tries after a request that failed in a way that may pass, 1, 4, 16, ... seconds later."""

    def __post_init__(self) -> None:
        if self.block_bytes < 1 or self.retries < 0:
            raise InputError(
                f"BlockCache: block_bytes {self.block_bytes} must be at least 1 and retries "
                f"{self.retries} at least 0"
            )
        if not _LEAST_BLOCKS * self.block_bytes <= self.gigabytes * 1e9 < 2**63:
            raise InputError(
                f"BlockCache: gigabytes {self.gigabytes} must hold at least {_LEAST_BLOCKS} blocks "
                f"of {self.block_bytes} bytes"
            )

    def open(
        self,
        path: str,
        *,
        sleep: Callable[[float], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Ranges:
        """The file at `path`, for random access; one of this machine is read as it is.

        `sleep` waits between tries, `say` is told once a process if the disk is full (a line on
        stderr). Reading raises InputError where the file is gone, is another than when this process
        opened it first, or cannot be read after all tries; opening it does, too.
        """
        if not is_remote(path):
            return open_ranges(path)
        ranges = _CachedRanges(self, path, sleep, say or say_to_stderr)
        ranges.find()
        return ranges

    def __getstate__(self) -> dict[str, Any]:
        return asdict(self)

    def name_of(self, path: str, *what: int) -> bytes:
        """A name for what is made from a file, local or not, in the state that it is in."""
        process = self.of_this_process(say_to_stderr)
        return process.file(path, None).digest(*_MADE, *what)

    def recall(self, name: bytes, offset: int, size: int) -> bytes | None:
        """`size` bytes from `offset` of what is kept under a name; None where nothing is."""
        return self.of_this_process(say_to_stderr).recall(name.hex(), offset, size)

    def remember(self, name: bytes, make: Callable[[], bytes | None]) -> bool:
        """Whether something is kept under a name now: what another process made, or else `make`.

        Processes make it one after another. It may return None, and nothing is kept.
        """
        return self.of_this_process(say_to_stderr).remember(name, make)

    @property
    def limit_bytes(self) -> int:
        """Bound of what is kept."""
        return int(self.gigabytes * 1e9)

    def of_this_process(self, say: Callable[[str], None]) -> "_Process":
        """What this process has of the cache; threads and their locks do not survive a fork."""
        process = self._processes.get(os.getpid())
        if process is None:
            process = self._processes[os.getpid()] = _Process(self, say)
        return process

    @functools.cached_property
    def _processes(self) -> "dict[int, _Process]":
        return {}


class _Process:
    """What a process has of a cache: the files it knows, the store, a thread that fetches."""

    def __init__(self, cache: BlockCache, say: Callable[[str], None]) -> None:
        self._cache, self._say = cache, say
        self._files: dict[str, RemoteFile] = {}
        self._announced = Announced()
        self._store: BlockStore | None = None
        try:
            self._store = BlockStore(cache.folder, limit_bytes=cache.limit_bytes)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise InputError(
                    f"{cache.folder} cannot hold a cache ({error.strerror}): give "
                    "BlockCache(folder=...) a folder that can be written"
                ) from error
            self._say_why(error)

    def file(self, url: str, sleep: Callable[[float], None] | None) -> RemoteFile:
        """The file as this process found it first, however often it is opened."""
        if url not in self._files:
            self._files[url] = RemoteFile.found_at(url, retries=self._cache.retries, sleep=sleep)
        return self._files[url]

    def announce(self, file: RemoteFile, offset: int, end: int) -> None:
        """Fetch the blocks of these bytes in the background."""
        if self._store is None:
            return
        unit = self._cache.block_bytes
        span = Span(file, offset // unit, -(-end // unit))
        if self._announced.add(span):
            threading.Thread(target=self._fetch_announced, daemon=True).start()

    def read(self, file: RemoteFile, offset: int, end: int) -> bytes:
        """The bytes [offset, end), of which there is at least one."""
        unit, pieces = self._cache.block_bytes, []
        last = -(-end // unit)
        fetched: dict[int, bytes] = {}
        for block in range(offset // unit, last):
            low, high = max(offset - block * unit, 0), min(end - block * unit, unit)
            piece = None if block in fetched else self._kept(file, block, low, high)
            if piece is None and block not in fetched:
                if self._store is None:  # nobody gains from whole blocks
                    return file.read(offset, end)
                fetched |= self._fetch_needed(Span(file, block, last))
            pieces.append(fetched[block][low:high] if piece is None else piece)
        return b"".join(pieces)

    def _fetch_needed(self, span: Span) -> dict[int, bytes]:
        """The first block of the span at least, and what was asked for along with it."""
        announced = self._announced.take(span.file, span.first)
        try:
            fetched = self._fetch(announced or span)
        finally:
            if announced is not None:
                self._announced.done(announced)
        if span.first not in fetched:  # another process kept it meanwhile
            unit = self._cache.block_bytes
            size = min(unit, span.file.size - span.first * unit)
            data = self._kept(span.file, span.first, 0, size)
            fetched |= (
                self._request(span.file, span.first, span.first + 1)
                if data is None
                else {span.first: data}
            )
        return fetched

    def _fetch_announced(self) -> None:
        while (span := self._announced.next()) is not None:
            try:
                self._fetch(span, retries=0)
            except InputError:
                pass  # whoever needs it will try again, and be told
            finally:
                self._announced.done(span)

    def _fetch(self, span: Span, *, retries: int | None = None) -> dict[int, bytes]:
        """Ask for those blocks of the span that are missing, and keep them."""
        file, store = span.file, self._store
        if store is None:
            return {}
        parts = range(span.first // _BLOCKS_OF_A_LOCK, (span.last - 1) // _BLOCKS_OF_A_LOCK + 1)
        fetched: dict[int, bytes] = {}
        with store.alone_with(file.digest(part) for part in parts):
            missing = [
                b for b in range(span.first, span.last) if not store.touch(self._key(file, b))
            ]
            for first, last in _neighbours(missing):
                blocks = self._request(file, first, last, retries=retries)
                for block, data in blocks.items():
                    self._keep(self._key(file, block), data)
                fetched |= blocks
        return fetched

    def _request(
        self, file: RemoteFile, first: int, last: int, *, retries: int | None = None
    ) -> dict[int, bytes]:
        unit = self._cache.block_bytes
        data = file.read(first * unit, min(last * unit, file.size), retries=retries)
        return {
            block: data[(block - first) * unit : (block - first + 1) * unit]
            for block in range(first, last)
        }

    def remember(self, name: bytes, make: Callable[[], bytes | None]) -> bool:
        """See BlockCache.remember."""
        store = self._store
        if store is None:
            return False
        with store.alone_with([name]):
            if store.touch(name.hex()):
                return True
            data = make()
            return data is not None and self._keep(name.hex(), data)

    def recall(self, key: str, offset: int, size: int) -> bytes | None:
        """See BlockCache.recall."""
        store = self._store
        if store is None or not store.touch(key):
            return None
        return self._read(store, key, offset, size)

    def _kept(self, file: RemoteFile, block: int, low: int, high: int) -> bytes | None:
        store = self._store
        if store is None:
            return None
        return self._read(store, self._key(file, block), low, high - low)

    def _read(self, store: BlockStore, key: str, offset: int, size: int) -> bytes | None:
        try:
            return store.read(key, offset, size)
        except OSError as error:
            self._go_without(error)
            return None

    def _keep(self, key: str, data: bytes) -> bool:
        store = self._store
        if store is None:
            return False
        try:
            store.write(key, data)
        except OSError as error:
            self._go_without(error)
            return False
        return True

    def _key(self, file: RemoteFile, block: int) -> str:
        return file.digest(self._cache.block_bytes, block).hex()

    def _go_without(self, error: OSError) -> None:
        store, self._store = self._store, None
        if store is not None:
            self._say_why(error)

    def _say_why(self, error: OSError) -> None:
        self._say(
            f"the cache in {self._cache.folder} cannot be used any more ({error.strerror}): remote "
            "shards are read without it; free space there and start again"
        )


class _CachedRanges:
    def __init__(
        self,
        cache: BlockCache,
        url: str,
        sleep: Callable[[float], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self._cache, self._url, self._sleep, self._say = cache, url, sleep, say

    def find(self) -> tuple[_Process, RemoteFile]:
        """This process's part of the cache and the file; asked anew, for there may be a fork."""
        process = self._cache.of_this_process(self._say)
        return process, process.file(self._url, self._sleep)

    @property
    def size(self) -> int:
        _, file = self.find()
        return file.size

    def read(self, offset: int, size: int) -> bytes:
        process, file = self.find()
        end = min(offset + size, file.size)
        return process.read(file, offset, end) if offset < end else b""

    def will_need(self, offset: int, size: int) -> None:
        process, file = self.find()
        end = min(offset + size, file.size)
        if offset < end:
            process.announce(file, offset, end)

    def close(self) -> None:
        pass


def _neighbours(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of blocks that follow one another, none too long for one request."""
    first = 0
    for place in range(1, len(blocks) + 1):
        is_end = place == len(blocks) or blocks[place] != blocks[place - 1] + 1
        if is_end or place - first == REQUEST_BLOCKS:
            yield blocks[first], blocks[place - 1] + 1
            first = place
