"""Sources: where the pairs come from. A source is a list of shards, each scanned in one pass.

A shard is a webdataset tar, a parquet file with the pictures inside, or a csv, tsv or jsonl table
beside its pictures; its suffix says which. Shards are only ever read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from winnow.data import parquet, table, tar
from winnow.data.block_cache import BlockCache
from winnow.data.columns import DETECT, Columns
from winnow.data.files import expand_braces, matching
from winnow.data.sample import RawSample, Reader
from winnow.types import InputError

__all__ = ["Columns", "RawSample", "Reader", "Source", "open_reader", "open_source"]

_TAR = (".tar",)
_PARQUET = (".parquet",)
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of shards whose pictures stand beside them as files."""
_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The shards of a data set."""

    shards: tuple[str, ...]
    """Absolute path or URL of each, in the order given; those of one pattern sorted."""
    columns: Columns

    def scan(self, shard: str) -> Iterator[RawSample]:
        """Every sample of one shard, unreadable ones too, in the order of its pictures.

        Memory does not grow with the pictures. Raises InputError where the shard as a whole cannot
        be read: missing, compressed, or without the columns.
        """
        if shard.endswith(_PARQUET):
            return parquet.scan(shard, columns=self.columns)
        if shard.endswith(TABLES):
            return table.scan(shard, columns=self.columns)
        return tar.scan(shard, columns=self.columns)


def open_source(spec: str | Sequence[str], *, columns: Columns = DETECT) -> Source:
    """The shards that `spec` names: a path or URL, a pattern (`{000..009}`, `*`), a directory.

    Several specs are read one after the other; a shard that two of them name is read once. In a
    directory the tars are the shards, or else the parquet files, or else the tables. Raises
    InputError where a spec names nothing or something that is no shard.
    """
    specs = [spec] if isinstance(spec, str) else list(spec)
    shards = [shard for one in specs for shard in _shards(one)]
    if not shards:
        raise InputError("no shards were given: name tars, parquet files, tables or their folder")
    return Source(shards=tuple(dict.fromkeys(shards)), columns=columns)


def open_reader(
    shard: str, *, columns: Columns = DETECT, cache: BlockCache | None = None
) -> Reader:
    """Random access to the pictures of one shard.

    A `cache` keeps what is read of remote shards, and the decoded row groups of all parquet files;
    pictures beside a table are files of their own, which it does not hold. Raises InputError where
    the shard cannot be opened.
    """
    if shard.endswith(_PARQUET):
        return parquet.ParquetReader(shard, columns=columns, cache=cache)
    if shard.endswith(TABLES):
        return table.TableReader(shard)
    return tar.TarReader(shard, cache=cache)


def _shards(spec: str) -> list[str]:
    patterns = expand_braces(spec.removeprefix("file://"))
    return [shard for pattern in patterns for shard in _of_one_kind(matching(pattern), spec)]


def _of_one_kind(found: list[str], spec: str) -> list[str]:
    for suffixes in (_TAR, _PARQUET, TABLES):
        shards = [path for path in found if path.endswith(suffixes)]
        if shards:
            return shards
    if any(path.endswith(_COMPRESSED_TAR) for path in found):
        raise InputError(
            f"{spec} names compressed tars, which have no random access: unpack them first "
            "(`gunzip FILE.tar.gz`; pictures are compressed already, so they hardly grow)"
        )
    wanted = ", ".join(_TAR + _PARQUET + TABLES)
    raise InputError(f"{spec} names no shard: nothing there ends in {wanted}")
