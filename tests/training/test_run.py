"""Whole runs: what they leave behind, and that a kill changes nothing of it."""

import fcntl
import json
import random
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_towers import SMALL

from winnow.config import as_dict, load
from winnow.curation.selections import none
from winnow.data.loader import load_batches
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.models import NamedTowers
from winnow.models.towers import Towers
from winnow.objectives import (
    Context,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    ProgressiveSelfDistillation,
    SigLIP,
    contrastive_loss,
)
from winnow.recipes.data import curate
from winnow.training import run_data
from winnow.training.checkpoint_files import steps_in
from winnow.training.mask import Mask
from winnow.training.metrics import read_metrics
from winnow.training.recipe import Recipe
from winnow.training.run import train
from winnow.types import InputError

TIMING = {"samples_per_second", "data_wait_share", "memory_gb"}

CHILD = """
import os, sys
from pathlib import Path
from winnow.config import load
from winnow.data.concept_targets import ConceptTargets
from winnow.data.selection import Selection
from winnow.training import run, updates
from winnow.training.recipe import Recipe

recipe_path, selection, out, at, signal_number, *targets = sys.argv[1:]
honest = updates.training_step

def step(*arguments, **options):
    if options["step"] == int(at):
        os.kill(os.getpid(), int(signal_number))
    return honest(*arguments, **options)

updates.training_step = step
run.train(
    load(Recipe, Path(recipe_path)),
    Selection.open(Path(selection)),
    Path(out),
    targets=ConceptTargets.open(Path(*targets)) if targets else None,
)
"""


def run_in_child(recipe, selection, out, *, at=-1, signal_number=0, targets=()):
    """Train in a process of its own that signals itself just before step `at`."""
    path = out.with_suffix(".json")
    path.write_text(json.dumps(as_dict(recipe)))
    command = [sys.executable, "-c", CHILD, str(path), str(selection.directory), str(out)]
    command += [str(at), str(int(signal_number)), *targets]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def trace(out):
    """The run's numbers but for the clock's, and its weights."""
    rows = [{k: v for k, v in row.items() if k not in TIMING} for row in read_metrics(out)]
    return rows, load_file(out / "model" / "open_clip_model.safetensors")


def assert_same(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())


