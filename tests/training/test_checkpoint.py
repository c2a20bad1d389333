"""Checkpoints of a process alone: what is saved comes back, what is damaged does not."""

import json
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch

from winnow.training.checkpoint import Checkpoints, Loaded
from winnow.training.checkpoint_files import Retention
from winnow.types import InputError


def state_of(step):
    """A state in which every value tells the step."""
    return {
        "model": {"weight": torch.full((7, 5), float(step)), "scale": torch.tensor(step / 8)},
        "optimizer": {"state": {"weight": {"step": torch.tensor(step)}}, "groups": [{"lr": step}]},
        "random": torch.full((3,), step % 256, dtype=torch.uint8),
        "best": None if step % 2 else step * 0.5,
        "note": f"after {step}",
    }


def assert_same(found, expected):
    plain = partial(json.dumps, default=lambda tensor: [str(tensor.dtype), tensor.tolist()])
    assert plain(found) == plain(expected)


def saved(directory, steps, **policy):
    checkpoints = Checkpoints(directory, **policy)
    for step in steps:
        checkpoints.save(step, state_of(step))
    checkpoints.wait()
    return checkpoints


def assert_goes_on_from(directory, step, damaged=()):
    state = state_of(0)
    assert Checkpoints(directory).load_newest(state) == Loaded(step, tuple(damaged))
    assert_same(state, state_of(step))


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_was_saved_comes_back(tmp_path):
    saved(tmp_path / "run" / "checkpoints", [3])
    assert_goes_on_from(tmp_path / "run" / "checkpoints", 3)


def test_tensors_are_filled_in_place_whatever_their_layout(tmp_path):
    saved(tmp_path, [4])
    state = state_of(0)
    state["model"]["weight"] = weight = torch.zeros(5, 7).T
    Checkpoints(tmp_path).load_newest(state)
    assert state["model"]["weight"] is weight
    assert weight.tolist() == [[4.0] * 5] * 7


def test_where_nothing_was_saved_there_is_nothing_to_load(tmp_path):
    state = state_of(9)
    assert Checkpoints(tmp_path / "none").load_newest(state) is None
    assert_same(state, state_of(9))
    assert not (tmp_path / "none").exists()


def test_what_is_saved_is_the_state_at_that_moment(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), state_of(1)
    checkpoints.save(1, state)
    state["model"]["weight"].fill_(2)
    state["model"]["scale"].fill_(2)
    state["optimizer"]["groups"][0]["lr"] = 2
    state["note"] = "later"
    checkpoints.wait()
    assert_goes_on_from(tmp_path, 1)


def test_a_step_that_is_there_is_not_written_again(tmp_path):
    checkpoints = saved(tmp_path, [1])
    before = (tmp_path / "step-00000001" / "manifest.json").stat().st_ino
    checkpoints.save(1, state_of(7))
    checkpoints.wait()
    again = Checkpoints(tmp_path)
    again.load_newest(state_of(0))
    again.save(1, state_of(7))
    again.wait()
    assert (tmp_path / "step-00000001" / "manifest.json").stat().st_ino == before
    assert_goes_on_from(tmp_path, 1)


@pytest.mark.parametrize(
    ("keep", "keep_every", "pinned", "steps", "stay"),
    [
        (1, None, None, [10, 20, 30], [30]),
        (2, None, None, [10, 20, 30], [20, 30]),
        (5, None, None, [10, 20, 30], [10, 20, 30]),
        (1, 20, None, [10, 20, 30, 40, 50], [20, 40, 50]),
        (2, None, 10, [10, 20, 30, 40], [10, 30, 40]),
        (1, None, 40, [10, 20, 30], [30]),
    ],
)
def test_the_policy_keeps(keep, keep_every, pinned, steps, stay):
    policy = Retention(keep=keep, keep_every=keep_every)
    assert sorted(set(steps) - set(policy.outdated(steps, pinned))) == stay


def test_the_policy_is_followed_on_the_disk(tmp_path):
    saved(tmp_path, [5, 10, 15, 20, 25], keep=1, keep_every=10)
    assert names(tmp_path) == ["step-00000010", "step-00000020", "step-00000025"]


def test_a_pinned_step_stays_until_another_is_pinned_in_a_later_run_too(tmp_path):
    checkpoints = saved(tmp_path, [1], keep=1)
    checkpoints.pin(1)
    checkpoints.save(2, state_of(2))
    checkpoints.wait()
    later = saved(tmp_path, [3, 4], keep=1)
    assert names(tmp_path) == ["pinned.json", "step-00000001", "step-00000004"]
    later.pin(4)
    later.save(5, state_of(5))
    later.wait()
    assert names(tmp_path) == ["pinned.json", "step-00000004", "step-00000005"]


def test_an_impossible_policy_is_refused(tmp_path):
    with pytest.raises(InputError, match="keep 0 and keep_every None"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(InputError, match="keep 2 and keep_every 0"):
        Checkpoints(tmp_path, keep_every=0)


def flip_a_byte(name):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def manifest_with(**values):
    def damage(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | values))

    return damage


