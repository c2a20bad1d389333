"""ImageNet's subsets: the right classes, and accuracy over them as a literal loop has it."""

from importlib.resources import files

import numpy as np
import pytest

from winnow.evaluation.imagenet_subsets import (
    SUBSETS,
    imagenet_subset,
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
def test_accuracy_over_a_subset_is_that_of_a_literal_loop(name):
    random = np.random.default_rng(0)
    image_ND, class_KD = random.normal(size=(400, 8)), random.normal(size=(1000, 8))
    label_N = random.integers(0, 1000, 400)
    subset = imagenet_subset(name)
    hits = [
        max(subset.indices, key=lambda index: row[index]) == label
        for row, label in zip(image_ND @ class_KD.T, label_N, strict=True)
        if label in subset.indices
    ]
    image_MD, class_SD, label_M = subset_of(image_ND, class_KD, label_N, subset)
    score_MS = image_MD @ class_SD.T
    assert score_MS.shape == (len(hits), len(subset.indices))
    assert 20 < len(hits) < 200
    assert (score_MS.argmax(axis=1) == label_M).tolist() == hits


def test_classes_that_are_not_imagenets_thousand_are_refused():
    subset = imagenet_subset("imagenet-r")
    with pytest.raises(InputError, match="has 200: give the whole ImageNet validation set"):
        subset_of(np.zeros((3, 4)), np.zeros((200, 4)), np.zeros(3, int), subset)


def test_an_unknown_subset_is_named():
    with pytest.raises(InputError, match="'imagenet-c'; there are imagenet-r, imagenet-a"):
        imagenet_subset("imagenet-c")
