"""What cells train on: nested parts, swapped captions, selections; from shards or a selection."""

from collections import Counter

import pytest
from coloured_things import write_shards

from winnow.curation.selections import none
from winnow.data.selection import Selection
from winnow.data.subset import Subset
from winnow.recipes.ablations.data import prepare
from winnow.recipes.ablations.study import TrainingData
from winnow.recipes.data import curate


@pytest.fixture(autouse=True)
def no_pool(monkeypatch):
    """Of processes for two small shards: that they do not matter is tested where they are."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return str(write_shards(tmp_path_factory.mktemp("pool") / "shards", count=48))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def given(pool, tmp_path_factory):
    """A selection of somebody's own: the first 24 of the 48 pairs."""
    out = tmp_path_factory.mktemp("given")
    return curate(f"{pool}/00000.tar", out, rules=none(), name="mine", workers=1).directory


def opened(study, source, **changes):
    return Selection.open(prepare(TrainingData(source=str(source), **changes), study).selection)


def uids(selection):
    return set(selection.table["uid"].to_pylist())


def test_parts_are_nested_of_the_size_asked_for_and_always_the_same(pool, study, tmp_path):
    whole, half = opened(study, pool), opened(study, pool, share=0.5)
    tenth = opened(study, pool, share=0.1)
    assert (len(whole), len(half), len(tenth)) == (48, 24, 5)
    assert uids(tenth) < uids(half) < uids(whole)
    assert 0 < half.shard_counts[0] < 24, "a part is spread over the shards"
    assert opened(tmp_path, pool, share=0.1).fingerprint == tenth.fingerprint


def test_one_rule_with_two_values_makes_two_selections(pool, study):
    made_of = {}
    for least in (2, 1):
        rules = (f"caption-length:min_words={least}",)
        made_of[least] = prepare(TrainingData(source=pool, rules=rules), study).selection
    assert made_of[1] != made_of[2]
    plain = prepare(TrainingData(source=pool, rules=("caption-length",)), study)
    assert plain.selection.name == "caption-length"


def test_swapped_captions_pass_among_so_many_pairs_in_the_same_order(pool, study):
    made = prepare(TrainingData(source=pool, swapped=0.25), study)
    whole, swapped = opened(study, pool), Selection.open(made.selection)
    before, after = (one.table["caption"].to_pylist() for one in (whole, swapped))
    differ = [number for number in range(48) if before[number] != after[number]]
    assert 6 <= len(differ) <= 12, "twelve captions moved, of which some to a pair of their kind"
    assert made.noise == len(differ) / 48
    assert Counter(before) == Counter(after)
    assert whole.table.drop(["caption"]).equals(swapped.table.drop(["caption"]))
    assert (whole.shard_counts == swapped.shard_counts).all()
    assert whole.fingerprint != swapped.fingerprint
    more = opened(study, pool, swapped=0.5).table["caption"].to_pylist()
    unmoved = [number for number in range(48) if before[number] == more[number]]
    assert sum(before[number] == after[number] for number in unmoved) >= len(unmoved) - 2


def test_all_captions_swapped_leave_no_pair_its_own(study, tmp_path):
    """Where no two captions are equal, the share that is asked for is the share that is wrong."""
    words = write_shards(tmp_path / "s", count=20, shards=1, suffix=lambda number: f" {number}")
    made = prepare(TrainingData(source=str(words), swapped=0.35), study)
    assert made.noise == 0.35
    assert prepare(TrainingData(source=str(words), swapped=1.0), study).noise == 1.0
    assert prepare(TrainingData(source=str(words), noise=0.4), study).noise == 0.4


def test_a_selection_is_taken_as_it_is_or_cut_down(given, study):
    assert prepare(TrainingData(source=str(given)), study).selection == given
    assert prepare(TrainingData(source=str(given.parents[1])), study).selection == given
    half = opened(study, given, share=0.5)
    assert len(half) == 12 and uids(half) < uids(Selection.open(given))
    red = opened(study, given, rules=("caption-length:min_characters=24",))
    assert 0 < len(red) < 24
    assert all(len(caption) >= 24 for caption in red.table["caption"].to_pylist())
    assert not (given.parent / "none-share-0.5").exists(), "nothing is written beside it"


def test_sources_of_one_name_have_folders_of_their_own(pool, study, tmp_path):
    other = write_shards(tmp_path / "shards", count=8)
    assert len(opened(study, other)) == 8
    assert len(opened(study, pool)) == 48
    assert Subset.open(prepare(TrainingData(source=pool), study).selection / "subset.npy")
