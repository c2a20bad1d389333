"""ImageNet's subsets: the right classes, and accuracy over them as a literal loop has it."""

from importlib.resources import files

import numpy as np
import pytest

from winnow.evaluation.imagenet_subsets import (
    SUBSETS,
    imagenet_subset,
    project,
    subset_accuracy_inputs,
    subset_of,
)
from winnow.types import InputError

INFO = files("timm.data") / "_info"


def lemmas():
    """ImageNet's classes by index, as timm names them."""
    names = dict(
        line.split("\t")
        for line in (INFO / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    )
    return [names[synset] for synset in (INFO / "imagenet_synsets.txt").read_text().split()]


@pytest.fixture
def scores():
    random = np.random.default_rng(0)
    return random.normal(size=(400, 1000)), random.integers(0, 1000, 400)


def test_r_and_a_are_the_synsets_that_timm_lists():
    synsets = (INFO / "imagenet_synsets.txt").read_text().split()
    for name in ("imagenet-r", "imagenet-a"):
        listed = (INFO / f"{name.replace('-', '_')}_synsets.txt").read_text().split()
        subset = imagenet_subset(name)
        assert [synsets[index] for (index,) in subset.groups] == listed
        assert len(listed) == 200
        assert subset.indices == tuple(index for (index,) in subset.groups)


def test_objectnet_has_113_classes_that_are_125_of_imagenets():
    subset = imagenet_subset("objectnet")
    assert len(subset.groups) == 113
    assert len(subset.indices) == len(set(subset.indices)) == 125
    assert sum(len(group) > 1 for group in subset.groups) == 9
    names = lemmas()
    # In the order of ObjectNet's folders: alarm_clock, backpack, ... , wok.
    assert [names[index] for index in subset.groups[0]] == ["analog clock", "digital clock"]
    assert [names[index] for index in subset.groups[-1]] == ["wok"]
    groups = [{names[index] for index in group} for group in subset.groups]
    assert {"barber chair", "folding chair", "rocking chair, rocker"} in groups


@pytest.mark.parametrize("name", SUBSETS)
def test_accuracy_over_a_subset_is_that_of_a_literal_loop(name, scores):
    score_NK, label_N = scores
    subset = imagenet_subset(name)
    hits = [
        max(subset.indices, key=lambda index: row[index]) == label
        for row, label in zip(score_NK, label_N, strict=True)
        if label in subset.indices
    ]
    score_MS, label_M = subset_accuracy_inputs(score_NK, label_N, subset)
    assert score_MS.shape == (len(hits), len(subset.indices))
    assert 20 < len(hits) < 200
    assert (score_MS.argmax(axis=1) == label_M).tolist() == hits


@pytest.mark.parametrize("name", SUBSETS)
def test_features_give_the_same_as_their_scores(name):
    random = np.random.default_rng(1)
    image_ND, class_KD = random.normal(size=(300, 8)), random.normal(size=(1000, 8))
    label_N = random.integers(0, 1000, 300)
    subset = imagenet_subset(name)
    image_MD, class_SD, label_M = subset_of(image_ND, class_KD, label_N, subset)
    expected, expected_label = subset_accuracy_inputs(image_ND @ class_KD.T, label_N, subset)
    np.testing.assert_allclose(image_MD @ class_SD.T, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(label_M, expected_label)


def test_a_projected_class_is_right_where_the_best_column_is_one_of_its_own(scores):
    """As the test-bed counts ObjectNet: the best of the 125 columns, and whose it is."""
    score_NK, _ = scores
    subset = imagenet_subset("objectnet")
    score_NG = project(score_NK, subset)
    assert score_NG.shape == (400, 113)
    for row, best in zip(score_NK, score_NG.argmax(axis=1), strict=True):
        assert max(subset.indices, key=lambda index: row[index]) in subset.groups[best]


def test_classes_that_are_not_imagenets_thousand_are_refused():
    subset = imagenet_subset("imagenet-r")
    with pytest.raises(InputError, match="has 200: give the whole ImageNet validation set"):
        subset_accuracy_inputs(np.zeros((3, 200)), np.zeros(3, int), subset)
    with pytest.raises(InputError, match="has 200"):
        subset_of(np.zeros((3, 4)), np.zeros((200, 4)), np.zeros(3, int), subset)
    with pytest.raises(InputError, match="has 113"):
        project(np.zeros((3, 113)), subset)


def test_an_unknown_subset_is_named():
    with pytest.raises(InputError, match="'imagenet-c'; there are imagenet-r, imagenet-a"):
        imagenet_subset("imagenet-c")
