import json
import multiprocessing
import os
import signal
import tarfile

import numpy as np
import pytest
import torch
from kept_pairs import counting_teacher, keep_everything, picture, uid, write_pairs

from winnow.concepts import feature_store, features
from winnow.concepts.feature_store import FeatureStore
from winnow.concepts.features import compute_features
from winnow.data.images import View, evaluation_view
from winnow.types import InputError

NUM_ROWS, NUM_PICTURES = 40, 37  # rows 5, 30 and 31 show the picture of row 4


def expected(teacher, seeds):
    views = np.stack(
        [evaluation_view(picture(seed), view=View(teacher.image_size)) for seed in seeds]
    )
    return teacher.features(torch.from_numpy(views)).numpy()


def compute(teacher, kept, folder, **options):
    return compute_features(teacher, kept.selection, kept.rows, folder, **options)


def test_each_row_has_its_picture_s_feature_and_copies_are_computed_once(kept, tmp_path):
    teacher, module = counting_teacher()
    store = compute(teacher, kept, tmp_path / "f", batch_size=8)
    assert (module.seen, module.calls) == (NUM_PICTURES, 1 + 5)
    found = store.of(kept.rows)
    assert (len(found), found.width, len(store)) == (NUM_ROWS, 6, NUM_PICTURES)
    seeds = [4 if row in (5, 30, 31) else row for row in range(NUM_ROWS)]
    everything = found.take(np.arange(NUM_ROWS))
    assert everything.dtype == np.float16
    np.testing.assert_allclose(everything, expected(teacher, seeds), rtol=2**-10, atol=1e-3)
    rows = np.array([31, 0, 39, 5, 5, 12])
    assert (found.take(rows) == everything[rows]).all()
    assert found.take(np.array([], dtype=np.int64)).shape == (0, 6)


def test_nothing_is_computed_twice(kept, tmp_path):
    compute(counting_teacher()[0], kept, tmp_path / "f")
    teacher, module = counting_teacher()
    compute(teacher, kept, tmp_path / "f")
    assert module.seen == 0
    store = FeatureStore.open(tmp_path / "f")
    assert (store.teacher.name, store.teacher.identity) == ("counting", teacher.identity())
    assert (store.width, store.teacher.image_size) == (6, 16)


def test_batch_size_and_decoders_do_not_change_a_feature(kept, tmp_path):
    found = []
    for name, options in {
        "a": {"batch_size": 1, "workers": 1},
        "b": {"batch_size": 64, "workers": 3},
    }.items():
        store = compute(counting_teacher()[0], kept, tmp_path / name, **options)
        found.append(store.of(kept.rows).take(np.arange(NUM_ROWS)).astype(np.float64))
    np.testing.assert_allclose(found[0], found[1], rtol=2**-10, atol=1e-5)


def test_a_stopped_computation_goes_on_where_it_was(kept, tmp_path):
    whole = compute(counting_teacher()[0], kept, tmp_path / "whole").of(kept.rows)
    teacher, module = counting_teacher(fail_after=3)
    with pytest.raises(KeyboardInterrupt):
        compute(teacher, kept, tmp_path / "f", batch_size=5)
    assert module.seen == 10  # two batches, and the third was stopped in
    with pytest.raises(InputError, match="lacks the features of 40 of 40"):
        FeatureStore.open(tmp_path / "f").of(kept.rows)
    teacher, module = counting_teacher()
    resumed = compute(teacher, kept, tmp_path / "f", batch_size=5).of(kept.rows)
    assert module.seen == NUM_PICTURES - 10
    np.testing.assert_array_equal(
        resumed.take(np.arange(NUM_ROWS)), whole.take(np.arange(NUM_ROWS))
    )


def killed_after(kept, folder, batches):
    """Compute in parts of 8 until `batches` are written, then end as by SIGKILL."""
    torch.set_num_threads(1)  # a forked process must not start torch's threads anew
    features.PART_ROWS = 8
    written = []

    def write_and_die(*arguments):
        written.append(feature_store.write_part(*arguments))
        if len(written) == batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return written[-1]

    features.write_part = write_and_die
    compute(counting_teacher()[0], kept, folder, batch_size=4)


