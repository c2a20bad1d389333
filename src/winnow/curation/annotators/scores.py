"""Scores that users bring: numbers by uid, in a parquet, csv, tsv or npz file.

The file is read once, into an index sorted by uid (see `data.keyed`), which every process maps: a
billion scores cost no memory of their own. A row of the ledger then takes the numbers of its uid.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winnow.config import read_json, write_json
from winnow.curation.annotations import COMPUTED
from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.ledger_files import PLACE
from winnow.data.keyed import (
    KEY_DTYPE,
    KeyConflictError,
    find,
    hex_digits,
    parse_uids,
    write_sorted,
)
from winnow.data.ledger import LEDGER_SCHEMA
from winnow.data.user_cache import locked, user_cache
from winnow.types import InputError

_VERSION = 1
_ROWS_AT_ONCE = 1 << 16
_HEAD_BYTES = 1 << 16
_TAKEN = {*LEDGER_SCHEMA.names, PLACE, COMPUTED.name, ERROR.name}


@dataclass(frozen=True, kw_only=True)
class UserScores(Annotator):
    """Numbers of a file, joined to the rows by uid; null where the file has no number for it.

    Numbers, booleans among them, become float64, and NaN is none. A uid may come twice with equal
    numbers. What decides the identity is the numbers and their names: neither the format of the
    file nor the order of its rows.
    """

    path: Path
    uid: str = "uid"
    """The column of uids: 32 hex digits, or in an npz file also DataComp's `u8,u8`."""
    columns: tuple[str, ...] = ()
    """Which columns to take; none given takes all, and then all must be numbers."""
    cache: Path | None = None
    """Folder for the index, 16 bytes a row and 8 more a column; None is `~/.cache/winnow`.

    Not among the data: a new file beside a table would make its ledger stale.
    """

    @property
    def name(self) -> str:
        """See Annotator. Of a stem in other letters than ASCII's, a hash says which it was."""
        stem = self.path.stem.lower()
        letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in stem).strip("-")
        if re.search("[a-z]", letters):
            return f"scores-{letters}"
        digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return "-".join(part for part in ("scores", letters, digest) if part)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def schema(self) -> pa.Schema:
        """See Annotator. Raises InputError where the file has none of these columns."""
        return pa.schema([(column, pa.float64()) for column in self._chosen(_open(self.path))])

    def identity(self) -> str:
        """See Annotator; makes the index where there is none yet. Raises InputError."""
        return self._index().identity

    def open(self) -> Annotate:
        """See Annotator."""
        rows = np.load(self._index().path, mmap_mode="r", allow_pickle=False)
        schema = pa.schema([*self.schema, ERROR])

        def annotate(batch: pa.RecordBatch, _: Iterable[bytes]) -> pa.RecordBatch:
            place = find(rows, parse_uids(batch["uid"], where="the ledger"))
            found = np.full((len(place), len(schema) - 1), np.nan)
            found[place >= 0] = rows["values"][place[place >= 0]]
            columns = [pa.array(column, mask=np.isnan(column)) for column in found.T]
            return pa.RecordBatch.from_arrays(
                [*columns, pa.nulls(len(place), pa.string())], schema=schema
            )

        return annotate

    def _index(self) -> "_Index":
        """The index of the file as it is now, made by the first process that asks for it."""
        folder = self.cache if self.cache is not None else user_cache()
        stem = Path(folder, f"{self.name}-{self._stamp()}")
        index, facts = stem.with_name(stem.name + ".npy"), stem.with_name(stem.name + ".json")
        if not facts.is_file():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with locked(stem.with_name(stem.name + ".lock")):
                    if not facts.is_file():
                        write_json(facts, {"identity": self._build(index)})
            except OSError as error:
                raise InputError(
                    f"no index of {self.path} can be written in {folder} ({error.strerror}): give "
                    f"{type(self).__name__}(cache=...) a folder with room for it"
                ) from error
        return _Index(index, read_json(facts)["identity"])

    def _stamp(self) -> str:
        """Names the index: another file, or another choice of columns, has another."""
        try:
            facts = self.path.stat()
            with self.path.open("rb") as file:
                head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        place = str(self.path.resolve())
        seen = [_VERSION, place, facts.st_size, facts.st_mtime_ns, head, self.uid, self.columns]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]

    def _build(self, index: Path) -> str:
        """Write the index; the identity of what is in it."""
        table = _open(self.path)
        columns = self._chosen(table)
        dtype = np.dtype([*KEY_DTYPE.descr, ("values", "<f8", (len(columns),))])
        try:
            write_sorted(index, self._rows(table, columns, dtype), dtype=dtype)
        except KeyConflictError as error:
            raise InputError(
                f"{self.path} has the uid {error} twice with different numbers: leave one"
            ) from error
        except (pa.ArrowException, ValueError) as error:
            raise _unreadable(self.path, error) from error
        with index.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{_VERSION} {json.dumps(columns)} {digest}"

    def _rows(self, table: "_Table", columns: list[str], dtype: np.dtype) -> Iterator[np.ndarray]:
        for batch in table.batches([self.uid, *columns]):
            rows = np.empty(batch.num_rows, dtype=dtype)
            keys = parse_uids(batch[self.uid], where=str(self.path))
            rows["f0"], rows["f1"] = keys["f0"], keys["f1"]
            for number, column in enumerate(columns):
                values = pc.cast(batch[column], pa.float64(), safe=False)
                rows["values"][:, number] = values.to_numpy(zero_copy_only=False)
            # One zero and one NaN, so that equal rows are equal bytes.
            rows["values"] += 0.0
            rows["values"][np.isnan(rows["values"])] = np.nan
            yield rows

    def _chosen(self, table: "_Table") -> list[str]:
        """The columns to take. Raises InputError where one is missing, no number or taken."""
        names = table.schema.names
        columns = list(self.columns) or [name for name in names if name != self.uid]
        for name in (self.uid, *columns):
            if name not in names:
                raise InputError(
                    f"{self.path} has no column {name!r}; its columns are "
                    f"{', '.join(map(repr, names))}: say which with uid=... and columns=..."
                )
        for name in columns:
            if not _is_number(table.schema.field(name).type):
                raise InputError(
                    f"the column {name!r} of {self.path} holds no numbers: name those that do with "
                    "columns=..."
                )
            if name in _TAKEN:
                raise InputError(
                    f"the column {name!r} of {self.path} has the name of one of the ledger's: "
                    "rename it, or name the others with columns=..."
                )
        if not columns:
            raise InputError(f"{self.path} has no column but {self.uid!r}: there is no score")
        return columns


