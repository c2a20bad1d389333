"""`winnow tasks`: where sets are, what a name means, and what the list says."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from winnow import cli
from winnow.data.packaged.build import Packaged
from winnow.evaluation.sets.evaluation_set import splits_of
from winnow.evaluation.task_table import task_table
from winnow.recipes import fetched, tasks
from winnow.recipes.tasks import (
    Here,
    Tasks,
    evaluation_root,
    how_to_get,
    present_splits,
    resolve,
    set_folder,
    tasks_table,
)
from winnow.types import InputError


def listed(arguments, capsys):
    """What the command prints, as one line without the breaks of a narrow terminal."""
    assert cli.run(["tasks", *arguments]) == 0
    return capsys.readouterr().out


def listed_at(root, capsys, *more):
    """The tasks of a suite with several tasks of one set."""
    return listed(["--suite", "diht", "--root", str(root), *more], capsys)


def test_the_root_is_named_or_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("WINNOW_EVALUATION_SETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert evaluation_root() == tmp_path / "cache" / "winnow" / "evaluation-sets"
    monkeypatch.setenv("WINNOW_EVALUATION_SETS", str(tmp_path / "sets"))
    assert evaluation_root() == tmp_path / "sets"


def test_a_set_is_found_with_and_without_its_prefix(tmp_path):
    assert set_folder(tmp_path, "wds_cars") == tmp_path / "wds_cars"
    (tmp_path / "cars").mkdir()
    assert set_folder(tmp_path, "wds_cars") == tmp_path / "cars"
    (tmp_path / "wds_cars").mkdir()
    assert set_folder(tmp_path, "wds_cars") == tmp_path / "wds_cars"
    assert set_folder(tmp_path, "birdsnap") == tmp_path / "birdsnap"


@pytest.mark.parametrize("word", ["stanford-cars", "wds_cars", "cars"])
def test_a_task_its_set_and_the_sets_bare_name_mean_the_same(word, tmp_path):
    assert resolve([word], tmp_path) == {"wds_cars": tmp_path / "wds_cars"}


def test_a_suite_is_its_sets_each_once(tmp_path):
    found = resolve(["imagenet-shifts", "imagenet", "coco-i2t", "coco-t2i"], tmp_path)
    assert list(found) == [
        "wds_imagenet1k",
        "wds_imagenetv2",
        "wds_imagenet_sketch",
        "wds_imagenet-r",
        "wds_imagenet-a",
        "wds_objectnet",
        "wds_mscoco_captions",
    ]
    assert len(resolve(["diht"], tmp_path)) == 24


def test_a_path_is_a_set_of_the_users_own(evaluation_set, tmp_path, monkeypatch):
    assert resolve([str(evaluation_set)], tmp_path) == {evaluation_set.name: evaluation_set}
    (tmp_path / "dataset_mine.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve(["dataset_mine.json"], tmp_path) == {"dataset_mine": Path("dataset_mine.json")}
    assert resolve(["missing/folder"], tmp_path) == {"folder": Path("missing/folder")}


def test_a_path_that_must_exist_does(evaluation_set, tmp_path):
    pattern = f"{evaluation_set}/test/*.tar"
    named = [str(evaluation_set), pattern, "wds_cars"]
    assert len(resolve(named, tmp_path, must_exist=True)) == 3
    with pytest.raises(InputError, match=r"^missing/folder does not exist"):
        resolve([*named, "missing/folder"], tmp_path, must_exist=True)


def test_a_folder_of_the_root_is_found_by_its_name(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "mine").mkdir(parents=True)
    (root / "wds_theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    found = resolve(["mine", "theirs"], root)
    assert found == {"mine": root / "mine", "wds_theirs": root / "wds_theirs"}
    (tmp_path / "mine").mkdir()
    assert resolve(["mine"], root) == {"mine": Path("mine")}


def test_a_word_of_the_table_is_meant_before_a_folder(tmp_path, monkeypatch):
    (tmp_path / "cars").mkdir()
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    assert resolve(["cars"], root) == {"wds_cars": root / "wds_cars"}
    assert resolve(["./cars"], root) == {"cars": Path("cars")}


def test_packaged_sets_are_built_and_named(tmp_path, monkeypatch):
    names = ("fit", "held-out-drawings", "twemoji", "noto-mono")
    kinds = ("twemoji-kinds", "noto-mono-kinds")
    folders = {name: tmp_path / name for name in (*names, *kinds)}
    built = Packaged(directory=tmp_path, train=tmp_path, truth=tmp_path, tasks=folders)
    monkeypatch.setattr(tasks, "packaged_data", lambda: built)
    assert resolve(["packaged"], tmp_path / "root") == folders
    assert resolve(["twemoji"], tmp_path / "root") == {"twemoji": tmp_path / "twemoji"}


def test_an_unknown_name_has_a_suggestion(tmp_path):
    with pytest.raises(InputError, match=r"'imagnet' is neither .*: did you mean imagenet"):
        resolve(["imagnet"], tmp_path)
    with pytest.raises(InputError, match="`winnow tasks` lists the tasks"):
        resolve(["zzzzzz"], tmp_path)


def test_two_sets_of_one_name_are_refused(tmp_path):
    one, two = tmp_path / "a" / "things", tmp_path / "b" / "things"
    assert resolve([str(one), str(one)], tmp_path) == {"things": one}
    with pytest.raises(InputError, match="two tasks are called 'things'"):
        resolve([str(one), str(two)], tmp_path)


def test_how_to_get_a_set_is_one_line_that_fits_its_origin(tmp_path):
    root = tmp_path / "my sets"
    assert how_to_get("wds_cars", root) == (
        f"hf download --repo-type dataset clip-benchmark/wds_cars --local-dir '{root}/wds_cars'"
    )
    assert how_to_get("tuxpaint", root) == f"winnow tasks --fetch tuxpaint --root '{root}'"
    assert how_to_get("birdsnap", root).startswith("make it in the ImageFolder layout")
    assert how_to_get("birdsnap", root).endswith(f"then {root}/birdsnap")
    assert "winnow demo" in how_to_get("fit", root)


def test_what_is_there_is_seen(evaluation_set, tmp_path):
    assert present_splits("wds_cars", tmp_path) is None
    (tmp_path / "wds_cars").mkdir()
    assert present_splits("wds_cars", tmp_path) is None
    shutil.copytree(evaluation_set, tmp_path / "cars")
    (tmp_path / "wds_cars").rmdir()
    assert present_splits("wds_cars", tmp_path) == ("test",)


def test_the_list_says_what_is_here_and_how_to_get_the_rest(evaluation_set, tmp_path, capsys):
    shutil.copytree(evaluation_set, tmp_path / "wds_objectnet")
    text = listed(["--suite", "imagenet-shifts", "--root", str(tmp_path)], capsys)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "zero-shot" in line}
    counts = ["zero-shot", "top-1", "0.88", "18,574", "113"]
    assert rows["objectnet"] == [*counts, "test", "(K", "3)"]
    assert rows["imagenet-r"] == ["zero-shot", "top-1", "0.50", "30,000", "200", "no"]
    assert len(rows) == 6
    assert "confidence: high" in text
    assert f"--local-dir {tmp_path}/wds_imagenetv2" in text
    assert f"--local-dir {tmp_path}/wds_objectnet" not in text
    assert "wds_objectnet: 3 classes, not 113: its numbers are not those of the task" in text


def test_other_classes_than_the_tasks_are_said(evaluation_set, tmp_path, capsys):
    pets = shutil.copytree(evaluation_set, tmp_path / "wds_vtab-pets")
    shutil.copytree(evaluation_set, tmp_path / "wds_cars")
    (pets / "classnames.txt").write_text("".join(f"breed {n}\n" for n in range(37)))
    text = listed_at(tmp_path, capsys)
    (row,) = [line for line in text.splitlines() if line.split()[:1] == ["oxford-pets"]]
    assert row.split()[-2:] == ["37", "test"]
    assert "wds_cars: 3 classes, not 196" in text
    assert "wds_vtab-pets: " not in text
    rows = {row["name"]: row for row in json.loads(listed_at(tmp_path, capsys, "--as-json"))}
    counts = [rows[name]["present_classes"] for name in ("oxford-pets", "stanford-cars", "dtd")]
    assert counts == [37, 3, None]
    (pets / "zeroshot_classification_templates.txt").unlink()
    assert "wds_vtab-pets is broken: " in listed_at(tmp_path, capsys)


def test_a_metric_of_the_table_has_the_name_that_results_have(tmp_path):
    """Also one that no task counts by."""
    names = {"map": "mAP", "map_11_point": "11-point mAP", "mean_per_class": "mean per class"}
    task = task_table().tasks[0]
    rows = [dataclasses.replace(task, metric=metric) for metric in (*names, "new_metric")]
    table = tasks_table(rows, tmp_path, {task.set: Here(None)})
    assert list(table.columns[2].cells) == [*names.values(), "new metric"]


def write_coco(root):
    """COCO's captions, cut in the middle as a download may be."""
    images = [
        {"filename": f"{n}.jpg", "split": "test", "sentences": [{"raw": "a cat"}]} for n in range(9)
    ]
    text = json.dumps({"images": images})
    listed = root / "wds_mscoco_captions" / "dataset_coco.json"
    listed.parent.mkdir()
    listed.write_text(text[: len(text) // 2])
    return listed


def test_a_broken_set_is_said_and_stops_nothing(evaluation_set, tmp_path, capsys):
    listed = write_coco(tmp_path)
    shutil.copytree(evaluation_set, tmp_path / "wds_cars")
    with pytest.raises(InputError, match="is no json"):
        present_splits("wds_mscoco_captions", tmp_path)
    text = listed_at(tmp_path, capsys)
    here = {line.split()[0]: line.rstrip() for line in text.splitlines() if line.strip()}
    assert all(here[name].endswith(" broken") for name in ("coco-i2t", "coco-t2i"))
    assert here["stanford-cars"].endswith(" test (K 3)")
    assert here["oxford-pets"].endswith(" no")
    (line,) = [line for line in text.splitlines() if line.startswith("wds_mscoco_captions")]
    assert line.startswith(f"wds_mscoco_captions is broken: {listed} line 1 is no json")
    assert line.endswith(how_to_get("wds_mscoco_captions", tmp_path))
    rows = {row["name"]: row for row in json.loads(listed_at(tmp_path, capsys, "--as-json"))}
    assert "is no json" in rows["coco-i2t"]["broken"]
    assert (rows["coco-i2t"]["present"], rows["stanford-cars"]["broken"]) == (None, None)


@pytest.mark.parametrize("how", [[], ["--as-json"]])
def test_each_set_is_looked_at_once(how, tmp_path, capsys, monkeypatch):
    looked = []

    def look(folder):
        looked.append(folder.name)
        return splits_of(folder)

    monkeypatch.setattr(tasks, "splits_of", look)
    listed_at(tmp_path, capsys, *how)
    assert looked.count("wds_mscoco_captions") == 1
    assert len(looked) == len(set(looked)) == 24


def test_json_has_every_field(tmp_path, capsys):
    rows = json.loads(listed(["--suite", "diht", "--root", str(tmp_path), "--as-json"], capsys))
    assert len(rows) == 29
    (memes,) = [row for row in rows if row["name"] == "hateful-memes"]
    assert (memes["metric"], memes["chance"], memes["present"]) == ("roc_auc", 0.5, None)
    assert memes["suites"] == ["diht"]
    assert "ImageFolder" in memes["how_to_get"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "vtab"], "there is no suite 'vtab'; there are diht, imagenet-shifts"),
        (["--fetch", "imagenet"], "'imagenet' cannot be fetched; what can is fashion-mnist"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, message, tmp_path, capsys):
    assert cli.run(["tasks", "--root", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_packages_without_a_set_to_make_are_refused():
    with pytest.raises(InputError, match="--from is for --fetch"):
        Tasks(debs=(Path("a.deb"),))


def test_fetch_makes_each_set_and_leaves_those_that_are_there(tmp_path, capsys, monkeypatch):
    def make(name, root, *, debs, say):
        assert debs == (Path("one.deb"),)
        return fetched.Fetched(root / name, {"train": 60_000, "test": 10_000})

    monkeypatch.setattr(fetched, "fetch", make)
    (tmp_path / "tuxpaint").mkdir()
    arguments = ["--fetch", "tuxpaint", "fashion-mnist", "--from", "one.deb"]
    text = listed([*arguments, "--root", str(tmp_path)], capsys)
    assert f"tuxpaint: {tmp_path}/tuxpaint is there already" in text
    assert "fashion-mnist: 60,000 train, 10,000 test, in" in text
