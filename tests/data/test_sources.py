from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import picture, sample_members, write_tar

from winnow.data.files import expand_braces
from winnow.data.ledger import Address
from winnow.data.sources import open_reader, open_source
from winnow.types import InputError


@pytest.fixture
def shards(tmp_path) -> list[str]:
    return [
        write_tar(tmp_path / f"{n:03d}.tar", sample_members(f"{n:03d}", seed=n)) for n in range(12)
    ]


@pytest.fixture
def memory():
    """The in-memory file system of fsspec, empty before and after."""
    file_system = fsspec.filesystem("memory")
    file_system.store.clear()
    yield file_system
    file_system.store.clear()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", ["a"]),
        ("{008..011}.tar", ["008.tar", "009.tar", "010.tar", "011.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{b,a}/{0..1}", ["b/0", "b/1", "a/0", "a/1"]),
        ("x{1,{2..3}}", ["x1", "x2", "x1", "x3"]),
    ],
)
def test_braces_expand(pattern, expected):
    assert expand_braces(pattern) == expected


def test_a_path_a_pattern_a_directory_and_a_list_name_the_same_shards(tmp_path, shards):
    every = tuple(shards)
    assert open_source(str(tmp_path)).shards == every
    assert open_source(f"{tmp_path}/*.tar").shards == every
    assert open_source(f"{tmp_path}/{{000..011}}.tar").shards == every
    assert open_source(f"file://{tmp_path}/{{000..011}}.tar").shards == every
    assert open_source(shards).shards == every
    assert open_source([*shards[:5], f"{tmp_path}/*.tar"]).shards == every


def test_shards_are_absolute_so_that_training_may_start_elsewhere(tmp_path, shards, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_source("000.tar").shards == (shards[0],)
    assert open_source(".").shards == tuple(shards)


def test_in_a_directory_the_tables_beside_tars_are_no_shards(tmp_path, shards):
    pq.write_table(pa.table({"url": ["x"], "caption": ["y"]}), tmp_path / "000.parquet")
    (tmp_path / "000_stats.json").write_text("{}")
    assert open_source(str(tmp_path)).shards == tuple(shards)


@pytest.mark.parametrize("spec", ["{dir}/none.tar", "{dir}/*.zip", "{dir}/empty", "{dir}/note.txt"])
def test_a_spec_that_names_nothing_is_an_error_that_names_it(tmp_path, spec):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    spec = spec.replace("{dir}", str(tmp_path))
    with pytest.raises(InputError) as error:
        open_source([spec])
    assert spec in str(error.value)
    with pytest.raises(InputError, match="no shards"):
        open_source([])


def test_a_shard_that_went_is_an_error_that_names_it(tmp_path, shards):
    source = open_source(shards)
    Path(shards[0]).unlink()
    with pytest.raises(InputError, match=r"000\.tar"):
        list(source.scan(shards[0]))
    with pytest.raises(InputError, match=r"000\.tar"):
        open_reader(shards[0])


def test_remote_tars_are_scanned_and_read_as_local_ones(shards, memory):
    for n, shard in enumerate(shards[:3]):
        memory.pipe(f"/data/{n}.tar", Path(shard).read_bytes())
    every = ("memory://data/0.tar", "memory://data/1.tar", "memory://data/2.tar")
    for spec in ("memory://data/{0..2}.tar", "memory://data/*.tar", "memory://data"):
        assert open_source(spec).shards == every
    source = open_source("memory://data")
    local = open_source(shards)
    assert list(source.scan(every[1])) == list(local.scan(shards[1]))
    (sample,) = source.scan(every[2])
    address = Address(*sample[:3])
    with open_reader(every[2]) as reader:
        reader.will_need(address, address)
        assert reader.read(address) == picture(2)


def test_remote_parquet_and_tables_are_scanned_and_read(tmp_path, memory):
    columns = {"image": [picture(0), picture(1)], "text": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    memory.pipe("/p/0.parquet", (tmp_path / "0.parquet").read_bytes())
    memory.pipe("/t/list.csv", b"filepath,title\na/0.jpg,x\na/1.jpg,y\nnone.jpg,z\n")
    memory.pipe("/t/a/0.jpg", picture(0))
    memory.pipe("/t/a/1.jpg", picture(1))
    for folder in ("memory://p", "memory://t"):
        source = open_source(folder)
        (shard,) = source.shards
        samples = list(source.scan(shard))
        assert [s.image for s in samples[:2]] == [picture(0), picture(1)]
        with open_reader(shard) as reader:
            assert reader.read(Address(*samples[1][:3])) == picture(1)
    assert samples[2].error.startswith("missing picture: none.jpg")


def test_remote_shards_that_are_not_there_are_errors(memory):
    with pytest.raises(InputError, match="memory://none"):
        list(open_source("memory://none.tar").scan("memory://none.tar"))
    with pytest.raises(InputError, match="nosuchprotocol"):
        open_source("nosuchprotocol://x/*.tar")
