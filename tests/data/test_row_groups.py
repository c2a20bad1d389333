import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data.block_cache import BlockCache
from winnow.data.ledger import Address
from winnow.data.parquet import ParquetReader
from winnow.data.sources import open_reader
from winnow.types import InputError

PICTURES = [np.random.default_rng(n).bytes(50 + 37 * n) for n in range(60)]
ROWS = 7


@pytest.fixture
def cache(tmp_path) -> BlockCache:
    return BlockCache(folder=tmp_path / "cache", gigabytes=1e-3, block_bytes=1_000)


@pytest.fixture
def decoded(monkeypatch) -> list[tuple[str, int]]:
    """Which row groups of which file were decoded, in order."""
    seen, decode = [], ParquetReader._decode

    def noted(self, group):
        seen.append((Path(self._shard).name, group))
        return decode(self, group)

    monkeypatch.setattr(ParquetReader, "_decode", noted)
    return seen


def write(path: Path, pictures, *, kind=None) -> str:
    table = pa.table({"image": pa.array(pictures, kind), "text": ["x"] * len(pictures)})
    pq.write_table(table, path, row_group_size=ROWS)
    return str(path)


def address(row: int) -> Address:
    return Address(str(row), row // ROWS, row % ROWS)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary()})]
)
def test_pictures_from_the_cache_are_those_of_the_file(tmp_path, cache, kind):
    wrapped = [{"bytes": data} for data in PICTURES] if pa.types.is_struct(kind) else PICTURES
    shard = write(tmp_path / "a.parquet", wrapped, kind=kind)
    for row in np.random.default_rng(0).permutation(60).tolist() * 2:
        with open_reader(shard, cache=cache) as reader:
            assert reader.read(address(row)) == PICTURES[row]


def test_a_row_group_is_decoded_once_for_all_readers(tmp_path, cache, decoded):
    shards = [write(tmp_path / f"{n}.parquet", PICTURES) for n in range(2)]
    for seed in range(3):
        readers = [open_reader(shard, cache=cache) for shard in shards]
        for row in np.random.default_rng(seed).permutation(60).tolist():
            for reader in readers:
                assert reader.read(address(row)) == PICTURES[row]
    assert sorted(decoded) == [(f"{n}.parquet", group) for n in range(2) for group in range(9)]


def test_without_a_cache_the_last_row_group_is_held(tmp_path, decoded):
    with open_reader(write(tmp_path / "a.parquet", PICTURES)) as reader:
        for row in (0, 6, 3, 7, 8, 0):
            assert reader.read(address(row)) == PICTURES[row]
    assert [group for _, group in decoded] == [0, 1, 0]


def test_another_file_in_its_place_is_decoded_anew(tmp_path, cache):
    shard = write(tmp_path / "a.parquet", PICTURES)
    with open_reader(shard, cache=cache) as reader:
        assert reader.read(address(8)) == PICTURES[8]
    write(tmp_path / "a.parquet", PICTURES[::-1])
    fresh = BlockCache(folder=cache.folder, gigabytes=1e-3, block_bytes=1_000)
    with open_reader(shard, cache=fresh) as reader:
        assert reader.read(address(8)) == PICTURES[::-1][8]


def test_rows_that_are_not_there_and_rows_without_bytes_are_told(tmp_path, cache):
    pictures = [*PICTURES[:3], None, *PICTURES[4:9]]
    with open_reader(write(tmp_path / "a.parquet", pictures), cache=cache) as reader:
        for _ in range(2):
            for gone in (Address("x", 0, 3), Address("x", 1, 2), Address("x", 0, 7)):
                with pytest.raises(InputError, match="curate the shard again"):
                    reader.read(gone)
            assert reader.read(address(4)) == PICTURES[4]
        with pytest.raises(InputError, match="curate the shard again"):
            reader.read(Address("x", 2, 0))


def test_a_row_group_too_large_to_share_the_cache_is_decoded_in_memory(tmp_path, cache, decoded):
    large = [bytes([n]) * 3_000 for n in range(14)]  # 7 of 3 KB: more than a 64th of a megabyte
    with open_reader(write(tmp_path / "a.parquet", large), cache=cache) as reader:
        for row in (0, 1, 8, 9, 2):
            assert reader.read(address(row)) == large[row]
    assert [group for _, group in decoded] == [0, 1, 0]


def test_what_is_damaged_in_the_cache_is_decoded_again(tmp_path, cache, decoded):
    with open_reader(write(tmp_path / "a.parquet", PICTURES), cache=cache) as reader:
        assert reader.read(address(0)) == PICTURES[0]
        (path,) = (path for path in cache.folder.rglob("blocks/*/*"))
        octets = bytearray(path.read_bytes())
        octets[-1] ^= 1
        path.write_bytes(octets)
        reader.read(address(8))
        assert reader.read(address(6)) == PICTURES[6]
    assert [group for _, group in decoded] == [0, 1, 0]


def read_all(shard: str, cache: BlockCache, start, counts) -> None:
    seen, decode = [], ParquetReader._decode
    ParquetReader._decode = lambda self, group: (seen.append(group), decode(self, group))[1]
    start.wait()
    with open_reader(shard, cache=cache) as reader:
        rights = [reader.read(address(row)) == PICTURES[row] for row in range(60)]
    counts.put((all(rights), len(seen)))


def test_processes_that_need_one_at_once_decode_it_once(tmp_path, cache):
    shard, context = write(tmp_path / "a.parquet", PICTURES), multiprocessing.get_context("fork")
    start, counts = context.Barrier(3), context.SimpleQueue()
    others = [
        context.Process(target=read_all, args=(shard, cache, start, counts)) for _ in range(3)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    found = [counts.get() for _ in others]
    assert all(is_right for is_right, _ in found) and sum(count for _, count in found) == 9
