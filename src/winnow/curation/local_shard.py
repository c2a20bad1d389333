"""A shard as a file of this machine, fetched once, when it is first asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from winnow.data.folder import local_copy
from winnow.data.sources import TABLES
from winnow.types import InputError


class UnreadableShardError(InputError):
    """A shard that cannot be read as a whole; other shards may be."""


class LocalShard:
    """The shard at a path or URL; a copy of a remote one goes with `stack`."""

    def __init__(self, shard: str, stack: ExitStack) -> None:
        self.shard = shard
        self._stack = stack
        self._path: str | None = None

    @property
    def path(self) -> str:
        """Where it lies on this machine; a table stays where its pictures are."""
        if self._path is None:
            if self.shard.endswith(TABLES):
                self._path = self.shard
            else:
                self._path = self._stack.enter_context(local_copy(self.shard))
        return self._path

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What cannot be read in the block is the shard's fault, and named by the shard's name."""
        try:
            yield
        except (InputError, OSError) as error:
            sentence = str(error) if isinstance(error, InputError) else f"{self.shard}: {error}"
            own_name = sentence.replace(self._path, self.shard) if self._path else sentence
            raise UnreadableShardError(own_name) from error
