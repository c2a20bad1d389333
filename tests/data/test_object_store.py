"""A store that speaks S3, on this machine: folders, shards, and a whole curation in it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import picture, sample_members, write_tar

from winnow.curation.annotate import annotate
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.duplicates import DuplicatePicture
from winnow.curation.select import select
from winnow.data.folder import Folder, local_copy
from winnow.data.ledger import Address
from winnow.data.sources import open_reader, open_source
from winnow.types import InputError

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")

RULES = (CaptionLength(min_words=3), DuplicatePicture())


@pytest.fixture(scope="module")
def server():
    """An S3 server on a port that was free, which the environment points to."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", host)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(server, request) -> Folder:
    """A bucket of the test's own."""
    name = "b" + format(abs(hash(request.node.name)), "x")
    s3fs.S3FileSystem().mkdir(name)
    return Folder.at(f"s3://{name}")


def send(path: str | Path, folder: Folder) -> str:
    """The URL of a file of this machine once it is in the store."""
    folder.write(Path(path).name, Path(path).read_bytes())
    return f"{folder.url}/{Path(path).name}"


def files_below(folder: Folder) -> dict[str, bytes]:
    """The bytes of every file below the folder."""
    found = {name: folder.read(name) for name in folder.names()}
    for name in folder.folders():
        found |= {f"{name}/{inner}": data for inner, data in files_below(folder / name).items()}
    return found


def test_a_folder_in_a_store_is_as_one_on_the_disk(bucket):
    out = bucket / "a" / "out"
    assert (out.names(), out.folders(), out.exists("x")) == ([], [], False)
    out.write("x", b"old")
    out.write("x", bytes(range(256)))
    (out / "sub").write("y", b"y")
    assert (out.names(), out.folders()) == (["x"], ["sub"])
    assert (bucket.names(), bucket.folders()) == ([], ["a"])
    assert [out.exists(name) for name in ("x", "sub", "y")] == [True, True, False]
    with out.open("x") as file:
        file.seek(250)
        assert file.read() == bytes(range(250, 256))
    out.rename("x", "z")
    assert files_below(bucket) == {"a/out/z": bytes(range(256)), "a/out/sub/y": b"y"}
    out.remove("z")
    out.remove("z")
    assert out.names() == []
    (bucket / "a").remove_tree()
    (bucket / "a").remove_tree()
    assert files_below(bucket) == {}


def test_a_block_that_fails_sends_nothing(bucket):
    bucket.write("x", b"old")
    with pytest.raises(KeyboardInterrupt), bucket.writing("x") as path:
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    assert files_below(bucket) == {"x": b"old"}


def test_what_another_process_wrote_is_seen(bucket):
    assert bucket.names() == []
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe(f"{bucket.url}/x", b"first")
    assert (bucket.names(), bucket.exists("x"), bucket.read("x")) == (["x"], True, b"first")
    other.pipe(f"{bucket.url}/x", b"second, longer")
    with bucket.open("x") as file:
        assert file.read() == b"second, longer"
    other.rm(f"{bucket.url}/x")
    assert (bucket.names(), bucket.exists("x")) == ([], False)