class _Index(NamedTuple):
    path: Path
    identity: str


class _Table(NamedTuple):
    """A file of columns."""

    schema: pa.Schema
    batches: Callable[[list[str]], Iterator[pa.RecordBatch]]
    """The rows with the columns named; uids are strings."""


def _open(path: Path) -> _Table:
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            return _open_parquet(path)
        if kind in (".csv", ".tsv"):
            return _open_csv(path, delimiter="\t" if kind == ".tsv" else ",")
        if kind == ".npz":
            return _open_npz(path)
    except (OSError, pa.ArrowException, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
    raise InputError(f"{path} is no file of scores: give a .parquet, .csv, .tsv or .npz file")


def _open_parquet(path: Path) -> _Table:
    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=columns)

    return _Table(pq.read_schema(path), batches)


def _open_csv(path: Path, *, delimiter: str) -> _Table:
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    with pyarrow.csv.open_csv(path, parse_options=parse) as file:
        schema = file.schema  # types as the first megabyte suggests them

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        uid, *numbers = columns
        types = {name: schema.field(name).type for name in numbers}
        # What looks whole at first may have fractions further down.
        types = {n: t if pa.types.is_boolean(t) else pa.float64() for n, t in types.items()}
        convert = pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types={uid: pa.string(), **types}
        )
        with pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as file:
            yield from file

    return _Table(schema, batches)


def _open_npz(path: Path) -> _Table:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    by_name = {name: _as_arrow(array) for name, array in arrays.items() if array.ndim == 1}

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({name: by_name[name] for name in columns})

    return _Table(pa.schema([(name, values.type) for name, values in by_name.items()]), batches)


def _as_arrow(array: np.ndarray) -> pa.Array:
    if array.dtype == KEY_DTYPE:
        return pa.array(hex_digits(array), pa.string())
    if array.dtype.kind == "S":
        array = array.astype(str)
    return pa.array(array)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    # A csv column that is empty at first has the type null.
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as a file of scores: {error}")
