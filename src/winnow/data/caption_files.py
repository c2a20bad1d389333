"""Files of captions by uid, as recaptioned data sets ship them: parquet, csv, tsv or jsonl.

A column holds one text or a list of texts a row; a uid may come in several rows, columns and files.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from winnow.data.files import expand_braces, matching, open_whole, state_of
from winnow.data.keyed import parse_uids
from winnow.types import InputError

UID = "uid"
"""The column of uids."""

_ROWS_AT_ONCE = 1 << 14
_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
_COLUMNS = re.compile(r"(?P<path>.+):(?P<columns>[^:/\\]+)")


class Texts(NamedTuple):
    """Some captions of a file, in any order."""

    key: np.ndarray
    """KEY_DTYPE: whose each is."""
    text: pa.Array
    """large_string, none of them null or blank."""


@dataclass(frozen=True, kw_only=True)
class CaptionFile:
    """One file, and which of its columns hold captions."""

    path: str
    """Path or URL."""
    columns: tuple[str, ...]
    """None given: the only column of text beside the uid."""

    def stamp(self) -> list[Any]:
        """What is another as soon as the file is."""
        return [self.path, *state_of(self.path), *self.columns]

    def texts(self) -> Iterator[Texts]:
        """All captions of the file. Raises InputError where it has not the columns or is broken."""
        with open_whole(self.path) as file, _named(self.path):
            schema, batches = _open(self.path, file)
            columns = self._chosen(schema)
            for batch in batches([UID, *columns]):
                key = parse_uids(batch.column(UID), where=self.path)
                for name in columns:
                    yield _texts(key, batch.column(name))

    def _chosen(self, schema: pa.Schema) -> list[str]:
        listed = ", ".join(map(repr, schema.names))
        for name in (UID, *self.columns):
            if schema.names.count(name) != 1:
                raise InputError(
                    f"{self.path} has no column {name!r}, or several; its columns are {listed}: "
                    f"alternatives are joined by {UID!r}, and FILE:COLUMN,COLUMN says what they are"
                )
        texts = [field.name for field in schema if field.name != UID and _is_text(field.type)]
        if not self.columns and len(texts) != 1:
            raise InputError(
                f"{self.path} has {len(texts)} columns of text beside {UID!r}; its columns are "
                f"{listed}: say which hold captions with {self.path}:COLUMN,COLUMN"
            )
        for name in self.columns:
            if name == UID or name not in texts:
                raise InputError(
                    f"the column {name!r} of {self.path} holds {schema.field(name).type}, no "
                    "captions (text, or lists of text): name one that does"
                )
        return list(self.columns) or texts


def caption_files(specs: Sequence[str]) -> list[CaptionFile]:
    """The files that the specs name: FILE or FILE:COLUMN,COLUMN, where FILE may be a pattern.

    Raises InputError where one names no file, or a file of another kind.
    """
    found = []
    for spec in specs:
        named = _COLUMNS.fullmatch(spec)
        has_columns = named is not None and not Path(spec).exists()
        path = named["path"] if named is not None and has_columns else spec
        columns = tuple(named["columns"].split(",")) if named is not None and has_columns else ()
        paths = [one for pattern in expand_braces(path) for one in matching(pattern)]
        known = [one for one in paths if one.lower().endswith(_SUFFIXES)]
        if not known:
            raise InputError(
                f"{spec} names no file of captions: give {', '.join(_SUFFIXES)} files, as FILE or "
                "FILE:COLUMN,COLUMN"
            )
        found += [CaptionFile(path=one, columns=columns) for one in known]
    return found


def _texts(key: np.ndarray, column: pa.Array) -> Texts:
    if _is_list(column.type):
        key = key[pc.list_parent_indices(column).to_numpy(zero_copy_only=False)]
        column = pc.list_flatten(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # By way of bytes: Arrow does not check that what a file calls text is UTF-8.
    text = column.cast(pa.large_binary()).cast(pa.large_string())
    is_some = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0), False)
    return Texts(key[is_some.to_numpy(zero_copy_only=False)], text.filter(is_some))


def _open(
    path: str, file: BinaryIO
) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    kind = path.lower()
    if kind.endswith(".parquet"):
        return _open_parquet(file)
    if kind.endswith((".csv", ".tsv")):
        return _open_csv(file, delimiter="\t" if kind.endswith(".tsv") else ",")
    return _open_json(file)


def _open_parquet(
    file: BinaryIO,
) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    opened = pq.ParquetFile(file)
    return opened.schema_arrow, lambda columns: opened.iter_batches(_ROWS_AT_ONCE, columns=columns)


def _open_csv(
    file: BinaryIO, *, delimiter: str
) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = pyarrow.csv.open_csv(file, parse_options=parse).schema.names
    # A uid of digits alone is no number, nor is a caption.
    schema = pa.schema([(name, pa.string()) for name in names])

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        file.seek(0)
        convert = pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types=schema, strings_can_be_null=True
        )
        yield from pyarrow.csv.open_csv(file, parse_options=parse, convert_options=convert)

    return schema, batches


def _open_json(
    file: BinaryIO,
) -> tuple[pa.Schema, Callable[[list[str]], Iterator[pa.RecordBatch]]]:
    schema = pyarrow.json.open_json(file).schema

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        file.seek(0)
        wanted = pa.schema([schema.field(name) for name in columns])
        parse = pyarrow.json.ParseOptions(
            explicit_schema=wanted, unexpected_field_behavior="ignore"
        )
        for batch in pyarrow.json.open_json(file, parse_options=parse):
            yield batch.select(columns)

    return schema, batches


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    if _is_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        detail = str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read as a file of captions: {detail}") from error