def test_sigkill_leaves_whole_parts(kept, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=killed_after, args=(kept, tmp_path / "f", 2)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert sorted(p.name for p in (tmp_path / "f").glob("*.json")) == [
        "00000.json",
        "00001.json",
        "index.json",
        "teacher.json",
    ]
    with pytest.raises(InputError, match="lacks the features of 40 of 40"):
        FeatureStore.open(tmp_path / "f").of(kept.rows)
    teacher, module = counting_teacher()
    store = compute(teacher, kept, tmp_path / "f")
    assert module.seen == NUM_PICTURES - 16
    assert len(store.of(kept.rows)) == NUM_ROWS
    assert not list((tmp_path / "f").glob(".*scratch*"))


def test_features_of_many_parts_are_found(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART_ROWS", 4)
    store = compute(counting_teacher()[0], kept, tmp_path / "f", batch_size=4)
    assert [facts.rows for facts in store.parts.values()] == [4] * 9 + [1]
    monkeypatch.undo()
    one = compute(counting_teacher()[0], kept, tmp_path / "one", batch_size=4)
    assert len(one.parts) == 1
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    reopened = FeatureStore.open(tmp_path / "f").of(kept.rows)
    assert (reopened.take(order) == one.of(kept.rows).take(order)).all()


def test_parts_are_written_as_time_passes(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_SECONDS_A_PART", 0.0)
    store = compute(counting_teacher()[0], kept, tmp_path / "f", batch_size=10)
    assert [facts.rows for facts in store.parts.values()] == [10, 10, 10, 7]


def test_a_picture_replaced_under_its_uid_is_computed_again(tmp_path):
    stores = []
    for name, seeds in (("before", (1, 2, 3)), ("after", (1, 9, 3))):
        (tmp_path / name).mkdir()
        pairs = [(picture(seed), "a thing", uid(place)) for place, seed in enumerate(seeds)]
        write_pairs(tmp_path / name / "00000.tar", pairs)
        kept = keep_everything(tmp_path / name, tmp_path / name / "out")
        teacher, module = counting_teacher()
        store = compute(teacher, kept, tmp_path / "f")
        stores.append((module.seen, store.of(kept.rows).take(np.arange(3)), kept.rows))
        want = expected(teacher, seeds)
        np.testing.assert_allclose(stores[-1][1], want, rtol=2**-10, atol=1e-3)
    assert [seen for seen, _, _ in stores] == [3, 1]
    before = store.of(stores[0][2]).take(np.arange(3))
    np.testing.assert_array_equal(before, stores[0][1])  # what was there stays


def test_selections_share_a_store(kept, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    pairs = [(picture(seed), f"other words {seed}", uid(1000 + seed)) for seed in (3, 7, 100)]
    write_pairs(folder / "00000.tar", pairs)
    other = keep_everything(folder, folder / "out")
    compute(counting_teacher()[0], kept, tmp_path / "f")
    teacher, module = counting_teacher()
    store = compute(teacher, other, tmp_path / "f")
    assert module.seen == 1
    ours, theirs = store.of(kept.rows), store.of(other.rows)
    np.testing.assert_array_equal(theirs.take(np.array([0, 1])), ours.take(np.array([3, 7])))


def test_a_store_that_lacks_pictures_says_how_many(kept, tmp_path):
    (tmp_path / "few").mkdir()
    write_pairs(tmp_path / "few" / "00000.tar", [(picture(3), "a thing", uid(3))])
    few = keep_everything(tmp_path / "few", tmp_path / "few" / "out")
    compute(counting_teacher()[0], few, tmp_path / "f")
    with pytest.raises(InputError, match=r"lacks the features of 39 of 40 kept pictures"):
        FeatureStore.open(tmp_path / "f").of(kept.rows)


@pytest.mark.parametrize("other", [{"seed": 1}, {"image_size": 24}])
def test_another_teacher_is_refused_with_both_names(kept, tmp_path, other):
    first, _ = counting_teacher(name="one")
    compute(first, kept, tmp_path / "f")
    second, module = counting_teacher(name="two", **other)
    with pytest.raises(InputError) as caught:
        compute(second, kept, tmp_path / "f")
    for word in ("one", first.identity(), "two", second.identity(), str(tmp_path / "f")):
        assert word in str(caught.value)
    assert module.seen == 0


def test_features_of_nobody_are_refused(kept, tmp_path):
    compute(counting_teacher()[0], kept, tmp_path / "f")
    (tmp_path / "f" / "teacher.json").unlink()
    with pytest.raises(InputError, match="nobody knows whose"):
        compute(counting_teacher()[0], kept, tmp_path / "f")


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", ["features.npy", "keys.npy", "json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_part_is_refused_and_then_computed_again(
    kept, tmp_path, monkeypatch, suffix, damage
):
    monkeypatch.setattr(features, "PART_ROWS", 10)
    folder = tmp_path / "f"
    whole = compute(counting_teacher()[0], kept, folder, batch_size=10).of(kept.rows)
    wanted = whole.take(np.arange(NUM_ROWS))
    path = folder / f"00001.{suffix}"
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        flip_last_byte(path) if suffix != "json" else path.write_text('{"rows": 10}')
    if suffix != "json":
        with pytest.raises(InputError, match=r"parts 00001 of .* are missing or damaged"):
            FeatureStore.open(folder)
    teacher, module = counting_teacher()
    if (suffix, damage) == ("json", "gone"):
        store = compute(teacher, kept, folder)
    else:
        with pytest.warns(UserWarning, match=r"part 00001 .* is damaged"):
            store = compute(teacher, kept, folder)
    assert module.seen == 10
    np.testing.assert_array_equal(store.of(kept.rows).take(np.arange(NUM_ROWS)), wanted)
    assert len(FeatureStore.open(folder)) == NUM_PICTURES


@pytest.mark.parametrize("name", ["index.npy", "index.json"])
def test_a_damaged_index_is_made_again(kept, tmp_path, name):
    folder = tmp_path / "f"
    compute(counting_teacher()[0], kept, folder)
    flip_last_byte(folder / name)
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(InputError, match="index"):
        FeatureStore.open(folder)
    teacher, module = counting_teacher()
    assert len(compute(teacher, kept, folder).of(kept.rows)) == NUM_ROWS
    assert module.seen == 0


def test_parts_that_were_copied_into_a_store_are_told(kept, tmp_path):
    folder = tmp_path / "f"
    compute(counting_teacher()[0], kept, folder)
    for suffix in ("features.npy", "keys.npy", "json"):
        (folder / f"00007.{suffix}").write_bytes((folder / f"00000.{suffix}").read_bytes())
    with pytest.raises(InputError, match="two features of one picture"):
        compute(counting_teacher()[0], kept, folder)


def test_one_process_at_a_time(kept, tmp_path):
    with (
        features._claimed(tmp_path / "f"),
        pytest.raises(InputError, match="another process is computing"),
    ):
        compute(counting_teacher()[0], kept, tmp_path / "f")


def test_a_picture_that_changed_since_is_named(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    pairs = [(picture(seed), "a thing", uid(seed)) for seed in range(3)]
    write_pairs(shards / "00000.tar", pairs)
    kept = keep_everything(shards, tmp_path / "out")
    changed = pairs[1][0][:-20] + bytes(20)  # as long as it was
    write_pairs(shards / "00000.tar", [pairs[0], (changed, *pairs[1][1:]), pairs[2]])
    with pytest.raises(InputError, match=r"00000\.tar: 000000001 is another picture"):
        compute(counting_teacher()[0], kept, tmp_path / "f", batch_size=1)


def test_a_picture_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    shards = tmp_path / "shards"
    shards.mkdir()
    write_pairs(shards / "00000.tar", [(picture(s), "a thing", uid(s)) for s in range(3)])
    kept = keep_everything(shards, tmp_path / "out")
    monkeypatch.setattr("winnow.data.images.MAX_PIXELS", 1)
    with pytest.raises(InputError, match=r"00000\.tar: 000000000 could be read .* curate the sh"):
        compute(counting_teacher()[0], kept, tmp_path / "f")


def test_what_was_computed_before_an_unreadable_picture_is_kept(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    write_pairs(shards / "00000.tar", [(picture(s), "a thing", uid(s)) for s in range(6)])
    write_pairs(shards / "00001.tar", [(picture(9), "a thing", uid(9))])
    kept = keep_everything(shards, tmp_path / "out")
    with tarfile.open(shards / "00001.tar", "w"):
        pass
    with pytest.raises(InputError, match="has changed since its ledger was made"):
        compute(counting_teacher()[0], kept, tmp_path / "f", batch_size=3)
    assert json.loads((tmp_path / "f" / "00000.json").read_text())["rows"] == 6


def test_what_float16_does_not_hold_is_refused(kept, tmp_path):
    teacher, module = counting_teacher()
    module.linear.weight *= 1e6
    with pytest.raises(InputError, match=r"counting gives a feature of .* float16"):
        compute(teacher, kept, tmp_path / "f")


def test_no_pictures(kept, tmp_path):
    store = compute(counting_teacher()[0], kept, tmp_path / "f")
    assert len(store.of(lambda: iter(()))) == 0
