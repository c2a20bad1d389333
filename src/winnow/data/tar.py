"""Webdataset tar shards, as img2dataset writes them: KEY.jpg, KEY.txt and KEY.json make a sample.

A tar is read in two passes. The first walks the headers alone and indexes which members make which
sample, so members may come in any order and apart from each other; the second reads each sample's
bytes in the order of the pictures and hands them out, holding one sample at a time. The index is
the only memory that grows, by less than a kilobyte a sample.

A key is everything up to the first dot of the last path component, as in webdataset. Where a key
comes twice, each is a sample if both have the same members, standing together; otherwise which
caption belongs to which picture cannot be known and all are errors. A shard that is cut or broken
yields what could be read and then one row that says from which byte on it could not.
"""

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, Self

from winnow.data.block_cache import BlockCache
from winnow.data.columns import DETECT, Columns
from winnow.data.files import open_ranges, open_whole
from winnow.data.ledger import Address
from winnow.data.sample import (
    MAX_TEXT_BYTES,
    RawSample,
    UnreadableError,
    check_picture_bytes,
    decode_caption,
    decode_metadata,
    printable,
    unreadable,
)
from winnow.types import InputError

PICTURE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm")
CAPTION_EXTENSIONS = ("txt", "caption")

_BLOCK = tarfile.BLOCKSIZE
_NUMBER = re.compile(rb"[0-9]{1,18}")
_PLAIN_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE),
    *(tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE),
)


def scan(shard: str, *, columns: Columns = DETECT) -> Iterator[RawSample]:
    """Every sample of the shard, in the order of the pictures. Raises InputError if compressed."""
    with open_whole(shard) as file:
        _refuse_compressed(shard, file)
        groups, damage = _index(file)
        for group in groups:
            yield _read_sample(file, group, columns)
        if damage is not None:
            detail = f"broken shard: {damage}; nothing after byte {damage.position} could be read"
            yield unreadable(shard.rpartition("/")[2], damage.position, 0, detail)


