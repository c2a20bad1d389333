"""Whole runs in one process, two, four, and one again: the same order, equal but for rounding."""

import signal
from dataclasses import replace

import pytest
import torch
from rank_runs import CHILD, run_on_ranks
from safetensors.torch import load_file
from test_step import RULES

from winnow.training.average import WeightAverage
from winnow.training.metrics import read_metrics
from winnow.training.run import train

SLOW = pytest.mark.slow
# Gradients are summed in another order, in float32, and AdamW divides by their size: where one is
# near 0 its sign may turn, which moves that weight by twice the learning rate in a step.
LOSS_TOLERANCE = 2e-4


def losses(out):
    return torch.tensor([row["loss"] for row in read_metrics(out)])


def weights(out):
    return load_file(out / "model" / "open_clip_model.safetensors")


def assert_close(out, expected, *, tolerance=LOSS_TOLERANCE):
    """Losses of every step, and weights, by how far these have come from the start."""
    torch.testing.assert_close(losses(out), losses(expected), rtol=tolerance, atol=0)
    found, wanted = weights(out), weights(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        error = (found[name] - value).norm() / value.norm().clamp(min=1e-3)
        assert error < 5e-3, f"{name} differs by {error:.2g}"


def succeed(finished):
    assert [process.returncode for process in finished] == [0] * len(finished), finished
    return finished


def on(recipe, parallel):
    return replace(recipe, runtime=replace(recipe.runtime, parallel=parallel))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_one_process_two_and_one_again_are_one_run(parallel, with_workers, selection, tmp_path):
    """Killed at step 4 in one process and at 8 in two, with a running average of the weights."""
    recipe = on(replace(with_workers, average=WeightAverage(decay=0.8)), parallel)
    train(recipe, selection, tmp_path / "whole")
    out = tmp_path / "moved"
    for size, at in ((1, 4), (2, 8)):
        killed = run_on_ranks(
            recipe, selection, out, size=size, at=at, signal_number=signal.SIGKILL
        )
        assert {process.returncode for process in killed} == {-signal.SIGKILL}
    succeed(run_on_ranks(recipe, selection, out, size=1))
    assert [row["step"] for row in read_metrics(out)] == list(range(1, recipe.steps + 1))
    assert_close(out, tmp_path / "whole")


CASES = [
    pytest.param(2, "ddp", RULES[2], {"micro_batches": 2}, marks=SLOW, id="2-ddp-psd-cached"),
    pytest.param(2, "fsdp", RULES[3], {"micro_batches": 2}, marks=SLOW, id="2-fsdp-hn-psd-cached"),
    *(
        pytest.param(2, parallel, rule, {}, marks=SLOW, id=f"2-{parallel}-{type(rule).__name__}")
        for parallel in ("ddp", "fsdp")
        for rule in RULES
    ),
    pytest.param(4, "ddp", RULES[1], {}, marks=SLOW, id="4-ddp-hn-nce"),
    pytest.param(4, "fsdp", RULES[2], {}, marks=SLOW, id="4-fsdp-psd"),
    pytest.param(
        2,
        "fsdp",
        RULES[2],
        {"average": WeightAverage(decay=0.8), "teacher": "average"},
        marks=SLOW,
        id="2-fsdp-averaged-teacher",
    ),
]


@pytest.mark.parametrize(("size", "parallel", "rule", "change"), CASES)
def test_several_processes_make_the_run_of_one(
    size, parallel, rule, change, recipe, selection, tmp_path
):
    recipe = on(replace(recipe, objective=rule, **change), parallel)
    train(replace(recipe, micro_batches=1), selection, tmp_path / "one")
    succeed(run_on_ranks(recipe, selection, tmp_path / "several", size=size))
    assert_close(tmp_path / "several", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_killed_and_resumed_are_bit_for_bit_two_that_were_not(
    parallel, with_workers, selection, tmp_path
):
    recipe = on(replace(with_workers, average=WeightAverage(decay=0.8)), parallel)
    succeed(run_on_ranks(recipe, selection, tmp_path / "whole", size=2))
    killed = run_on_ranks(
        recipe, selection, tmp_path / "killed", size=2, at=7, signal_number=signal.SIGKILL
    )
    assert {process.returncode for process in killed} == {-signal.SIGKILL}
    succeed(run_on_ranks(recipe, selection, tmp_path / "killed", size=2))
    assert torch.equal(losses(tmp_path / "killed"), losses(tmp_path / "whole"))
    wanted = weights(tmp_path / "whole")
    assert all(torch.equal(w, wanted[name]) for name, w in weights(tmp_path / "killed").items())


@pytest.mark.slow
def test_a_stop_that_one_rank_is_asked_for_saves_and_stops_all(recipe, selection, tmp_path):
    out = tmp_path / "run"
    stopped = run_on_ranks(
        recipe, selection, out, size=2, at=4, signal_number=signal.SIGTERM, ranks=[1]
    )
    assert {process.returncode for process in stopped} == {128 + signal.SIGTERM}
    assert "stopped and saved at step 5 of 12" in stopped[0].stderr
    succeed(run_on_ranks(recipe, selection, out, size=2))
    train(recipe, selection, tmp_path / "whole")
    assert_close(out, tmp_path / "whole")


@pytest.mark.slow
def test_a_batch_that_ranks_cannot_share_is_refused_once(recipe, selection, tmp_path):
    refused = run_on_ranks(replace(recipe, batch_size=9), selection, tmp_path / "run", size=2)
    assert {process.returncode for process in refused} == {1}
    assert "a multiple, such as --batch-size 10" in refused[0].stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_evaluation_between_two_steps_leaves_shards_as_they_were(recipe, selection, tmp_path):
    """Where none is the best, nothing else gives the shards back."""
    runtime = replace(recipe.runtime, evaluate_every=2, parallel="fsdp", validation_batches=1)
    recipe = replace(recipe, runtime=runtime, average=WeightAverage(decay=0.8))
    judged = CHILD.replace("Path(out))", "Path(out), validation=Selection.open(Path(selection)))")
    assert judged != CHILD
    judged = "from winnow.training.judging import Best\nBest.is_best = lambda *_: False\n" + judged
    succeed(run_on_ranks(recipe, selection, tmp_path / "two", size=2, script=judged))
    train(recipe, selection, tmp_path / "one", validation=selection)
    assert_close(tmp_path / "two", tmp_path / "one")
    for row, other in zip(
        read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True
    ):
        for name in ("validation_loss", "update_norm", "weight_norm"):
            assert (name in row) is (name in other)
            assert row.get(name, 0) == pytest.approx(other.get(name, 0), rel=1e-3)
