"""`winnow evaluate` as users run it: a model in a folder, sets in several layouts, ranks."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.evaluation.results import read_results
from winnow.models.towers import Towers
from winnow.recipes.evaluate import Evaluate, run_evaluate
from winnow.recipes.training import tiny
from winnow.types import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    Towers(tiny().model).export(folder)
    return f"local-dir:{folder}"


def evaluate(model, tasks, out, **options):
    said = []
    options = {"device": "cpu"} | options
    given = Evaluate(model=model, tasks=tuple(map(str, tasks)), out=out, **options)
    run_evaluate(given, say=lambda thing, **_: said.append(thing))
    return read_results(out), [thing for thing in said if isinstance(thing, str)]


def noise(seed: int, *, darkest: int) -> bytes:
    levels = (darkest, darkest + 100)
    pixels = np.random.default_rng(seed).integers(*levels, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def folders(tmp_path) -> Path:
    """An ImageFolder with two classes to train and to test on, dark and bright."""
    for split, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "animals" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.png").write_bytes(noise(index, darkest=150 * label))
    return tmp_path / "animals"


def test_sets_of_two_layouts_are_measured_and_a_missing_one_says_how_to_get_it(
    model, evaluation_set, folders, tmp_path
):
    tasks = (evaluation_set, folders, "imagenet-sketch")
    root = tmp_path / "root"
    results, said = evaluate(model, tasks, tmp_path / "out", root=root)
    measured = {(r.task, r.protocol) for r in results}
    assert measured == {
        (evaluation_set.name, "zero-shot"),
        (evaluation_set.name, "retrieval"),
        ("animals", "zero-shot"),
    }
    (skipped,) = said
    assert skipped.startswith("skipped wds_imagenet_sketch: ")
    assert (
        f"hf download --repo-type dataset clip-benchmark/wds_imagenet_sketch --local-dir {root}"
        in (skipped)
    )


def test_probes_run_on_a_set_with_a_training_split(model, folders, tmp_path):
    json_folder = tmp_path / "json"
    protocols = ("linear-probe", "few-shot")
    results, _ = evaluate(
        model, (folders,), tmp_path / "out", protocols=protocols, clip_benchmark_json=json_folder
    )
    assert {r.value for r in results if r.protocol == "linear-probe" and r.metric == "top1"} == {
        1.0
    }
    settings = next(r.settings for r in results if r.protocol == "linear-probe")
    assert settings["chosen_by"] == "2 held out of 8 training samples"
    written = json.loads((next(json_folder.glob("animals_*_linear_probe.json"))).read_text())
    assert written["metrics"]["lp_acc1"] == 1.0
    assert (written["model"], written["pretrained"]) == (model, "")


def test_nothing_to_measure_is_an_error_that_says_why(model, tmp_path):
    with pytest.raises(InputError, match=r"nothing was measured \(wds_imagenet1k: .* hf download"):
        evaluate(model, ("imagenet",), tmp_path / "out", root=tmp_path)


@pytest.mark.slow
def test_two_ranks_under_torchrun_find_what_one_process_finds(
    model, evaluation_set, folders, tmp_path
):
    alone, _ = evaluate(model, (evaluation_set, folders), tmp_path / "alone")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "winnow", "evaluate", model, "--tasks", str(evaluation_set), str(folders)]
    command += ["--out", str(tmp_path / "together"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results, %") == 1
    together = read_results(tmp_path / "together")
    numbers = [
        [(r.task, r.protocol, r.metric, r.value, r.n) for r in results]
        for results in (alone, together)
    ]
    assert numbers[0] == numbers[1]
    for path in (tmp_path / "alone" / "predictions").iterdir():
        other = pq.read_table(tmp_path / "together" / "predictions" / path.name)
        assert pq.read_table(path).drop_columns("scores").equals(other.drop_columns("scores"))
