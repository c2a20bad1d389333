import multiprocessing
import os
import pickle
import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from faulty_store import FaultyStore

from winnow.config import as_dict, from_dict
from winnow.data.block_cache import BlockCache
from winnow.data.block_store import BlockStore
from winnow.data.files import RangesStream
from winnow.types import InputError

BLOCK = 1000
DATA = np.random.default_rng(0).bytes(20_500)  # 20 whole blocks and a half


@pytest.fixture(autouse=True)
def store():
    FaultyStore.reset()
    yield FaultyStore
    FaultyStore.reset()


@pytest.fixture
def cache(tmp_path) -> BlockCache:
    return BlockCache(folder=tmp_path / "cache", gigabytes=1e-3, block_bytes=BLOCK)


def ended(ranges) -> None:
    """Wait until the thread that fetches what was announced has nothing more to do."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "_fetch_announced" in thread.name:
            thread.join()


def block_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("blocks/*/*") if path.is_file())


def test_any_range_is_the_files_own(cache, store):
    ranges = cache.open(store.put("a.tar", DATA))
    random = np.random.default_rng(1)
    for offset, size in random.integers(0, 21_000, (300, 2)).tolist():
        assert ranges.read(offset, size) == DATA[offset : offset + size]
    assert ranges.read(0, 0) == b"" and ranges.read(30_000, 5) == b""
    assert ranges.size == 20_500


def test_neighbouring_blocks_are_one_aligned_request_and_asked_for_once(cache, store):
    ranges = cache.open(store.put("a.tar", DATA))
    assert ranges.read(2_500, 3_000) == DATA[2_500:5_500]
    assert store.requests == [("a.tar", 2_000, 6_000)]
    ranges.read(2_000, 4_000)
    assert len(store.requests) == 1
    ranges.read(1_999, 4_002)  # a byte before and one after what is there
    assert store.requests[1:] == [("a.tar", 1_000, 2_000), ("a.tar", 6_000, 7_000)]
    ranges.read(20_000, 500)
    assert store.requests[3:] == [("a.tar", 20_000, 20_500)]


@pytest.mark.parametrize("reads_at_once", [True, False])
def test_what_is_announced_is_one_request_whoever_comes_first(cache, store, reads_at_once):
    ranges = cache.open(store.put("a.tar", DATA))
    ranges.will_need(1_234, 12_000)
    if not reads_at_once:
        ended(ranges)
        assert store.requests == [("a.tar", 1_000, 14_000)]
    for start in (5_000, 1_234, 13_000):
        assert ranges.read(start, 200) == DATA[start : start + 200]
    ended(ranges)
    assert store.requests == [("a.tar", 1_000, 14_000)]


def test_a_reader_waits_for_what_is_being_fetched_and_takes_what_is_not(cache, store):
    """The store holds the first request back; of the second span the reader does not wait."""
    first, second = store.put("a.tar", DATA), store.put("b.tar", DATA)
    begun, go_on = threading.Event(), threading.Event()
    store.before.append(lambda: (begun.set(), go_on.wait()))
    one, other = cache.open(first), cache.open(second)
    one.will_need(0, 5_000)
    assert begun.wait(60)
    other.will_need(0, 7_000)
    assert other.read(6_500, 10) == DATA[6_500:6_510]
    assert store.requests == [("b.tar", 0, 7_000)]
    found = []
    waiting = threading.Thread(target=lambda: found.append(one.read(100, 10)))
    waiting.start()
    go_on.set()
    waiting.join()
    assert found == [DATA[100:110]]
    ended(one)
    assert store.requests == [("b.tar", 0, 7_000), ("a.tar", 0, 5_000)]


def test_announcements_beyond_the_queue_are_dropped_and_read_anyway(cache, store):
    urls = [store.put(f"{n}.tar", DATA) for n in range(300)]
    begun, go_on = threading.Event(), threading.Event()
    store.before.append(lambda: (begun.set(), go_on.wait()))
    opened = [cache.open(url) for url in urls]
    opened[0].will_need(0, 10)
    assert begun.wait(60)
    for ranges in opened[1:]:
        ranges.will_need(0, 10)
    go_on.set()
    ended(opened[0])
    assert [name for name, *_ in store.requests] == [f"{n}.tar" for n in range(257)]
    assert opened[299].read(0, 10) == DATA[:10]


def test_a_new_process_finds_what_another_kept(cache, store):
    url = store.put("a.tar", DATA)
    cache.open(url).read(0, 20_500)
    again = pickle.loads(pickle.dumps(cache))  # noqa: S301 - made here
    assert again == cache and again.open(url).read(0, 20_500) == DATA
    assert len(store.requests) == 1
    assert from_dict(BlockCache, as_dict(cache), where="here") == cache


def test_another_state_of_a_file_has_other_blocks(cache, store):
    url = store.put("a.tar", DATA)
    cache.open(url).read(0, 1_000)
    store.put("a.tar", DATA[::-1], tag="2")
    fresh = pickle.loads(pickle.dumps(cache))  # noqa: S301 - made here
    assert fresh.open(url).read(0, 1_000) == DATA[::-1][:1_000]


def test_a_damaged_or_cut_block_is_fetched_again(cache, store):
    ranges = cache.open(store.put("a.tar", DATA))
    ranges.read(0, 20_500)
    first, second, third, *_ = files = block_files(cache.folder)
    assert len(files) == 21
    octets = bytearray(first.read_bytes())
    octets[-7] ^= 1
    first.write_bytes(octets)
    second.write_bytes(second.read_bytes()[:-1])
    third.write_bytes(b"")
    assert ranges.read(0, 20_500) == DATA
    asked = store.requests[1:]
    assert sum(end - start for _, start, end in asked) <= 3_000 and 1 <= len(asked) <= 3
    assert ranges.read(0, 20_500) == DATA and store.requests[1:] == asked


def test_the_bound_holds_and_what_was_used_longest_ago_goes_first(tmp_path):
    blocks = BlockStore(tmp_path, limit_bytes=10 * 1_020)  # a block of 1000 takes 1020 on disk
    keys = [f"{n:02x}" * 20 for n in range(40)]
    for n, key in enumerate(keys):
        blocks.write(key, bytes([n]) * 1_000)
        os.utime(tmp_path / "blocks" / key[:2] / key, ns=(n, n))
        assert sum(path.stat().st_size for path in block_files(tmp_path)) <= 10 * 1_020
        if n == 9:
            assert blocks.touch(keys[0])  # used: it now is the youngest
            assert blocks.read(keys[1], 0, 3) == bytes([1]) * 3  # which reading makes it not
    assert [blocks.touch(key) for key in keys] == [n == 0 or n > 30 for n in range(40)]
    assert blocks.read(keys[39], 998, 2) == bytes([39]) * 2


def test_what_is_made_stays_as_long_as_it_is_read(cache, store):
    """A row group is read by many runs, a block by one."""
    ranges = cache.open(store.put("a.tar", DATA))
    ranges.read(0, 1_000)
    name, (block,) = b"\x01" * 20, block_files(cache.folder)
    assert cache.remember(name, lambda: bytes(10))
    made = next(path for path in block_files(cache.folder) if path != block)
    for path in (block, made):
        os.utime(path, ns=(7, 7))
    assert ranges.read(0, 1_000) == DATA[:1_000] and cache.recall(name, 3, 4) == bytes(4)
    assert block.stat().st_mtime_ns == 7 < made.stat().st_mtime_ns
    assert cache.recall(b"\x02" * 20, 0, 1) is None


def test_the_bound_counts_what_others_left_and_removes_what_they_did_not_finish(tmp_path):
    blocks = BlockStore(tmp_path, limit_bytes=10 * 1_020)
    for n in range(8):
        blocks.write(f"{n:02x}" * 20, bytes(1_000))
    (tmp_path / "used").write_text("0")  # a count that is wrong, as after a crash between two
    with multiprocessing.get_context("fork").Pool(1) as pool:
        writer = pool.apply(os.getpid)
    partial = block_files(tmp_path)[0].with_name(
        f".x.01234567-{writer}-{os.uname().nodename}.partial"
    )
    partial.write_bytes(bytes(5_000))
    (tmp_path / "used").write_text("nothing")
    blocks.write("ff" * 20, bytes(1_000))
    assert not partial.exists()
    assert len(block_files(tmp_path)) == 9
    assert int((tmp_path / "used").read_text()) == 9 * 1_020


def test_a_cache_too_small_for_the_file_reads_it_all_the_same(tmp_path, store):
    cache = BlockCache(folder=tmp_path, gigabytes=16 * BLOCK / 1e9, block_bytes=BLOCK)
    ranges = cache.open(store.put("a.tar", DATA))
    ranges.will_need(0, 20_500)
    for start in range(0, 20_500, 700):
        assert ranges.read(start, 700) == DATA[start : start + 700]
        assert sum(path.stat().st_size for path in block_files(tmp_path)) <= 16 * BLOCK


def test_a_full_disk_is_one_line_and_the_rest_is_read_without(cache, store, monkeypatch):
    ranges = cache.open(store.put("a.tar", DATA), say=(lines := []).append)
    ranges.read(0, 1_000)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(2):
        for start in range(0, 20_500, 500):
            assert ranges.read(start, 500) == DATA[start : start + 500]
    ranges.will_need(5_000, 5_000)
    ended(ranges)
    (line,) = lines
    assert line.startswith(f"the cache in {cache.folder} cannot be used any more (No space left")
    # The block that could not be kept, and then each range by itself.
    assert store.requests[1:3] == [("a.tar", 1_000, 2_000), ("a.tar", 1_500, 2_000)]
    assert not list(cache.folder.rglob("*.partial"))


def read_with_small_files_only(cache: BlockCache, url: str, lines) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    ranges = cache.open(url, say=lines.put)
    assert b"".join(ranges.read(start, 500) for start in range(0, 20_500, 500)) == DATA
    lines.put("read")


def test_a_disk_that_takes_no_more_bytes_is_as_a_full_one(cache, store):
    url, context = store.put("a.tar", DATA), multiprocessing.get_context("fork")
    lines = context.SimpleQueue()
    process = context.Process(target=read_with_small_files_only, args=(cache, url, lines))
    process.start()
    process.join()
    assert "(File too large): remote shards are read without it" in lines.get()
    assert lines.get() == "read" and lines.empty()
    assert not block_files(cache.folder)


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_one_is_refused(tmp_path, store, folder):
    (tmp_path / "file").write_text("")
    cache = BlockCache(folder=tmp_path / folder)
    with pytest.raises(InputError, match=r"file.* cannot hold a cache .*BlockCache\(folder"):
        cache.open(store.put("a.tar", DATA))


def test_sizes_that_make_no_sense_are_refused(tmp_path):
    for wrong in (
        {"gigabytes": 15e-3, "block_bytes": 1_000_000},
        {"gigabytes": float("nan")},
        {"gigabytes": -1},
        {"block_bytes": 0},
        {"retries": -1},
    ):
        with pytest.raises(InputError, match=r"^BlockCache: "):
            BlockCache(folder=tmp_path, **wrong)


def test_a_local_path_is_none_of_its_business(cache, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(DATA)
    ranges = cache.open(str(path))
    assert (ranges.read(100, 50), ranges.size) == (DATA[100:150], 20_500)
    ranges.close()
    assert not cache.folder.exists()


def test_a_stream_of_ranges_reads_and_seeks_as_a_file(cache, store):
    with RangesStream(cache.open(store.put("a.tar", DATA))) as stream:
        assert stream.seek(-5, 2) == 20_495
        assert stream.read() == DATA[-5:]
        assert stream.seek(1_990) == 1_990 and stream.read(20) == DATA[1_990:2_010]
        assert stream.seek(-20, 1) == 1_990 and stream.tell() == 1_990


def read_often(cache: BlockCache, url: str, seed: int, wrong) -> None:
    ranges, random = cache.open(url), np.random.default_rng(seed)
    for offset, size in random.integers(0, 20_500, (80, 2)).tolist():
        if offset % 3 == 0:
            ranges.will_need(offset, 5_000)
        if ranges.read(offset, size) != DATA[offset : offset + size]:
            wrong.value += 1


def test_processes_that_share_a_folder_never_see_a_torn_block(tmp_path, store):
    """Each forks with the store's files; the folder holds fewer blocks than the file has."""
    cache = BlockCache(folder=tmp_path, gigabytes=16 * BLOCK / 1e9, block_bytes=BLOCK)
    url, context = store.put("a.tar", DATA), multiprocessing.get_context("fork")
    cache.open(url).read(0, 20_500)  # threads and locks of this process are not those of others
    wrong = context.Value("i", 0)
    others = [
        context.Process(target=read_often, args=(cache, url, seed, wrong)) for seed in range(3)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0] * 3
    assert wrong.value == 0
    assert sum(path.stat().st_size for path in block_files(tmp_path)) <= 16 * BLOCK


def fetch_and_report(cache: BlockCache, url: str, start, counts) -> None:
    start.wait()
    cache.open(url).read(0, 20_500)
    counts.put(len(FaultyStore.requests))


def test_two_processes_that_need_the_same_blocks_make_one_request(cache, store):
    url, context = store.put("a.tar", DATA), multiprocessing.get_context("fork")
    start, counts = context.Barrier(2), context.SimpleQueue()
    others = [
        context.Process(target=fetch_and_report, args=(cache, url, start, counts)) for _ in range(2)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert sorted([counts.get(), counts.get()]) == [0, 1]


def stop_inside(folder: Path, name: bytes, entered) -> None:
    with BlockStore(folder, limit_bytes=10**6).alone_with([name]):
        entered.set()
        signal.pause()


def test_a_killed_process_holds_nobody_up(tmp_path):
    context = multiprocessing.get_context("fork")
    entered = context.Event()
    other = context.Process(target=stop_inside, args=(tmp_path, b"12345678", entered))
    other.start()
    assert entered.wait(60)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with BlockStore(tmp_path, limit_bytes=10**6).alone_with([b"12345678"]):
        pass
