"""Cells that are really trained and measured, in this process and in others."""

import json
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from coloured_things import write_shards
from safetensors.torch import load_file

from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.vocabulary_facts import VocabularyConfig
from winnow.evaluation.probes import FewShot
from winnow.evaluation.protocols import Protocols
from winnow.evaluation.results import read_results
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.objectives import InfoNCE
from winnow.recipes.ablations import running
from winnow.recipes.ablations.cells import cells_of, recipe_hash
from winnow.recipes.ablations.data import prepare
from winnow.recipes.ablations.methods import METHODS
from winnow.recipes.ablations.running import run_study
from winnow.recipes.ablations.study import Axis, Level, Study, TrainingData, Tuning
from winnow.recipes.ablations.work import Job
from winnow.recipes.concepts import Concepts
from winnow.training.assembly import build_towers
from winnow.training.optimizer import AdamW
from winnow.training.recipe import Recipe, Runtime
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
)


@pytest.fixture(autouse=True)
def no_pool(monkeypatch):
    """Of processes for two small shards: that they do not matter is tested where they are."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def recipe():
    return Recipe(
        objective=InfoNCE(),
        model=SMALL,
        optimizer=AdamW(learning_rate=3e-3, warmup_steps=1),
        batch_size=8,
        steps=3,
        runtime=Runtime(workers=0, device="cpu", log_every=1, checkpoint_every=2),
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return TrainingData(source=str(write_shards(tmp_path_factory.mktemp("pool") / "shards")))


@pytest.fixture(scope="module")
def other_set(evaluation_set, tmp_path_factory):
    return shutil.copytree(evaluation_set, tmp_path_factory.mktemp("sets") / "others")


@pytest.fixture(scope="module")
def probed_set(evaluation_set, tmp_path_factory):
    """With the test's pictures for its training split too, which is no matter here."""
    folder = shutil.copytree(evaluation_set, tmp_path_factory.mktemp("sets") / "probed")
    shutil.copytree(folder / "test", folder / "train")
    return folder


@pytest.fixture
def study(recipe, pool, evaluation_set):
    return Study(
        base=recipe,
        data=pool,
        methods=(METHODS["clip"], METHODS["psd"]),
        seeds=(0, 1),
        axes=(
            Axis(
                name="size",
                levels=(
                    Level(name="0.5", value=0.5, data=replace(pool, share=0.5)),
                    Level(name="1", value=1.0),
                ),
                base="1",
                seeds=(0,),
            ),
        ),
        tasks={"things": evaluation_set},
    )


@pytest.fixture
def job(study, tmp_path):
    (cell, *_) = cells_of(study, {})
    return Job(
        cell=cell,
        folder=tmp_path / "cells" / cell.name,
        data=prepare(study.data, tmp_path),
        targets=None,
        tasks=study.tasks,
        probes={},
        probing=Protocols(),
    )


def silent(*_, **__):
    pass


def facts_of(folder):
    return json.loads((folder / "cell.json").read_text())


def test_methods_start_from_the_same_towers_and_see_the_same_pairs(recipe, pool, tmp_path):
    """Concept heads are drawn from no chance that the towers would miss."""
    torch.manual_seed(recipe.seed)
    plain = build_towers(METHODS["clip"].of(recipe)).state_dict()
    torch.manual_seed(recipe.seed)
    sizes = {"objects": 5, "attributes": 7}
    with_heads = build_towers(METHODS["diht_psd"].of(recipe), sizes).state_dict()
    assert all(torch.equal(with_heads[name], weight) for name, weight in plain.items())
    assert len(with_heads) == len(plain) + 4
    seen = {METHODS[name].of(recipe).seed for name in METHODS}
    assert seen == {recipe.seed}, "the order is a function of selection and seed alone"


def test_a_cell_is_trained_measured_and_tidied_up(job, probed_set):
    job = replace(
        job,
        probes={"probed": probed_set},
        probing=Protocols(names=("few-shot",), few_shot=FewShot(shots=(1,), subsets=1)),
    )
    assert not job.is_done()
    job.do()
    assert job.is_done()
    told = facts_of(job.folder)
    assert {name: told[name] for name in ("name", "method", "axis", "level", "seed")} == {
        "name": "base-clip-seed0",
        "method": "clip",
        "axis": "base",
        "level": "base",
        "seed": 0,
    }
    assert (told["pairs"], told["noise"], told["steps"], told["samples"]) == (96, 0.0, 3, 24)
    assert told["recipe_hash"] == recipe_hash(job.cell.recipe)
    assert 0 < told["seconds_per_step"] < 60 and 0.01 < told["peak_memory_gb"] < 100
    weights = load_file(job.run / "model" / "open_clip_model.safetensors")
    assert told["parameters"] == sum(weight.numel() for weight in weights.values())
    measured = {(row.task, row.protocol) for row in read_results(job.evaluation)}
    assert measured == {("things", "zero-shot"), ("things", "retrieval"), ("probed", "few-shot")}
    assert list((job.evaluation / "predictions").glob("*.parquet"))
    assert not (job.run / "checkpoints").exists()
    assert not (job.evaluation / "embeddings").exists()
    # Beside whom it is measured again is no matter: its seconds are those of its training.
    replace(job, beside=1).do()
    assert facts_of(job.folder)["alone"] is told["alone"] is True


