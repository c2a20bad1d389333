"""Remote shards that fail, stall, change and vanish; and how much of them an epoch asks for."""

import asyncio
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from data_makers import picture, select_all, write_tar
from faulty_store import FaultyStore, raising

from winnow.data.block_cache import BlockCache
from winnow.data.files import open_ranges
from winnow.data.ledger import Address
from winnow.data.order import Order
from winnow.data.retries import retried
from winnow.data.selection import Selection
from winnow.data.sources import open_reader, open_source
from winnow.types import InputError

DATA = bytes(range(250)) * 40


class StatusError(Exception):
    """As aiohttp's and gcsfs's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class BotoError(Exception):
    """As botocore's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


PASSING = [
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError(),
    asyncio.IncompleteReadError(b"x", 2),
    OSError(5, "Input/output error"),
    StatusError(503),
    StatusError(429),
    BotoError(500),
]
STAYING = [StatusError(403), BotoError(400), PermissionError(13, "denied"), FileNotFoundError("x")]


@pytest.fixture(autouse=True)
def store():
    FaultyStore.reset()
    yield FaultyStore
    FaultyStore.reset()


@pytest.fixture
def cache(tmp_path) -> BlockCache:
    return BlockCache(folder=tmp_path / "cache", gigabytes=1e-3, block_bytes=1_000)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again_after_growing_waits(cache, store, error):
    waits = []
    ranges = cache.open(store.put("a.tar", DATA), sleep=waits.append)
    store.before[:] = [raising(error)] * 3
    assert ranges.read(500, 1_000) == DATA[500:1_500]
    assert waits == [1.0, 4.0, 16.0]
    assert len(store.attempts) == 4


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_does_not_pass_after_all_tries_names_the_file(cache, store, error):
    waits = []
    ranges = cache.open(store.put("a.tar", DATA), sleep=waits.append)
    store.before[:] = [raising(error)] * 4
    detail = str(error) or type(error).__name__
    with pytest.raises(InputError) as told:
        ranges.read(500, 1_000)
    assert str(told.value).startswith(
        f"faulty://a.tar cannot be read, after 4 tries: {detail}; see whether the store"
    )
    assert len(waits) == 3 and len(store.attempts) == 4
    assert ranges.read(500, 1_000) == DATA[500:1_500]  # and it is no state that stays


@pytest.mark.parametrize("error", STAYING, ids=repr)
def test_what_stays_is_told_at_once(cache, store, error):
    ranges = cache.open(store.put("a.tar", DATA), sleep=pytest.fail)
    store.before.append(raising(error))
    with pytest.raises(InputError, match=r"^faulty://a.tar "):
        ranges.read(0, 10)
    assert len(store.attempts) == 1


def test_an_answer_that_is_cut_is_no_answer(cache, store):
    ranges = cache.open(store.put("a.tar", DATA), sleep=(waits := []).append)
    store.before.append(lambda: store.put("a.tar", DATA[:1_500]))
    store.before.append(lambda: store.put("a.tar", DATA))
    assert ranges.read(1_000, 1_000) == DATA[1_000:2_000]
    assert waits == [1.0]


def test_a_reader_without_a_cache_tries_again_too(store, monkeypatch):
    waits = []
    monkeypatch.setattr("winnow.data.retries.time.sleep", waits.append)
    ranges = open_ranges(store.put("a.tar", DATA))
    store.before[:] = [raising(TimeoutError())] * 2
    assert ranges.read(500, 1_000) == DATA[500:1_500]
    assert waits == [1.0, 4.0]


def test_a_picture_beside_a_table_is_asked_for_again_too(store, monkeypatch):
    waits = []
    monkeypatch.setattr("winnow.data.retries.time.sleep", waits.append)
    store.put("raw/1.jpg", b"picture")
    with open_reader("faulty://raw/pairs.csv") as reader:
        store.before[:] = [raising(StatusError(500))] * 2
        assert reader.read(Address("1.jpg", 0, 7)) == b"picture"
        assert waits == [1.0, 4.0]
        with pytest.raises(InputError, match=r"raw/2.jpg cannot be read any more"):
            reader.read(Address("2.jpg", 0, 7))


def test_only_what_a_store_raises_is_tried_again():
    for stop in (KeyboardInterrupt, InputError):
        with pytest.raises(stop):
            retried(raising(stop()), url="x", sleep=pytest.fail)


def test_a_prefetch_that_fails_is_not_tried_again_until_it_is_needed(cache, store):
    import threading

    ranges = cache.open(store.put("a.tar", DATA), sleep=(waits := []).append)
    store.before.append(raising(TimeoutError()))
    ranges.will_need(0, 5_000)
    for thread in threading.enumerate():
        if "_fetch_announced" in thread.name:
            thread.join()
    assert (waits, len(store.attempts)) == ([], 1)
    assert ranges.read(0, 10) == DATA[:10]
    assert waits == []


def test_a_shard_that_vanishes_is_gone_and_what_is_kept_of_it_can_be_read(cache, store):
    ranges = cache.open(store.put("a.tar", DATA), sleep=pytest.fail)
    ranges.read(0, 1_000)
    del store.files["a.tar"]
    assert ranges.read(0, 1_000) == DATA[:1_000]
    with pytest.raises(InputError, match=r"^faulty://a.tar is gone: .* put it back"):
        ranges.read(1_000, 1_000)
    with pytest.raises(InputError, match=r"^faulty://b.tar cannot be read"):
        cache.open("faulty://b.tar")


