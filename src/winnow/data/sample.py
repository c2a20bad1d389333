"""What every source yields and reads: one record a sample, and the picture again by its address.

Sources are hostile: sizes are bounded before anything is read, text is checked to be UTF-8 and json
to be an object, and what fails becomes the `error` of the sample, never a crash or a silent skip.
"""

import json
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from winnow.data.ledger import Address

MAX_PICTURE_BYTES = 1 << 28
MAX_TEXT_BYTES = 1 << 20


class RawSample(NamedTuple):
    """One sample as it stands in its shard. `offset` and `size` are its Address's.

    Where `error` ("code: detail") is not None the pair cannot be read and `image` is None.
    """

    key: str
    offset: int
    size: int
    image: bytes | None
    caption: str | None
    metadata: dict[str, Any]
    error: str | None


class Reader(Protocol):
    """Random access to the pictures of one shard; a context manager, for one process and thread."""

    def read(self, address: Address) -> bytes:
        """The picture's encoded bytes.

        Raises InputError where the shard is not as it was when the ledger was made.
        """

    def will_need(self, first: Address, last: Address) -> None:
        """Announce that the pictures from `first` to `last`, in shard order, are read soon."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class UnreadableError(Exception):
    """A sample that cannot be read; the message is "code: detail", as the ledger records it."""


def unreadable(key: str, offset: int, size: int, error: str, **facts: Any) -> RawSample:
    """The record of a sample that cannot be read; `facts` are the fields that are known anyway."""
    known = {"caption": None, "metadata": {}} | facts
    return RawSample(key, offset, size, None, error=error, **known)


def decode_caption(data: bytes) -> str:
    """The caption in `data`. Raises UnreadableError where it is no UTF-8 or is far too long."""
    if len(data) > MAX_TEXT_BYTES:
        raise UnreadableError(f"caption too long: {len(data)} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"caption is not UTF-8: byte {error.start}") from error


def decode_metadata(data: bytes) -> dict[str, Any]:
    """The json object in `data`. Raises UnreadableError where there is none."""
    try:
        metadata = json.loads(data)
        # An escaped lone surrogate is json but not text: it could never be written down again.
        if b"\\ud" in data.lower():
            json.dumps(metadata, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"metadata is not json: {error}") from error
    if not isinstance(metadata, dict):
        raise UnreadableError(f"metadata is not a json object: {type(metadata).__name__}")
    return metadata


def printable(name: str) -> str:
    """`name`, read with "surrogateescape", as text that can be written: bad bytes as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_picture_bytes(size: int) -> None:
    """Raise UnreadableError for a file too large to be one picture, before it is read."""
    if size > MAX_PICTURE_BYTES:
        raise UnreadableError(f"picture too large: {size} bytes, more than {MAX_PICTURE_BYTES}")
