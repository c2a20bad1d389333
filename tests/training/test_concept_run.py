"""Runs that distil a teacher's concepts: their heads, their data, and what they refuse."""

import json
import signal
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from test_run import TIMING, assert_same, run_in_child, trace

from winnow.data.concept_targets import ConceptTargets, TargetFacts, write_targets
from winnow.objectives import ConceptDistillation, HardNegativeNCE
from winnow.training.checkpoint import Checkpoints
from winnow.training.metrics import read_metrics
from winnow.training.run import train
from winnow.types import InputError

SIZES = {"objects": 6, "attributes": 4}


def make_targets(folder, of, *, seed=0, **changes):
    """One concept of each head for every pair, by chance."""
    random = np.random.default_rng(seed)
    uids = of.table["uid"].to_pylist()
    heads = {
        head: (random.integers(0, size, (len(uids), 1)), np.ones((len(uids), 1)))
        for head, size in SIZES.items()
    }
    facts = TargetFacts(
        selection="none",
        selection_fingerprint=of.fingerprint,
        vocabulary="0123456789abcdef",
        teacher="tester",
        teacher_identity="fedcba9876543210",
        heads="0" * 16,
        sizes=SIZES,
        top_k=1,
    )
    write_targets(folder, [(uids, heads)], replace(facts, **changes))
    return ConceptTargets.open(folder)


@pytest.fixture(scope="module")
def targets(selection, tmp_path_factory):
    return make_targets(tmp_path_factory.mktemp("targets"), selection)


@pytest.fixture
def distilling(recipe):
    return replace(recipe, objective=HardNegativeNCE(), concept_distillation=ConceptDistillation())


@pytest.mark.slow
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(
    distilling, selection, targets, tmp_path
):
    distilling = replace(distilling, runtime=replace(distilling.runtime, workers=2))
    train(distilling, selection, tmp_path / "whole", targets=targets)
    killed = run_in_child(
        distilling,
        selection,
        tmp_path / "killed",
        at=7,
        signal_number=signal.SIGKILL,
        targets=[str(targets.folder)],
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "concept_heads.safetensors").exists()
    train(distilling, selection, tmp_path / "killed", targets=targets)
    assert_same(trace(tmp_path / "killed"), trace(tmp_path / "whole"))
    heads = [load_file(tmp_path / run / "concept_heads.safetensors") for run in ("killed", "whole")]
    assert all(torch.equal(heads[0][name], value) for name, value in heads[1].items())


def test_micro_batches_change_nothing_but_rounding(distilling, selection, targets, tmp_path):
    for parts in (1, 2):
        recipe = replace(distilling, micro_batches=parts, steps=4)
        train(recipe, selection, tmp_path / str(parts), targets=targets)
    one, two = (read_metrics(tmp_path / parts) for parts in ("1", "2"))
    for left, right in zip(one, two, strict=True):
        numbers = left.keys() - TIMING
        expected = {name: left[name] for name in numbers}
        assert {name: right[name] for name in numbers} == pytest.approx(expected, rel=1e-3)


def test_heads_are_kept_for_resuming_and_left_out_of_the_model(
    distilling, recipe, selection, targets, tmp_path
):
    model = train(distilling, selection, tmp_path / "with", targets=targets)
    plain = train(recipe, selection, tmp_path / "without")
    exported, bare = (load_file(m / "open_clip_model.safetensors") for m in (model, plain))
    assert exported.keys() == bare.keys()
    open_clip.create_model_and_transforms(f"local-dir:{model}")
    heads = load_file(tmp_path / "with" / "concept_heads.safetensors")
    width = distilling.model.embed_dim
    assert {n: tuple(v.shape) for n, v in heads.items()} == {
        "objects.weight": (6, width),
        "objects.bias": (6,),
        "attributes.weight": (4, width),
        "attributes.bias": (4,),
    }
    saved = {f"heads.linear.{name}": torch.empty_like(value) for name, value in heads.items()}
    Checkpoints(tmp_path / "with" / "checkpoints").load_newest({"towers": saved})
    for name, value in heads.items():
        assert torch.equal(saved[f"heads.linear.{name}"], value)
        assert value.abs().max() > 1e-3, "they have learnt something"
    assert not (tmp_path / "without" / "concept_heads.safetensors").exists()


def test_the_first_step_sees_the_loss_of_heads_without_an_opinion(
    distilling, selection, targets, tmp_path
):
    train(replace(distilling, steps=1), selection, tmp_path, targets=targets)
    row = read_metrics(tmp_path)[0]
    assert row["loss_objects"] == pytest.approx(np.log(6), rel=1e-6)
    assert row["loss_attributes"] == pytest.approx(np.log(4), rel=1e-6)
    assert row["loss"] == pytest.approx(row["loss_contrastive"] + np.log(24), rel=1e-6)


def test_a_first_step_moves_the_towers_as_it_would_without_heads(
    distilling, selection, targets, tmp_path
):
    """The same chance, the same pairs, and heads that pull nowhere before they know something."""
    recipe = replace(distilling, steps=1)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, max_gradient_norm=1e9))
    train(recipe, selection, tmp_path / "with", targets=targets)
    train(replace(recipe, concept_distillation=None), selection, tmp_path / "without")
    with_heads, without = (trace(tmp_path / run)[1] for run in ("with", "without"))
    assert all(torch.equal(with_heads[name], value) for name, value in without.items())


def test_targets_are_needed_and_need_a_recipe_that_takes_them(
    distilling, recipe, selection, targets, tmp_path
):
    with pytest.raises(InputError, match=r"no targets are given: .*winnow concepts .*--teacher"):
        train(distilling, selection, tmp_path / "run")
    with pytest.raises(InputError, match="are for a recipe with concept distillation"):
        train(recipe, selection, tmp_path / "run", targets=targets)
    assert not (tmp_path / "run").exists()


def test_targets_of_another_selection_are_refused_naming_both(distilling, selection, tmp_path):
    foreign = make_targets(
        tmp_path / "t", selection, selection="cat-2", selection_fingerprint="f" * 64
    )
    named = rf"'cat-2' \(ffffffffffff\), not of .*{selection.directory.name} \("
    with pytest.raises(InputError, match=named + selection.fingerprint[:12]):
        train(distilling, selection, tmp_path / "run", targets=foreign)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_targets_it_began_with_alone(
    distilling, selection, targets, tmp_path
):
    recipe = replace(distilling, steps=1)
    train(recipe, selection, tmp_path / "run", targets=targets)
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert data["concepts"]["teacher"] == "tester"
    assert data["concepts"]["sha256"] == targets.sha256
    other = make_targets(tmp_path / "other", selection, seed=1, teacher="someone else")
    named = rf"concept targets: .* by tester \({targets.sha256[:12]}\) -> .* by someone else"
    with pytest.raises(InputError, match=named):
        train(recipe, selection, tmp_path / "run", targets=other)
    moved = make_targets(tmp_path / "moved", selection)
    train(recipe, selection, tmp_path / "run", targets=moved)


@pytest.mark.slow
def test_heads_learn_what_the_targets_say(distilling, selection, targets, tmp_path):
    """120 steps over 48 pictures: below ln 6, which is all that can be had without looking."""
    recipe = replace(distilling, steps=120)
    train(recipe, selection, tmp_path, targets=targets)
    last = [row["loss_objects"] for row in read_metrics(tmp_path)[-6:]]
    assert np.mean(last) < 0.8 * np.log(6)