@pytest.mark.parametrize("now", [(DATA[::-1], "2"), (DATA + b"x", "1")], ids=["tag", "size"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_shard_that_changes_is_told_and_nothing_of_it_is_kept(cache, store, now, when):
    url = store.put("a.tar", DATA)
    ranges = cache.open(url, sleep=pytest.fail)
    ranges.read(0, 1_000)
    if when == "before":
        store.put("a.tar", *now)
    else:
        store.before.append(lambda: store.put("a.tar", *now))
    with pytest.raises(InputError, match=r"^faulty://a.tar has changed since it was opened"):
        ranges.read(1_000, 1_000)
    store.put("a.tar", DATA)
    assert ranges.read(0, 3_000) == DATA[:3_000]
    assert store.requests[-1] == ("a.tar", 1_000, 3_000)


@pytest.fixture
def shards(tmp_path) -> list[str]:
    """Three tars of 40 pairs, whose pictures are bytes that nobody decodes."""
    random = np.random.default_rng(0)
    return [
        write_tar(
            tmp_path / f"{n}.tar",
            [
                member
                for key in range(40)
                for member in (
                    (f"{key:02d}.jpg", random.bytes(1_000 + 30 * key)),
                    (f"{key:02d}.txt", b"a caption"),
                )
            ],
        )
        for n in range(3)
    ]


def read_epochs(selection: Selection, order: Order, cache: BlockCache, epochs: int) -> None:
    """Read as the loader does: batches of 10, and what comes a window later is announced."""
    readers = {shard: open_reader(shard, cache=cache) for shard in selection.shards}
    end = epochs * len(order)
    for start in range(0, end, 10):
        stop, ahead = min(start + 10, end), order.window
        first = 0 if start == 0 else start + ahead
        for row, last in order.runs(first, min(stop + ahead, end)):
            head, tail = selection.samples(np.array([row, last - 1]))
            readers[head.shard].will_need(head.address, tail.address)
        rows = order.rows(np.arange(start, stop))
        for sample in selection.samples(np.sort(rows)):
            assert len(readers[sample.shard].read(sample.address)) == sample.address.size


@pytest.mark.parametrize(("epochs", "seed"), [(1, 1), (1, 3), (1, 8), (2, 1)])
def test_an_epoch_asks_for_the_data_once_where_the_cache_holds_two_windows(
    shards, tmp_path, store, epochs, seed
):
    """Whatever the order: what is read last of a window was announced a window before."""
    urls = [store.put(Path(shard).name, Path(shard).read_bytes()) for shard in shards]
    selection = select_all(urls, tmp_path / "selection")
    order = Order(shard_counts=selection.shard_counts, seed=seed, run_length=8, window_runs=3)
    num_runs, block = 15, 1_024
    data_bytes = sum(Path(shard).stat().st_size for shard in shards)
    edges = 2 * block * num_runs  # a run's first and last block may be its neighbours' too
    window_bytes = (data_bytes + edges) * 3 / num_runs
    cache = BlockCache(
        folder=tmp_path / "cache", gigabytes=2.5 * window_bytes / 1e9, block_bytes=block
    )
    assert cache.limit_bytes < 0.6 * data_bytes
    store.requests.clear()
    read_epochs(selection, order, cache, epochs)
    fetched = sum(end - start for _, start, end in store.requests)
    assert 0.9 * data_bytes < fetched < epochs * (data_bytes + edges)
    if epochs == 1:  # later, part of a run may still be there, and what is missing be in pieces
        assert len(store.requests) <= num_runs


@pytest.mark.parametrize("protocol", ["memory", "faulty"])
def test_tars_and_parquet_come_through_the_cache_as_from_the_disk(
    shards, tmp_path, store, cache, protocol
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"image": [picture(n) for n in range(30)], "text": ["x"] * 30}
    table = tmp_path / "0.parquet"
    pq.write_table(pa.table(columns), table, row_group_size=7)
    memory = fsspec.filesystem("memory")
    for path in (*shards, str(table)):
        if protocol == "memory":
            url = f"memory://cached/{Path(path).name}"
            memory.pipe(url, Path(path).read_bytes())
        else:
            url = store.put(Path(path).name, Path(path).read_bytes())
        samples = list(open_source(path).scan(path))
        for _ in range(2):
            with open_reader(url, cache=cache) as reader:
                addresses = [Address(*sample[:3]) for sample in samples]
                reader.will_need(addresses[0], addresses[-1])
                for place in (5, 0, 29, 12, 12):
                    assert reader.read(addresses[place]) == samples[place].image
    memory.rm("/cached", recursive=True) if protocol == "memory" else None


@pytest.mark.slow
def test_a_store_that_speaks_s3(shards, cache, tmp_path, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": host,
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        check_s3(s3fs.S3FileSystem(), shards[0], cache)
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def check_s3(bucket, shard: str, cache: BlockCache) -> None:
    bucket.mkdir("faults")
    url, octets = "s3://faults/0.tar", Path(shard).read_bytes()
    bucket.pipe(url, octets)
    samples = list(open_source(shard).scan(shard))
    addresses = [Address(*sample[:3]) for sample in samples]
    with open_reader(url, cache=cache) as reader:
        reader.will_need(addresses[0], addresses[9])
        for place in (9, 0, 4):
            assert reader.read(addresses[place]) == samples[place].image
        bucket.pipe(url, octets[:-512] + bytes(511) + b"x")
        with pytest.raises(InputError, match=r"^s3://faults/0.tar has changed since"):
            reader.read(addresses[30])
        bucket.rm(url)
        assert reader.read(addresses[4]) == samples[4].image
        with pytest.raises(InputError, match=r"^s3://faults/0.tar is gone"):
            reader.read(addresses[30])
    fresh = pickle.loads(pickle.dumps(cache))  # noqa: S301 - made here
    with pytest.raises(InputError, match=r"^s3://faults/0.tar cannot be read"):
        open_reader(url, cache=fresh)