def test_a_cell_that_is_measured_on_more_is_not_trained_again(job, other_set):
    """It was trained beside another, and is measured again alone: that makes its cost no better."""
    replace(job, beside=1).do()
    assert facts_of(job.folder)["alone"] is False
    weights = (job.run / "model" / "open_clip_model.safetensors").stat().st_mtime_ns
    more = replace(job, tasks={**job.tasks, "others": other_set})
    assert job.is_done() and not more.is_done()
    more.refuse()
    more.do()
    assert more.is_done() and not job.is_done()
    assert (job.run / "model" / "open_clip_model.safetensors").stat().st_mtime_ns == weights
    assert {row.task for row in read_results(job.evaluation)} == {"things", "others"}
    assert facts_of(job.folder)["alone"] is False


def test_another_recipe_or_other_data_is_refused_with_the_difference(job, tmp_path):
    job.do()
    longer = replace(job.cell, recipe=replace(job.cell.recipe, steps=5))
    with pytest.raises(InputError, match="steps: 3 -> 5"):
        replace(job, cell=longer).refuse()
    data = prepare(replace(job.cell.data, share=0.5), tmp_path)
    with pytest.raises(InputError, match=r"data: 96 pairs of .* -> 48 pairs of"):
        replace(job, data=data).refuse()
    busy = replace(job.cell, recipe=replace(job.cell.recipe, runtime=Runtime(workers=3)))
    replace(job, cell=busy).refuse()


def test_what_is_not_measured_is_no_cell(job, evaluation_set, tmp_path):
    """A table may have no holes, so nothing says that the cell is done."""
    broken = shutil.copytree(evaluation_set, tmp_path / "broken")
    (broken / "test" / "0.tar").unlink()
    with pytest.raises(InputError, match=r"0\.tar"):
        replace(job, tasks={"broken": broken}).do()
    unfit = replace(job, probes={"things": evaluation_set}, probing=Protocols(names=("few-shot",)))
    with pytest.raises(InputError, match="not all was measured: things"):
        unfit.do()
    assert not (job.folder / "cell.json").exists()


def test_sets_that_are_missing_are_said_before_anything_is_made(study, tmp_path, evaluation_set):
    gone = replace(study, tasks={"things": evaluation_set, "gone": tmp_path / "gone"})
    with pytest.raises(InputError, match="gone"):
        run_study(gone, tmp_path / "out", say=silent)
    plain = replace(study, probes={"things": evaluation_set})
    with pytest.raises(InputError, match="probes of 'things' need a training split"):
        run_study(plain, tmp_path / "out", say=silent)
    assert not (tmp_path / "out").exists()


def numbers_in(evaluation):
    return [(row.task, row.metric, row.value) for row in read_results(evaluation)]


def stopping_after(count):
    """`carry_out` with a Ctrl-C behind so many outcomes."""
    carry_out = running.carry_out

    def stopped(jobs, *, processes):
        with closing(carry_out(jobs, processes=processes)) as outcomes:
            for number, outcome in enumerate(outcomes, start=1):
                yield outcome
                if number == count:
                    raise KeyboardInterrupt

    return stopped


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on_and_repeats_nothing(study, job, tmp_path, monkeypatch):
    """Six cells in two processes, stopped after two; numbers are those of cells never stopped."""
    cells = [cell.name for cell in cells_of(study, {})]
    with monkeypatch.context() as patch:
        patch.setattr(running, "carry_out", stopping_after(2))
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "out", jobs=2, say=silent)
    finished = {
        name: (tmp_path / "out" / "cells" / name / "cell.json").read_bytes()
        for name in cells
        if (tmp_path / "out" / "cells" / name / "cell.json").exists()
    }
    assert 2 <= len(finished) <= 4
    run_study(study, tmp_path / "out", jobs=1, say=silent)
    for name, before in finished.items():
        assert (tmp_path / "out" / "cells" / name / "cell.json").read_bytes() == before
    for cell in cells_of(study, {})[1:3]:
        whole = replace(job, cell=cell, folder=tmp_path / "whole" / cell.name)
        whole.do()
        there = tmp_path / "out" / "cells" / cell.name / "run" / "evaluation"
        assert numbers_in(there) == numbers_in(whole.evaluation)
    alone = {name: facts_of(tmp_path / "out" / "cells" / name)["alone"] for name in cells}
    assert not any(alone[name] for name in finished)
    assert alone[cells[-1]], "it had not begun when two at a time were stopped"
    assert facts_of(tmp_path / "out" / "cells" / "size-0.5-psd-seed0")["pairs"] == 48
    told = json.loads((tmp_path / "out" / "study.json").read_text())
    assert told["cells"] == cells
    tables = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert (tables["cells"], tables["problems"]) == (6, [])


