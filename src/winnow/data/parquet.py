"""Parquet shards with the pictures inside, in the Hugging Face layout or with a plain bytes column.

The picture is a struct of `bytes` and `path`, or binary; the caption is text. All other scalar
columns become the sample's metadata. An address is (row group, row within it), so a picture is read
again by decoding its row group: tars are the faster format to train from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.data.block_cache import BlockCache
from winnow.data.columns import CAPTION_NAMES, DETECT, Columns, choose_column
from winnow.data.files import RangesStream, is_remote, open_ranges, open_whole
from winnow.data.ledger import Address
from winnow.data.row_groups import InCache, InMemory, Pictures
from winnow.data.sample import (
    RawSample,
    UnreadableError,
    check_picture_bytes,
    decode_caption,
    unreadable,
)
from winnow.types import InputError

PICTURE_NAMES = (
    *("image", "img", "picture", "jpg", "jpeg", "png", "webp"),
    *("image_bytes", "bytes", "content"),
)
KEY_NAMES = ("key", "__key__")
MAX_ROW_GROUP_BYTES = 1 << 30

_ROWS_AT_ONCE = 16
_STREAM_BYTES = 1 << 20
_BROKEN = (pa.ArrowException, OSError)


def scan(shard: str, *, columns: Columns = DETECT) -> Iterator[RawSample]:
    """Every row of the shard. Raises InputError where a column is missing or a row group too big.

    A file that is no parquet is one sample with an error; so is each row of a broken row group.
    """
    name = shard.rpartition("/")[2]
    with open_whole(shard) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=_STREAM_BYTES)
        except _BROKEN as error:
            yield unreadable(name, 0, 0, f"broken shard: {_first_line(error)}")
            return
        layout = _layout(file, columns, shard)
        first = 0
        for group in range(file.num_row_groups):
            yield from _scan_row_group(file, group, layout, first)
            first += file.metadata.row_group(group).num_rows


class ParquetReader:
    """Reads pictures of one parquet file; see `row_groups` for how much stays decoded where."""

    def __init__(
        self,
        shard: str,
        *,
        columns: Columns = DETECT,
        cache: BlockCache | None = None,
    ) -> None:
        self._shard = shard
        self._ranges = open_ranges(shard) if cache is None else cache.open(shard)
        source = RangesStream(self._ranges) if is_remote(shard) else shard
        try:
            self._file = pq.ParquetFile(source, pre_buffer=False)
        except _BROKEN as error:
            raise InputError(f"{shard} is not a parquet file: {_first_line(error)}") from error
        self._layout = _layout(self._file, columns, shard)
        self._pictures: Pictures = (
            InMemory(self._decode)
            if cache is None
            else InCache(self._decode, cache=cache, path=shard)
        )

    def read(self, address: Address) -> bytes:
        """The picture's bytes. Raises InputError where that row is gone or cannot be read."""
        try:
            if address.size >= self._file.metadata.row_group(address.offset).num_rows:
                raise self._changed(address)
            picture = self._pictures.picture(address.offset, address.size)
        except (*_BROKEN, IndexError) as error:
            raise self._changed(address) from error
        if picture is None:
            raise self._changed(address)
        return picture

    def will_need(self, first: Address, last: Address) -> None:
        """Announce the picture columns of the row groups from the first to the last."""
        for group in range(first.offset, last.offset + 1):
            chunk = self._file.metadata.row_group(group).column(self._layout.leaf)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            self._ranges.will_need(start, chunk.total_compressed_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._ranges.close()

    def _decode(self, group: int) -> pa.ChunkedArray:
        # One thread: readers live in forked workers, which share the cores already.
        column = self._layout.image
        table = self._file.read_row_group(group, columns=[column], use_threads=False)
        return _picture_bytes(table.column(column))

    def _changed(self, address: Address) -> InputError:
        return InputError(
            f"{self._shard} has changed since its ledger was made: row {address.size} of row group "
            f"{address.offset} ({address.key}) cannot be read; curate the shard again"
        )


@dataclass(frozen=True, kw_only=True)
class _Layout:
    image: str
    caption: str
    key: str | None
    metadata: tuple[str, ...]
    leaf: int
    """Which of the file's leaf columns holds the pictures' bytes."""

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys([self.image, self.caption, *self.metadata]))


class _Row(NamedTuple):
    image: bytes | None
    path: str | None
    caption: bytes | None
    metadata: dict[str, Any]


