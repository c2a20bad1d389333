"""A folder with two files for every shard: its rows, and a record that declares them done.

    NNNNN.parquet    the rows of shard N, with a hash of what they are in the file's metadata
    NNNNN.json       the record, written last: present, with the same hash = done

What is killed at any point leaves shards that are done and shards that are not, never a half one;
and rows that another run or hand has put there are not taken for those of the record.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import as_dict, from_dict
from winnow.data.folder import Folder
from winnow.types import InputError

_MOVING = "moving-"
_CONTENT = b"winnow.content"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is stored beside the rows; its fields are json."""

    rows: int
    content: str
    """sha256 of what the rows are, which their file carries too."""


AnyRecord = TypeVar("AnyRecord", bound=Record)


def rows_name(number: int) -> str:
    """The file with the rows of shard `number`."""
    return f"{number:05d}.parquet"


def record_name(number: int) -> str:
    """The file that declares the rows of shard `number` done."""
    return f"{number:05d}.json"


def read_record(folder: Folder, number: int, kind: type[AnyRecord]) -> AnyRecord | None:
    """The record of shard `number`; None where it is not done, or was by another version.

    A shard whose record or rows are missing or damaged is not done either.
    """
    known = {part.name for part in fields(kind)}
    # A store that does not answer raises something else: that is no reason to begin anew.
    try:
        values = json.loads(folder.read(record_name(number)))
        with folder.open(rows_name(number)) as file:
            footer = pq.read_metadata(file)
    except (FileNotFoundError, ValueError, pa.ArrowException) as error:
        if isinstance(error, InputError):
            raise
        return None
    try:
        record = from_dict(kind, values, where=f"{folder.url}/{record_name(number)}")
    except InputError:
        return None
    found = footer.num_rows, (footer.metadata or {}).get(_CONTENT, b"").decode()
    return record if values.keys() == known and found == (record.rows, record.content) else None


def read_records(
    folder: Folder, numbers: Iterable[int], kind: type[AnyRecord]
) -> list[AnyRecord | None]:
    """`read_record` of every number, in order; a store answers many at once."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: read_record(folder, number, kind), numbers))


def sign(file: pq.ParquetWriter, content: str) -> None:
    """Put the hash of what the rows are into their file, before it is closed."""
    file.add_key_value_metadata({_CONTENT.decode(): content})


def write_record(folder: Folder, number: int, record: Record) -> None:
    """Declare shard `number` done."""
    write_json(folder, record_name(number), as_dict(record))


def forget(folder: Folder, number: int) -> None:
    """Declare shard `number` not done, before its rows are written again."""
    folder.remove(record_name(number))


def recorded(folder: Folder) -> list[int]:
    """The numbers of which there is a record, whatever is in it."""
    stems = [name.removesuffix(".json") for name in folder.names() if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def move(folder: Folder, moves: Mapping[int, int]) -> None:
    """Give shards that are done other numbers: `moves` takes old ones to new ones."""
    # A record never stands beside rows that are not its own, at whatever point this is killed: it
    # leaves first and arrives last. A pair caught on the way is done again.
    for stray in folder.names():
        if stray.startswith(_MOVING):
            folder.remove(stray)
    present = set(folder.names())
    pairs = [(old, new) for old, new in moves.items() if record_name(old) in present]
    for old, new in pairs:
        for name in (record_name, rows_name):
            folder.rename(name(old), _MOVING + name(new))
    for _, new in pairs:
        for name in (rows_name, record_name):
            folder.rename(_MOVING + name(new), name(new))


def read_json(folder: Folder, name: str) -> Any:
    """What is in a json file of `folder`. Raises InputError where it is missing or damaged."""
    try:
        values = json.loads(folder.read(name))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder.url}/{name} cannot be read as json: {error}; restore it, or delete it and "
            "run again the command that writes it"
        ) from error
    return values


def write_json(folder: Folder, name: str, values: object) -> None:
    """Write `values` as json so that the file appears whole or not at all."""
    with folder.writing(name) as path:
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