class TarReader:
    """Reads pictures of one tar at their offsets."""

    def __init__(self, shard: str, *, cache: BlockCache | None = None) -> None:
        self._shard = shard
        self._file = open_ranges(shard) if cache is None else cache.open(shard)

    def read(self, address: Address) -> bytes:
        """The picture's bytes. Raises InputError unless its header stands before it as it did."""
        block = self._file.read(address.offset - _BLOCK, _BLOCK + address.size)
        try:
            size = tarfile.TarInfo.frombuf(block[:_BLOCK], "utf-8", "surrogateescape").size
        except tarfile.HeaderError:
            size = -1
        if size != address.size or len(block) != _BLOCK + size:
            raise InputError(
                f"{self._shard} has changed since its ledger was made: {address.key} is no longer "
                f"at byte {address.offset}; curate the shard again"
            )
        return block[_BLOCK:]

    def will_need(self, first: Address, last: Address) -> None:
        """Announce the bytes from the first picture's header to the end of the last picture."""
        start = first.offset - _BLOCK
        self._file.will_need(start, last.offset + last.size - start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Span(NamedTuple):
    offset: int
    size: int


class _Member(NamedTuple):
    name: str
    span: _Span
    has_two_sizes: bool
    """Whether a PAX header gives it another size than the header that stands before its bytes."""


@dataclass(slots=True)
class _Group:
    """The members of one sample, by extension; `first` and `last` count members of the tar."""

    key: str
    first: int
    last: int
    members: dict[str, _Span] = field(default_factory=dict)
    is_ambiguous: bool = False
    has_two_sizes: bool = False

    @property
    def stands_together(self) -> bool:
        return self.last - self.first + 1 == len(self.members)

    @property
    def place(self) -> int:
        """Where the sample stands in the order of the shard: at its picture."""
        spans = [self.members[name] for name in PICTURE_EXTENSIONS if name in self.members]
        return (spans or list(self.members.values()))[0].offset


class _DamageError(Exception):
    def __init__(self, detail: str, position: int) -> None:
        super().__init__(detail)
        self.position = position


def _refuse_compressed(shard: str, file: BinaryIO) -> None:
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start == b"\xfd7zXZ\x00":
        raise InputError(
            f"{shard} is compressed, and a compressed tar has no random access: unpack it first "
            "(`gunzip FILE.tar.gz`; pictures are compressed already, so it hardly grows)"
        )


def _index(file: BinaryIO) -> tuple[list[_Group], _DamageError | None]:
    """The samples in order of their pictures, and what is wrong with the shard, if anything."""
    groups: list[_Group] = []
    latest: dict[str, _Group] = {}
    damage = None
    try:
        for number, member in enumerate(_members(file)):
            key, extension = _split_name(member.name)
            if not key:
                continue
            group = latest.get(key)
            if group is None or extension in group.members:
                group = latest[key] = _Group(key, first=number, last=number)
                groups.append(group)
            group.last = number
            group.members[extension] = member.span
            group.has_two_sizes |= member.has_two_sizes
    except _DamageError as error:
        damage = error
    _mark_ambiguous(groups)
    groups.sort(key=lambda group: group.place)
    return groups, damage


def _mark_ambiguous(groups: list[_Group]) -> None:
    namesakes = defaultdict(list)
    for group in groups:
        namesakes[group.key].append(group)
    for alike in namesakes.values():
        members = alike[0].members.keys()
        are_clear = all(g.stands_together and g.members.keys() == members for g in alike)
        for group in alike:
            group.is_ambiguous = len(alike) > 1 and not are_clear


def _split_name(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; an empty key for files that are no sample's."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    if not (stem and dot):
        return "", ""
    return folder + slash + stem, extension.lower()


def _members(file: BinaryIO) -> Iterator[_Member]:
    """Name and span of every plain file, from the headers alone.

    Raises _DamageError at the first byte from which nothing can be read. Zero blocks between
    members are passed over, so tars that were strung together are read to the end.
    """
    end = file.seek(0, 2)
    position, is_closed = 0, False
    overrides: dict[str, str] = {}
    while position < end:
        header = _read(file, _Span(position, _BLOCK), end)
        if not header.strip(b"\0"):
            position, is_closed = position + _BLOCK, True
            continue
        info = _parse_header(header, position)
        span = _Span(position + _BLOCK, int(overrides.get("size", info.size)))
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            overrides |= _parse_overrides(info.type, _read(file, span, end), position)
        elif info.type in _PLAIN_FILES:
            if span.offset + span.size > end:
                raise _DamageError(f"{printable(info.name)} is cut off by the file's end", position)
            name = printable(overrides.get("path", info.name))
            yield _Member(name, span, has_two_sizes=span.size != info.size)
            overrides = {}
        elif info.type != tarfile.GNUTYPE_LONGLINK:
            overrides = {}
        has_data = info.type not in _WITHOUT_DATA
        position, is_closed = span.offset + (_padded(span.size) if has_data else 0), False
    if not is_closed:
        raise _DamageError("the mark that ends a tar is missing", min(position, end))


def _parse_header(header: bytes, position: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _DamageError(f"no tar header ({error})", position) from error
    if info.size < 0 or info.type == tarfile.GNUTYPE_SPARSE:
        raise _DamageError("a header of negative size or of a sparse file", position)
    return info


def _parse_overrides(kind: bytes, data: bytes, position: int) -> dict[str, str]:
    """The `path` and `size` that a GNU long name or a PAX header gives to the next member."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    while data.strip(b"\0"):
        length, _, _ = data.partition(b" ")
        if not _NUMBER.fullmatch(length) or not len(length) < int(length) <= len(data):
            raise _DamageError("an extended header that is not as PAX says", position)
        name, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if name in (b"path", b"size"):
            found[name.decode()] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    if not _NUMBER.fullmatch(found.get("size", "0").encode("utf-8", "replace")):
        raise _DamageError("an extended header with a size that is no number", position)
    return found


def _read(file: BinaryIO, span: _Span, end: int) -> bytes:
    if span.offset + span.size > end or span.size > MAX_TEXT_BYTES:
        raise _DamageError("a header that is cut off or far too long", span.offset)
    file.seek(span.offset)
    return file.read(span.size)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _read_sample(file: BinaryIO, group: _Group, columns: Columns) -> RawSample:
    pictures = (columns.image,) if columns.image is not None else PICTURE_EXTENSIONS
    span = next((group.members[name] for name in pictures if name in group.members), None)
    address = span or _Span(group.place, 0)
    facts: dict[str, Any] = {}
    try:
        if group.is_ambiguous:
            raise UnreadableError("ambiguous key: it comes twice, with its members mixed")
        if group.has_two_sizes:
            # A reader sees only the header before the picture, and would refuse it for ever.
            raise UnreadableError("two sizes: a PAX header and the tar header do not agree")
        facts["metadata"] = _read_metadata(file, group)
        facts["caption"] = caption = _read_caption(file, group, columns, facts["metadata"])
        if span is None:
            raise UnreadableError(f"missing picture: only {', '.join(sorted(group.members))}")
        if caption is None:
            raise UnreadableError(f"missing caption: only {', '.join(sorted(group.members))}")
        check_picture_bytes(span.size)
    except UnreadableError as error:
        return unreadable(group.key, *address, str(error), **facts)
    file.seek(span.offset)
    image = file.read(span.size)
    return RawSample(group.key, *span, image, caption, facts["metadata"], error=None)


def _read_metadata(file: BinaryIO, group: _Group) -> dict[str, Any]:
    data = _read_text(file, group, "json")
    return {} if data is None else decode_metadata(data)


def _read_caption(
    file: BinaryIO, group: _Group, columns: Columns, metadata: dict[str, Any]
) -> str | None:
    for extension in CAPTION_EXTENSIONS if columns.caption is None else ():
        data = _read_text(file, group, extension)
        if data is not None:
            return decode_caption(data)
    caption = metadata.get(columns.caption or "caption")
    return caption if isinstance(caption, str) else None


def _read_text(file: BinaryIO, group: _Group, extension: str) -> bytes | None:
    span = group.members.get(extension)
    if span is None:
        return None
    if span.size > MAX_TEXT_BYTES:
        raise UnreadableError(f"{extension} too long: {span.size} bytes")
    file.seek(span.offset)
    return file.read(span.size)