PSD = ProgressiveSelfDistillation
CHANGES = [
    pytest.param({"objective": PSD(final_share=0.5)}, id="psd"),
    pytest.param(
        {"objective": PSD(final_share=0.5, choose="random")},
        id="psd-random",
    ),
    pytest.param(
        {
            "objective": HardNegativeSelfDistillation(targets=PSD(final_share=0.5)),
            "mask": Mask(same_caption=True, same_image=True),
        },
        id="hn-psd-masked",
    ),
    pytest.param(
        {"objective": SigLIP(), "model": replace(SMALL, logit_scale=2.303, logit_bias=-10.0)},
        id="siglip",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(
    change, with_workers, selection, tmp_path
):
    recipe = replace(with_workers, **change)
    train(recipe, selection, tmp_path / "whole")
    at = random.Random(str(change)).randrange(1, recipe.steps)
    killed = run_in_child(
        recipe, selection, tmp_path / "killed", at=at, signal_number=signal.SIGKILL
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    train(recipe, selection, tmp_path / "killed")
    assert_same(trace(tmp_path / "killed"), trace(tmp_path / "whole"))
    assert len(read_metrics(tmp_path / "whole")) == recipe.steps


def test_workers_change_nothing(recipe, with_workers, selection, tmp_path):
    for name, variant in (("none", recipe), ("two", with_workers)):
        train(variant, selection, tmp_path / name)
    assert_same(trace(tmp_path / "two"), trace(tmp_path / "none"))


@pytest.mark.parametrize("mask", [Mask(), Mask(same_caption=True), Mask(same_image=True)], ids=str)
def test_the_mask_of_a_recipe_reaches_the_loss(mask, recipe, repetitive, tmp_path):
    """A run's first loss is that of its towers and pairs, with what is masked told by hand."""
    recipe = replace(recipe, mask=mask, steps=1)
    train(recipe, repetitive, tmp_path)
    torch.manual_seed(recipe.seed)
    towers = Towers(recipe.model).train()
    (batch,) = load_batches(
        repetitive,
        Order(shard_counts=repetitive.shard_counts, seed=recipe.seed),
        tokenize=towers.tokenize,
        image_size=towers.image_size,
        augmentation=recipe.augmentation,
        workers=0,
        batch_size=recipe.batch_size,
        first_step=0,
        last_step=1,
    )
    image, text, scale, *_ = towers(batch.image_BCHW, batch.text_BT)
    # The eight pairs have two captions and four pictures, by turns.
    told = Context(
        caption_id_B=batch.row_B % 2 if mask.same_caption else None,
        image_id_B=batch.row_B % 4 if mask.same_image else None,
    )
    unit = torch.nn.functional.normalize
    expected = contrastive_loss(recipe.objective, unit(image), unit(text), scale, context=told)
    assert read_metrics(tmp_path)[0]["loss"] == pytest.approx(expected.total.item(), rel=1e-6)


@pytest.mark.slow
def test_sigterm_saves_at_once_and_the_rest_follows(recipe, selection, tmp_path):
    train(recipe, selection, tmp_path / "whole")
    stopped = run_in_child(recipe, selection, tmp_path / "run", at=4, signal_number=signal.SIGTERM)
    assert "stopped and saved at step 5 of 12" in stopped.stderr
    assert steps_in(tmp_path / "run" / "checkpoints")[-1] == 5
    train(recipe, selection, tmp_path / "run")
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(recipe, selection, tmp_path, capsys):
    train(recipe, selection, tmp_path / "whole")
    run_in_child(recipe, selection, tmp_path / "run", at=7, signal_number=signal.SIGTERM)
    (newest,) = (tmp_path / "run" / "checkpoints" / "step-00000008").glob("*.distcp")
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    train(recipe, selection, tmp_path / "run")
    said = capsys.readouterr().err
    assert "step-00000008 is damaged" in said and "going on from step 6" in said
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_saves_too(with_workers, selection, tmp_path):
    """As a scheduler ends a job: the workers get the signal as well."""
    script = CHILD.replace(
        "os.kill(os.getpid(), int(signal_number))", "os.killpg(os.getpgrp(), int(signal_number))"
    )
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(as_dict(with_workers)))
    command = [sys.executable, "-c", script, str(path), str(selection.directory)]
    stopped = subprocess.run(
        [*command, str(tmp_path / "run"), "4", str(int(signal.SIGTERM))],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert "stopped and saved at step 5 of 12" in stopped.stderr
    assert steps_in(tmp_path / "run" / "checkpoints")[-1] == 5


def test_a_recipe_that_cannot_be_built_leaves_the_folder_free(recipe, selection, tmp_path):
    wrong = replace(recipe, model=NamedTowers(name="ViT-B-23"))
    with pytest.raises(InputError, match="ViT-B-32"):
        train(wrong, selection, tmp_path / "run")
    train(replace(recipe, steps=1), selection, tmp_path / "run")


def test_two_processes_cannot_train_in_one_folder(recipe, selection, tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is training"):
            train(recipe, selection, tmp_path / "run")


def test_an_error_in_the_data_saves_what_was_learned(recipe, selection, tmp_path, monkeypatch):
    honest = run_data.load_batches

    def failing(*arguments, **options):
        for number, batch in enumerate(honest(*arguments, **options)):
            if number == 4:
                raise InputError("a picture is gone")
            yield batch

    with monkeypatch.context() as patch, pytest.raises(InputError, match="a picture is gone"):
        patch.setattr(run_data, "load_batches", failing)
        train(recipe, selection, tmp_path / "run")
    assert steps_in(tmp_path / "run" / "checkpoints")[-1] == 4
    train(recipe, selection, tmp_path / "run")
    train(recipe, selection, tmp_path / "whole")
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))


def test_the_recipe_is_saved_and_loads_back(recipe, selection, tmp_path):
    recipe = replace(recipe, objective=ProgressiveSelfDistillation(), steps=1)
    train(recipe, selection, tmp_path)
    assert load(Recipe, tmp_path / "recipe.json") == recipe


def test_another_recipe_or_selection_is_refused_by_name(recipe, selection, shards, tmp_path):
    recipe = replace(recipe, steps=1)
    train(recipe, selection, tmp_path / "run")
    with pytest.raises(InputError, match="seed: 5 -> 6"):
        train(replace(recipe, seed=6), selection, tmp_path / "run")
    with pytest.raises(InputError, match=r"objective\.kind: 'InfoNCE' -> 'HardNegativeNCE'"):
        train(replace(recipe, objective=HardNegativeNCE()), selection, tmp_path / "run")
    other = curate(
        str(shards / "00000.tar"), tmp_path / "other", rules=none(), name="none", workers=1
    )
    with pytest.raises(InputError, match=r"48 pairs of .* -> 24 pairs of"):
        train(recipe, Selection.open(other.directory), tmp_path / "run")
    # How a run is carried out may change.
    train(
        replace(recipe, runtime=replace(recipe.runtime, log_every=7)), selection, tmp_path / "run"
    )


def test_a_recipe_that_cannot_be_right_is_refused(recipe):
    for change in ({"batch_size": 0}, {"steps": 0}, {"micro_batches": 9}):
        with pytest.raises(InputError):
            replace(recipe, **change)


def test_a_batch_larger_than_the_selection_is_refused(recipe, selection, tmp_path):
    with pytest.raises(InputError, match="too few pairs for a batch of 64: with more than 48"):
        train(replace(recipe, batch_size=64), selection, tmp_path)
