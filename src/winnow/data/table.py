"""A csv, tsv or jsonl table with a picture's path and a caption in each row, pictures beside it.

Paths count from the table's folder. A path that leaves the folder is an error of its row, whatever
the table says: a scraped table must not make winnow read, and show, other files of the machine.
"""

import csv
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Self

from winnow.data.columns import CAPTION_NAMES, DETECT, Columns, choose_column
from winnow.data.files import is_remote, open_whole, read_whole
from winnow.data.ledger import Address
from winnow.data.retries import retried
from winnow.data.sample import (
    MAX_PICTURE_BYTES,
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

PATH_NAMES = (
    *("filepath", "file_path", "file_name", "filename", "path", "image_path", "image", "img"),
    *("file", "picture"),
)
DELIMITERS = (",", "\t", ";", "|")

_Row = tuple[dict[str, Any], str | None]
"""The values of a row by column, and what is wrong with it, if anything."""


def scan(shard: str, *, columns: Columns = DETECT) -> Iterator[RawSample]:
    """Every row of the table. Raises InputError where a column is missing."""
    folder = _folder(shard)
    with open_whole(shard) as file:
        is_json = shard.endswith((".jsonl", ".ndjson"))
        names, rows = _read_jsonl(file) if is_json else _read_csv(file, columns, shard)
        image = choose_column(columns.image, PATH_NAMES, found=names, field="image", where=shard)
        caption = choose_column(
            columns.caption, CAPTION_NAMES, found=names, field="caption", where=shard
        )
        for number, (values, error) in enumerate(rows, start=1):
            if error is not None:
                yield unreadable(f"row {number}", 0, 0, error)
            else:
                yield _sample(folder, values, image, caption, number)


class TableReader:
    """Reads the pictures that stand beside one table."""

    def __init__(self, shard: str) -> None:
        self._folder = _folder(shard)

    def read(self, address: Address) -> bytes:
        """The picture's bytes. Raises InputError where its file is gone or has another size."""
        path = f"{self._folder}/{address.key}"

        def read() -> bytes:
            return read_whole(path, limit=address.size + 1)

        try:
            data = retried(read, url=path) if is_remote(path) else read()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read any more ({error.strerror or error}): put it back or "
                "curate the table again"
            ) from error
        if len(data) != address.size:
            raise InputError(f"{path} has changed since its ledger was made: curate it again")
        return data

    def will_need(self, first: Address, last: Address) -> None:
        """Nothing: the pictures are files of their own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _folder(shard: str) -> str:
    folder, slash, _ = shard.rpartition("/")
    return folder if slash else "."


def _sample(
    folder: str, values: dict[str, Any], image: str, caption: str, number: int
) -> RawSample:
    facts: dict[str, Any] = {"metadata": _metadata(values)}
    key = f"row {number}"
    try:
        text = values.get(caption)
        if not isinstance(text, str):
            raise UnreadableError(f"missing caption: column {caption} is empty")
        facts["caption"] = decode_caption(text.encode("utf-8", "surrogateescape"))
        path = values.get(image)
        if not isinstance(path, str) or not path:
            raise UnreadableError(f"missing picture: column {image} is empty")
        key = _inside(folder, path)
        data = _read_picture(folder, key)
    except UnreadableError as error:
        return unreadable(key, 0, 0, str(error), **facts)
    return RawSample(key, 0, len(data), data, facts["caption"], facts["metadata"], error=None)


def _metadata(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: printable(value) if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _inside(folder: str, given: str) -> str:
    """`given` relative to the table's folder. Raises UnreadableError where it is not inside."""
    path = PurePosixPath(given)
    if path.is_absolute() and path.is_relative_to(folder):
        path = path.relative_to(folder)
    if path.is_absolute() or ".." in path.parts or is_remote(given) or "\0" in given:
        raise UnreadableError(f"unsafe path: {given!r} is not inside the table's folder")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise UnreadableError(f"path is not UTF-8: {given!r}") from error
    return str(path)


def _read_picture(folder: str, key: str) -> bytes:
    try:
        data = read_whole(f"{folder}/{key}", limit=MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"missing picture: {key}: {error.strerror or error}") from error
    check_picture_bytes(len(data))
    return data


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of the file; one that is far too long comes in pieces, each a broken row."""
    return iter(lambda: file.readline(MAX_TEXT_BYTES), b"")


def _read_csv(file: BinaryIO, columns: Columns, shard: str) -> tuple[list[str], Iterator[_Row]]:
    lines = (line.decode("utf-8", "surrogateescape") for line in _lines(file))
    header = printable(next(lines, "").removeprefix("\ufeff"))
    try:
        delimiter = columns.delimiter or _sniff(header)
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise InputError(f"{shard} has no header line that csv can read: {error}") from error
    return names, _csv_rows(csv.reader(lines, delimiter=delimiter), names)


def _sniff(header: str) -> str:
    """The delimiter that splits the header into most columns, a comma where none does."""
    return max(DELIMITERS, key=lambda d: len(next(csv.reader([header], delimiter=d), [])))


def _csv_rows(reader: Any, names: list[str]) -> Iterator[_Row]:
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield {}, f"broken row: {error}"
            continue
        if len(values) > len(names):
            yield {}, f"broken row: {len(values)} values for {len(names)} columns"
        elif values:
            yield dict(zip(names, values, strict=False)), None


def _read_jsonl(file: BinaryIO) -> tuple[list[str], Iterator[_Row]]:
    start = file.tell()
    names = next((list(values) for values, _ in _json_rows(file) if values), [])
    file.seek(start)
    return names, _json_rows(file)


def _json_rows(file: BinaryIO) -> Iterator[_Row]:
    for line in _lines(file):
        if not line.strip():
            continue
        try:
            yield decode_metadata(line), None
        except UnreadableError as error:
            yield {}, f"broken row: {error}"