def test_parquet_is_written_and_read_in_ranges(bucket):
    table = pa.table({"uid": [f"{n:032x}" for n in range(5000)], "n": range(5000)})
    with bucket.writing("x.parquet") as path:
        pq.write_table(table, path, row_group_size=1000)
    with bucket.open("x.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(3) == table.slice(3000, 1000)


def test_a_bucket_that_is_not_there_and_a_file_that_is_not_are_named(server, bucket):
    with pytest.raises(FileNotFoundError, match=f"{bucket.url}/none"):
        bucket.read("none")
    nowhere = Folder.at("s3://no-such-bucket/out")
    assert nowhere.names() == []
    with pytest.raises(InputError, match=r"s3://no-such-bucket/out/x .*bucket does not exist"):
        nowhere.write("x", b"x")


def test_a_store_that_does_not_answer_is_no_empty_folder(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:0")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    folder = Folder.at("s3://bucket/out")
    for call in (folder.names, lambda: folder.exists("x"), lambda: folder.read("x")):
        with pytest.raises(InputError, match=r"s3://bucket/out.*connect"):
            call()
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def test_tars_are_scanned_and_read_as_local_ones(bucket, tmp_path):
    shards = [
        write_tar(tmp_path / f"{n}.tar", sample_members(f"{n}", seed=n) + sample_members(f"{n}b"))
        for n in range(3)
    ]
    urls = tuple(send(shard, bucket / "data") for shard in shards)
    for spec in (
        f"{bucket.url}/data",
        f"{bucket.url}/data/*.tar",
        f"{bucket.url}/data/{{0..2}}.tar",
    ):
        assert open_source(spec).shards == urls
    for shard, url in zip(shards, urls, strict=True):
        samples = list(open_source(url).scan(url))
        assert samples == list(open_source(shard).scan(shard))
        with open_reader(url) as reader:
            assert reader.read(Address(*samples[1][:3])) == picture(0)
        with local_copy(url) as path:
            assert Path(path).read_bytes() == Path(shard).read_bytes()


@pytest.fixture
def shards(tmp_path) -> list[str]:
    """Four shards; the first picture of each is the same one, the last cannot be read."""
    return [
        write_tar(
            tmp_path / "raw" / f"{n:03d}.tar",
            [
                *sample_members(f"{n}a", seed=0),
                *sample_members(f"{n}b", seed=n + 1),
                (f"{n}c.jpg", picture(9)),
                (f"{n}c.txt", b"short"),
                (f"{n}d.jpg", picture(n)[:99]),
                (f"{n}d.txt", b"a picture that is cut off"),
            ],
        )
        for n in range(4)
    ]


@pytest.fixture(autouse=True)
def raw_folder(tmp_path):
    (tmp_path / "raw").mkdir()


def curated(spec, out: Folder, *, workers: int = 1) -> dict[str, bytes]:
    """What a curation leaves, but for the records, which hold names of shards and seconds."""
    annotate(open_source(spec), out, workers=workers)
    select(out, RULES, name="some")
    return {
        name: data
        for name, data in files_below(out).items()
        if name.endswith((".parquet", ".arrow"))
    }


def test_a_curation_into_a_store_has_the_bytes_of_one_on_the_disk(bucket, shards, tmp_path):
    on_disk = curated(shards, Folder.at(tmp_path / "out"))
    assert len(on_disk) == 4 + 4 + 1
    assert curated(shards, bucket / "out") == on_disk


@pytest.mark.slow
def test_workers_write_the_same_bytes_into_a_store(bucket, shards):
    assert curated(shards, bucket / "two", workers=2) == curated(shards, bucket / "one")


def test_a_curation_out_of_a_store_has_the_bytes_of_one_from_the_disk(bucket, shards, tmp_path):
    from_disk = curated(shards, Folder.at(tmp_path / "out"))
    urls = [send(shard, bucket / "raw") for shard in shards]
    from_store = curated(urls, bucket / "out")
    assert from_store == from_disk


def test_a_curation_in_a_store_goes_on_where_it_stopped(bucket, shards):
    urls = [send(shard, bucket / "raw") for shard in shards]
    source, out = open_source(urls), bucket / "out"
    assert annotate(source, out, workers=1).shards_read == 4
    assert annotate(source, out, workers=1).shards_read == 0
    (out / "ledger").remove("00002.json")
    assert annotate(source, out, workers=1).shards_read == 1


@pytest.mark.parametrize("place", ["store", "disk"])
def test_a_shard_that_changed_in_the_store_is_read_again(bucket, shards, place, tmp_path):
    urls = [send(shard, bucket / "raw") for shard in shards]
    out = bucket / "out" if place == "store" else Folder.at(tmp_path / "out")
    assert annotate(open_source(f"{bucket.url}/raw"), out, workers=1).shards_read == 4
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe(urls[1], Path(shards[2]).read_bytes())
    assert annotate(open_source(f"{bucket.url}/raw"), out, workers=1).shards_read == 1
    other.pipe(f"{bucket.url}/raw/004.tar", Path(shards[0]).read_bytes())
    assert annotate(open_source(f"{bucket.url}/raw"), out, workers=1).shards_read == 1