def _layout(file: pq.ParquetFile, columns: Columns, shard: str) -> _Layout:
    schema = file.schema_arrow
    found = schema.names
    repeated = next((name for name in found if found.count(name) > 1), None)
    if repeated is not None:
        raise InputError(
            f"{shard} has more than one column {repeated!r}: write it again with one of each name"
        )
    image = choose_column(columns.image, PICTURE_NAMES, found=found, field="image", where=shard)
    caption = choose_column(
        columns.caption, CAPTION_NAMES, found=found, field="caption", where=shard
    )
    _check_types(schema.field(image).type, schema.field(caption).type, image, caption, shard)
    paths = [file.schema.column(leaf).path for leaf in range(len(file.schema))]
    leaf = paths.index(f"{image}.bytes" if f"{image}.bytes" in paths else image)
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).column(leaf).total_uncompressed_size
        if size > MAX_ROW_GROUP_BYTES:
            raise InputError(
                f"{shard} has row groups too large to read one picture from ({size} bytes): write "
                "it again with pyarrow.parquet.write_table(..., row_group_size=100)"
            )
    return _Layout(
        image=image,
        caption=caption,
        key=next((name for name in KEY_NAMES if name in found), None),
        metadata=tuple(f.name for f in schema if f.name != image and _is_scalar(f.type)),
        leaf=leaf,
    )


def _check_types(
    image_type: pa.DataType, caption_type: pa.DataType, image: str, caption: str, shard: str
) -> None:
    is_struct = pa.types.is_struct(image_type)
    bytes_type = image_type.field("bytes").type if is_struct and _has_bytes(image_type) else None
    if not _is_binary(bytes_type if is_struct else image_type):
        raise InputError(
            f"{shard}: column {image!r} holds {image_type}, not pictures (binary, or a struct with "
            "`bytes`): pass Columns(image=...)"
        )
    if not (_is_text(caption_type) or _is_binary(caption_type)):
        raise InputError(
            f"{shard}: column {caption!r} holds {caption_type}, not text: pass Columns(caption=...)"
        )


def _has_bytes(struct: pa.DataType) -> bool:
    return struct.get_field_index("bytes") >= 0


def _is_binary(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_scalar(kind: pa.DataType) -> bool:
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number or pa.types.is_boolean(kind) or _is_text(kind)


def _scan_row_group(
    file: pq.ParquetFile, group: int, layout: _Layout, first: int
) -> Iterator[RawSample]:
    row = 0
    try:
        for batch in file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=layout.columns, use_threads=False
        ):
            for content in _rows(batch, layout):
                yield _sample(content, layout, group, row, number=first + row)
                row += 1
    except _BROKEN as error:
        detail = f"broken row group: {_first_line(error)}"
        for lost in range(row, file.metadata.row_group(group).num_rows):
            yield unreadable(_number_key(first + lost), group, lost, detail)


def _rows(batch: pa.RecordBatch, layout: _Layout) -> Iterator[_Row]:
    image = batch.column(layout.image)
    pictures = _picture_bytes(image)
    has_path = pa.types.is_struct(image.type) and image.type.get_field_index("path") >= 0
    paths = _text(pc.struct_field(image, "path")) if has_path else [None] * len(batch)
    captions = _raw_text(batch.column(layout.caption)).to_pylist()
    metadata = {name: _values(batch.column(name)) for name in layout.metadata}
    for row in range(len(batch)):
        values = {name: column[row] for name, column in metadata.items()}
        present = {name: value for name, value in values.items() if value is not None}
        yield _Row(pictures[row].as_py(), paths[row], captions[row], present)


def _sample(content: _Row, layout: _Layout, group: int, row: int, *, number: int) -> RawSample:
    named = content.metadata.get(layout.key) if layout.key else content.path
    key = str(named) if named else _number_key(number)
    facts: dict[str, Any] = {"metadata": content.metadata}
    try:
        if content.caption is None:
            raise UnreadableError(f"missing caption: {layout.caption} is null")
        facts["caption"] = caption = decode_caption(content.caption)
        if content.image is None:
            raise UnreadableError(f"missing picture: {layout.image} has no bytes")
        check_picture_bytes(len(content.image))
    except UnreadableError as error:
        return unreadable(key, group, row, str(error), **facts)
    return RawSample(key, group, row, content.image, caption, content.metadata, error=None)


def _number_key(number: int) -> str:
    return f"{number:08d}"


def _picture_bytes(column: Any) -> Any:
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _raw_text(column: Any) -> Any:
    """The column as bytes: Arrow does not check that what a file calls text is UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.large_binary())


def _text(column: Any) -> list[str | None]:
    raw = _raw_text(column).to_pylist()
    return [None if data is None else data.decode("utf-8", "backslashreplace") for data in raw]


def _values(column: Any) -> list[Any]:
    return _text(column) if _is_text(column.type) else column.to_pylist()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