@pytest.mark.slow
def test_a_cell_that_fails_is_told_and_the_others_are_done(study, tmp_path):
    """A file stands where a cell's run should be made."""
    said, plain = [], replace(study, axes=(), seeds=(0,))
    folder = tmp_path / "out" / "cells" / "base-clip-seed0"
    folder.mkdir(parents=True)
    (folder / "run").write_text("in the way")
    with pytest.raises(InputError, match=r"1 of the cells failed \(base-clip-seed0\); the same"):
        run_study(plain, tmp_path / "out", say=lambda *words, **_: said.append(str(words[0])))
    assert [line for line in said if " failed: " in line] == [
        f"base-clip-seed0 failed: its process ended with status 1 (see {folder / 'log.txt'})"
    ]
    assert "the cell base-clip-seed0 is not done" in said
    assert facts_of(folder.with_name("base-psd-seed0"))["method"] == "psd"
    (folder / "run").unlink()
    run_study(plain, tmp_path / "out", say=silent)
    assert facts_of(folder)["method"] == "clip"


@pytest.mark.slow
def test_a_tuned_study_takes_what_the_validation_set_says(study, other_set, tmp_path):
    rates = {"optimizer.learning_rate": (1e-3, 3e-2)}
    tuning = Tuning(
        grids={"clip": rates, "psd": rates}, budget=2, tasks={"others": other_set}, seeds=(7,)
    )
    tuned = replace(study, axes=(), seeds=(0,), tuning=tuning)
    run_study(tuned, tmp_path / "out", say=silent)
    told = json.loads((tmp_path / "out" / "tuned.json").read_text())
    study_json = json.loads((tmp_path / "out" / "study.json").read_text())
    for name in ("clip", "psd"):
        trials = told["methods"][name]["trials"]
        best = max(trials, key=lambda trial: trial["score"])
        assert told["methods"][name]["chosen"] == best["fields"] == study_json["tuned"][name]
        cell = tmp_path / "out" / "cells" / f"base-{name}-seed0" / "run"
        chosen = json.loads((cell / "recipe.json").read_text())["optimizer"]["learning_rate"]
        assert chosen == best["fields"]["optimizer.learning_rate"]
        assert {row.task for row in read_results(cell / "evaluation")} == {"things"}
        trial = tmp_path / "out" / "tuning" / f"tuning-trial00-{name}-seed7"
        assert {row.task for row in read_results(trial / "run" / "evaluation")} == {"others"}


def few_concepts(selection):
    return Concepts(
        data=str(selection),
        image_size=32,
        heads=HeadsConfig(held_out=0.25, epochs=2, upsampling_threshold=0.0),
        vocabulary=VocabularyConfig(min_count=3),
        top_k=3,
        device="cpu",
        workers=1,
    )


@pytest.mark.slow
def test_concepts_are_made_once_for_every_selection(study, tmp_path):
    concepts = replace(
        study,
        methods=(METHODS["clip"], METHODS["cd"]),
        seeds=(0,),
        axes=(replace(study.axes[0], methods=("cd",)),),
        concepts=few_concepts,
    )
    run_study(concepts, tmp_path / "out", say=silent)
    made = sorted(path.parents[1].name for path in (tmp_path / "out").rglob("targets.npy"))
    assert made == ["none", "none-share-0.5"]
    assert len(list((tmp_path / "out" / "features").iterdir())) == 1
    cell = tmp_path / "out" / "cells" / "size-0.5-cd-seed0"
    assert facts_of(cell)["pairs"] == 48
    assert (cell / "run" / "concept_heads.safetensors").is_file()


def test_cells_of_axes_may_be_probed_less_than_the_base(study, probed_set, tmp_path, monkeypatch):
    asked = replace(
        study,
        probes={"probed": probed_set},
        probing_along_axes=Protocols(names=("linear-probe",)),
    )
    jobs = []
    monkeypatch.setattr(running, "_run", lambda some, **_: jobs.extend(some) or [])
    monkeypatch.setattr(running, "_tell", silent)
    run_study(asked, tmp_path / "out", say=silent)
    probed = {job.cell.axis: job.probing.names for job in jobs}
    assert probed == {"base": ("linear-probe", "few-shot"), "size": ("linear-probe",)}
