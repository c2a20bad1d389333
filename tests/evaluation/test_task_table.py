"""The task table agrees with the papers' counts and with clip-benchmark's own lists."""

import json
from collections import Counter
from importlib.resources import files

import pytest

from winnow.evaluation.imagenet_subsets import SUBSETS, imagenet_subset
from winnow.evaluation.task_table import task_table

TABLE = task_table()
BY_NAME = {task.name: task for task in TABLE.tasks}


def peer(name):
    """A list that clip-benchmark carries, by its names of sets."""
    return json.loads((files("clip_benchmark.datasets") / name).read_text())


def peer_names(task):
    """What clip-benchmark may call a task's set, the most particular first."""
    bare = task.set.removeprefix("wds_").removeprefix("vtab-")
    shifts_of_imagenet = task.set.startswith("wds_imagenet") or bare == "objectnet"
    return (bare, "imagenet1k") if shifts_of_imagenet else (bare,)


def test_diht_has_29_tasks_of_three_kinds():
    kinds = Counter(task.protocol for task in TABLE.in_suite("diht"))
    assert kinds == {"zero-shot": 17, "retrieval": 10, "statements": 2}


def test_the_other_suites_have_their_tasks():
    assert {name: len(TABLE.in_suite(name)) for name in TABLE.suites} == {
        "diht": 29,
        "imagenet-shifts": 6,
        "transfer": 13,
        # 37 of 38 sets, two of them in both directions.
        "datacomp": 39,
        "packaged": 6,
        "fetched": 3,
    }
    assert len({task.set for task in TABLE.in_suite("datacomp")}) == 37


def test_names_are_unique_and_suites_are_known():
    assert len(BY_NAME) == len(TABLE.tasks)
    assert {suite for task in TABLE.tasks for suite in task.suites} == set(TABLE.suites)
    assert not set(BY_NAME) & set(TABLE.suites)
    assert {task.split for task in TABLE.tasks} == {"test"}


def test_what_is_not_sure_is_said():
    assert TABLE.suites["diht"].confidence == "medium"
    assert TABLE.suites["transfer"].confidence == "low"
    assert "stands in" in TABLE.suites["transfer"].about
    assert "not recovered" in BY_NAME["vqav2"].notes


@pytest.mark.parametrize(
    ("name", "metric", "chance"),
    [
        ("imagenet", "top1", 0.001),
        ("caltech101", "mean_per_class", 1 / 102),
        ("fgvc-aircraft", "mean_per_class", 1 / 100),
        ("flowers102", "mean_per_class", 1 / 102),
        ("oxford-pets", "mean_per_class", 1 / 37),
        ("hateful-memes", "roc_auc", 0.5),
        ("voc2007", "map_11_point", None),
        ("coco-t2i", "text_to_image_recall@1", None),
        ("vqav2", "top1", None),
    ],
)
def test_each_set_has_the_metric_of_its_field_and_its_chance(name, metric, chance):
    task = BY_NAME[name]
    assert (task.metric, task.chance) == (metric, chance)


def test_both_directions_share_a_set_that_is_found_by_its_name():
    assert [task.name for task in TABLE.of_set("wds_mscoco_captions")] == ["coco-i2t", "coco-t2i"]
    assert TABLE.of_set("mscoco_captions") == TABLE.of_set("wds_mscoco_captions")
    assert TABLE.of_set("my-own-set") == ()


def test_hub_names_end_in_the_folder_they_are_downloaded_to():
    hub = [task for task in TABLE.tasks if task.origin == "hub"]
    # All of datacomp, and VOC2007 with several labels.
    assert len(hub) == 39 + 1
    for task in hub:
        owner, _, name = task.source.partition("/")
        assert name == task.set
        assert owner == ("djghosh" if name.endswith("_test") else "clip-benchmark")


def test_classes_are_as_many_as_clip_benchmark_names():
    classes = peer("en_classnames.json")
    checked = {
        task.name: (task.num_classes, len(classes[task_name]))
        for task in TABLE.tasks
        for task_name in peer_names(task)[:1]
        if task_name in classes
    }
    assert len(checked) >= 11
    assert all(ours == theirs for ours, theirs in checked.values()), checked


def test_prompts_are_as_many_as_clip_benchmark_has():
    templates = peer("en_zeroshot_classification_templates.json")
    checked = {}
    for task in TABLE.tasks:
        words = task.prompts.split()
        if words[0].isdecimal() and task.origin == "hub":
            (name, *_) = [name for name in peer_names(task) if name in templates]
            checked[task.name] = (int(words[0]), len(templates[name]))
    assert len(checked) >= 30
    assert all(ours == theirs for ours, theirs in checked.values()), checked


def test_subsets_are_those_of_the_shifts():
    named = {task.subset: task for task in TABLE.tasks if task.subset}
    assert set(named) == set(SUBSETS)
    for name, task in named.items():
        assert len(imagenet_subset(name).groups) == task.num_classes