DAMAGES = {
    "a byte of a tensor": flip_a_byte("__0_0.distcp"),
    "a byte of the index": flip_a_byte(".metadata"),
    "a shorter file": lambda folder: os.truncate(folder / "__0_0.distcp", 100),
    "an empty file": lambda folder: os.truncate(folder / "__0_0.distcp", 0),
    "a missing file": lambda folder: (folder / "__0_0.distcp").unlink(),
    "a missing index": lambda folder: (folder / ".metadata").unlink(),
    "a missing manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 40),
    "another manifest": manifest_with(step=1),
    "an empty manifest": manifest_with(files={}),
    "no manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "binary manifest": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00"),
    "nothing in it": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_one_is_taken(damage, tmp_path):
    saved(tmp_path, [100, 200])
    DAMAGES[damage](tmp_path / "step-00000200")
    assert_goes_on_from(tmp_path, 100, ["step-00000200"])
    assert names(tmp_path) == ["step-00000100", "step-00000200.damaged"]


def test_several_damaged_ones_are_named_newest_first(tmp_path):
    saved(tmp_path, [1, 2, 3], keep=3)
    for step in (2, 3):
        DAMAGES["a shorter file"](tmp_path / f"step-{step:08d}")
    assert_goes_on_from(tmp_path, 1, ["step-00000003", "step-00000002"])
    assert_goes_on_from(tmp_path, 1)


def test_a_damaged_one_never_outlives_a_whole_one(tmp_path):
    saved(tmp_path, [600, 800])
    DAMAGES["a shorter file"](tmp_path / "step-00000800")
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load_newest(state_of(0)).step == 600
    for step in (700, 800):
        checkpoints.save(step, state_of(step))
    checkpoints.wait()
    assert_goes_on_from(tmp_path, 800)
    DAMAGES["a shorter file"](tmp_path / "step-00000800")
    assert_goes_on_from(tmp_path, 700, ["step-00000800"])


def test_where_every_one_is_damaged_nothing_starts_over_in_silence(tmp_path):
    saved(tmp_path, [4, 5])
    for path in list(tmp_path.iterdir()):
        DAMAGES["a byte of a tensor"](path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"every .* damaged \(step-00000005, step-00000004\)"):
            Checkpoints(tmp_path).load_newest(state_of(0))
    (tmp_path / "step-00000005").rename(tmp_path / "step-00000005.damaged")
    with pytest.raises(InputError, match=r"\(step-00000004, step-00000005\)"):
        Checkpoints(tmp_path).load_newest(state_of(0))


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_before_its_bytes_are_known(tmp_path):
    saved(tmp_path / "checkpoints", [1, 2])
    (tmp_path / "checkpoints" / "step-00000002" / ".metadata").write_bytes(
        pickle.dumps(Trap(tmp_path / "sprung"))
    )
    assert_goes_on_from(tmp_path / "checkpoints", 1, ["step-00000002"])
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # noqa: S301 - it is a trap
    assert (tmp_path / "sprung").exists()


def test_the_order_is_that_of_the_steps_whatever_the_clock_says(tmp_path):
    saved(tmp_path, [90_000_000, 100_000_000])
    os.utime(tmp_path / "step-100000000", (0, 0))
    assert_goes_on_from(tmp_path, 100_000_000)


def test_what_a_killed_run_left_goes_and_never_counts(tmp_path):
    saved(tmp_path, [1])
    left = tmp_path / "step-00000002.partial"
    (tmp_path / "step-00000001").rename(left)
    (tmp_path / "mine").mkdir()
    assert Checkpoints(tmp_path).load_newest(state_of(0)) is None
    assert names(tmp_path) == ["mine"]
    left.mkdir()
    (left / "__3_0.distcp").write_bytes(b"of a run with more ranks")
    saved(tmp_path, [2])
    assert names(tmp_path) == ["mine", "step-00000002"]
    assert names(tmp_path / "step-00000002") == [".metadata", "__0_0.distcp", "manifest.json"]


def test_a_newer_format_is_no_damage(tmp_path):
    saved(tmp_path, [1, 2])
    manifest_with(format=99)(tmp_path / "step-00000002")
    with pytest.raises(
        InputError, match=r"step-00000002 was written by a newer winnow \(format 99"
    ):
        Checkpoints(tmp_path).load_newest(state_of(0))


def test_single_files_of_earlier_versions_are_refused(tmp_path):
    (tmp_path / "step-00000007.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"an earlier winnow \(step-00000007.pt\)"):
        Checkpoints(tmp_path).load_newest(state_of(0))


def test_the_state_of_another_model_is_refused(tmp_path):
    saved(tmp_path, [1])
    state = state_of(0)
    state["model"]["bias"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"step-00000001 is whole, but .* model\.bias; go on with"):
        Checkpoints(tmp_path).load_newest(state)
    state = state_of(0)
    state["model"]["weight"] = torch.zeros(7, 6)
    with pytest.raises(InputError, match=r"Size mismatch .* model\.weight; go on with"):
        Checkpoints(tmp_path).load_newest(state)


def test_what_fails_in_the_background_is_told_at_the_next_look(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.failure() is None
    checkpoints.save(1, state_of(1))
    checkpoints.close()
    failure = checkpoints.failure()
    assert isinstance(failure, InputError)
    assert "cannot be used for a checkpoint" in str(failure)
    with pytest.raises(InputError) as raised:
        checkpoints.wait()
    assert str(raised.value) == str(failure)
    assert checkpoints.failure() is None


def test_a_save_raises_what_failed_in_the_one_before(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, state_of(1))
    with pytest.raises(InputError, match="the same command starts from the first step"):
        checkpoints.save(2, state_of(2))
    (tmp_path / "checkpoints").unlink()
    checkpoints.save(2, state_of(2))
    checkpoints.wait()
    assert_goes_on_from(tmp_path / "checkpoints", 2)
