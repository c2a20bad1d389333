from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from winnow.data.folder import claimed
from winnow.evaluation import feature_cache
from winnow.evaluation.feature_cache import FACTS_FILE, FeatureCache, Part, parts_of
from winnow.types import InputError

ROWS, PART_ROWS = 10, 4


class Counting:
    """Row i is (i, 2 i); remembers which parts it was asked for."""

    def __init__(self, *, stop_after: int = 99):
        self.asked: list[int] = []
        self.stop_after = stop_after

    def __call__(self, parts):
        for part in parts:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(part.number)
            yield part, {"one": column(part)[:, :1], "two": column(part)}


class Broken(Counting):
    """Stops where there is something to do."""

    def __call__(self, parts):
        raise InputError("a picture is broken")


def column(part: Part) -> np.ndarray:
    rows = np.arange(part.start, part.stop, dtype=np.float32)[:, None]
    return np.concatenate([rows, 2 * rows], axis=1)


def rows(folder, compute, **depends):
    cache = FeatureCache(folder=folder)
    return cache.rows({"of": "x"} | depends, compute, num_rows=ROWS, part_rows=PART_ROWS)


def test_parts_cover_all_rows_once():
    parts = list(parts_of(ROWS, PART_ROWS))
    assert parts == [(0, 0, 4), (1, 4, 8), (2, 8, 10)]
    assert list(parts_of(0, 4)) == []


def test_rows_are_computed_once_and_memory_mapped(tmp_path):
    compute = Counting()
    folder, arrays = rows(tmp_path, compute)
    np.testing.assert_array_equal(arrays["two"], column(Part(0, 0, ROWS)))
    np.testing.assert_array_equal(arrays["one"][:, 0], np.arange(ROWS))
    assert isinstance(arrays["two"], np.memmap)
    rows(tmp_path, compute)
    assert compute.asked == [0, 1, 2]
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"one.npy", "two.npy", FACTS_FILE, ".lock"}


def test_whatever_the_rows_depend_on_computes_anew(tmp_path):
    compute = Counting()
    rows(tmp_path, compute)
    rows(tmp_path, compute, precision="bf16")
    assert compute.asked == [0, 1, 2, 0, 1, 2]


def test_a_killed_computation_goes_on_after_its_last_part(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path, Counting(stop_after=2))
    # What the kill may have left of the next part.
    (folder,) = tmp_path.iterdir()
    (folder / "00002.partial").write_bytes(b"half")
    compute = Counting()
    _, arrays = rows(tmp_path, compute)
    assert compute.asked == [2]
    np.testing.assert_array_equal(arrays["two"], column(Part(0, 0, ROWS)))
    assert not list(folder.glob("*.partial"))


def test_what_another_process_finished_before_the_claim_is_taken(tmp_path, monkeypatch):
    first, second = Counting(), Counting()

    @contextmanager
    def late(folder, **options):
        monkeypatch.setattr(feature_cache, "claimed", claimed)
        rows(tmp_path, first)
        with claimed(folder, **options):
            yield

    monkeypatch.setattr(feature_cache, "claimed", late)
    _, arrays = rows(tmp_path, second)
    assert (first.asked, second.asked) == ([0, 1, 2], [])
    np.testing.assert_array_equal(arrays["two"], column(Part(0, 0, ROWS)))


def test_arrays_that_are_joined_again_leave_those_that_are_mapped(tmp_path):
    folder, arrays = rows(tmp_path, Counting())
    before = (folder / "two.npy").stat().st_ino
    (folder / FACTS_FILE).unlink()
    _, again = rows(tmp_path, Counting())
    assert (folder / "two.npy").stat().st_ino != before
    np.testing.assert_array_equal(arrays["two"], again["two"])


def test_facts_come_last(tmp_path):
    def fail(folder):
        assert (folder / "two.npy").is_file()
        assert not (folder / FACTS_FILE).exists()
        raise KeyboardInterrupt

    cache, compute = FeatureCache(folder=tmp_path), Counting()
    with pytest.raises(KeyboardInterrupt):
        cache.rows({"of": "x"}, compute, num_rows=ROWS, part_rows=PART_ROWS, before_facts=fail)
    rows(tmp_path, compute)
    assert compute.asked == [0, 1, 2]  # the parts were whole


def test_damage_says_what_to_delete(tmp_path):
    folder, _ = rows(tmp_path, Counting())
    (folder / "two.npy").write_bytes((folder / "two.npy").read_bytes()[:150])
    with pytest.raises(InputError, match=r"are damaged .* delete the folder"):
        rows(tmp_path, Counting())


def test_a_part_of_another_size_is_noticed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path, Counting(stop_after=2))
    cache = FeatureCache(folder=tmp_path)
    with pytest.raises(InputError, match=r"00000\.npz has not 5 rows.* delete the folder"):
        cache.rows({"of": "x"}, Counting(), num_rows=ROWS, part_rows=5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_an_error_and_not_a_signal(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path, Counting(stop_after=2))
    (folder,) = tmp_path.iterdir()
    (folder / "two.npy.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        rows(tmp_path, Counting())
    assert not (folder / "two.npy").exists()
    (folder / "two.npy.partial").unlink()
    _, arrays = rows(tmp_path, Counting())
    np.testing.assert_array_equal(arrays["two"], column(Part(0, 0, ROWS)))


def _rank(rank: int, world_size: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    with pytest.raises(InputError, match="a picture is broken"):
        rows(Path(folder, "cache"), Broken() if rank else Counting(), of="what breaks")
    compute = Counting()
    _, arrays = rows(Path(folder, "cache"), compute)
    torch.save((compute.asked, torch.tensor(np.array(arrays["two"]))), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_parts_and_all_see_the_whole(tmp_path):
    multiprocessing.spawn(_rank, args=(2, str(tmp_path)), nprocs=2)
    for rank, parts in enumerate([[0, 2], [1]]):
        asked, two = torch.load(tmp_path / f"{rank}.pt")
        assert asked == parts
        np.testing.assert_array_equal(two.numpy(), column(Part(0, 0, ROWS)))
