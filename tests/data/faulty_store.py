"""A store of its own protocol, `faulty://`: it writes down its requests and fails when told."""

import io
from collections.abc import Callable
from typing import ClassVar

import fsspec
from fsspec.spec import AbstractFileSystem


class FaultyStore(AbstractFileSystem):
    protocol = "faulty"
    cachable = False
    files: ClassVar[dict[str, tuple[bytes, str]]] = {}
    """Bytes and entity tag by name."""
    requests: ClassVar[list[tuple[str, int, int]]] = []
    """Every ranged request that was answered, in order."""
    attempts: ClassVar[list[str]] = []
    """The name that each request, answered or not, was for."""
    before: ClassVar[list[Callable[[], None]]] = []
    """What happens before the next requests, one each: it may raise, or wait."""

    def info(self, path, **_):
        data, tag = self._find(path)
        return {"name": path, "size": len(data), "type": "file", "ETag": tag}

    def cat_file(self, path, start=None, end=None, **_):
        self.attempts.append(path)
        if self.before:
            self.before.pop(0)()
        data = self._find(path)[0][start:end]
        self.requests.append((path, start, end))
        return data

    def _open(self, path, mode="rb", **_):
        if self.before:
            self.before.pop(0)()
        return io.BytesIO(self._find(path)[0])

    def _find(self, path):
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    @classmethod
    def reset(cls) -> None:
        for recorded in (cls.files, cls.requests, cls.attempts, cls.before):
            recorded.clear()

    @classmethod
    def put(cls, name: str, data: bytes, tag: str = "1") -> str:
        """The URL of a new file."""
        cls.files[name] = (data, tag)
        return f"faulty://{name}"


fsspec.register_implementation("faulty", FaultyStore, clobber=True)


def raising(error: Exception) -> Callable[[], None]:
    """Something that raises `error`."""

    def fail() -> None:
        raise error

    return fail
