"""A stop that is asked for in an evaluation or while data is waited for; nobody sleeps here."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from rank_runs import CHILD, run_on_ranks
from test_run import assert_same, trace

from winnow.data import loader
from winnow.data.watch import Waiting
from winnow.training.checkpoint_files import steps_in
from winnow.training.interrupts import BrokenOff, StopRequest, stop_on_signals
from winnow.training.judging import UNJUDGED_FILE, Judging, keep_unjudged, unjudged_row
from winnow.training.metrics import read_metrics
from winnow.training.run import train
from winnow.types import Interrupted


def test_the_first_signal_is_a_request_and_a_second_ctrl_c_acts():
    request, before = StopRequest(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_signals(request):
        assert not request.is_made()
        os.kill(os.getpid(), signal.SIGINT)
        assert request.is_made() and request.signal_number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it goes on")
    assert signal.getsignal(signal.SIGINT) is before


def test_what_ends_at_once_ends_by_the_first_signal_and_does_not_begin_after_it():
    request, begun = StopRequest(), []
    with stop_on_signals(request):
        with pytest.raises(BrokenOff) as broken, request.at_once():
            begun.append("first")
            os.kill(os.getpid(), signal.SIGTERM)
            begun.append("still at it")
        assert broken.value.signal_number == signal.SIGTERM
        with pytest.raises(BrokenOff), request.at_once():
            begun.append("second")
        os.kill(os.getpid(), signal.SIGTERM)  # outside it breaks nothing off
    assert begun == ["first"]


def test_a_row_is_kept_for_its_own_step(tmp_path):
    assert unjudged_row(tmp_path, step=3) is None
    keep_unjudged(tmp_path, step=3, row={"loss": 2.5})
    assert unjudged_row(tmp_path, step=3) == {"loss": 2.5}
    assert unjudged_row(tmp_path, step=4) is None


def short(recipe, *, evaluated_every):
    """Six steps."""
    runtime = replace(recipe.runtime, evaluate_every=evaluated_every, checkpoint_every=100)
    return replace(recipe, steps=6, runtime=runtime)


def measured(towers):
    return {"set top1": float(towers.clip.logit_scale.detach())}


@pytest.mark.parametrize(("at", "before"), [(4, 0), (6, 1)])
def test_an_evaluation_that_is_broken_off_is_made_when_the_run_goes_on(
    at, before, recipe, selection, tmp_path
):
    """In the midst of the run, and at its end; once more, and then the run is whole."""
    recipe, evaluated = short(recipe, evaluated_every=4), []
    train(recipe, selection, tmp_path / "whole", judge=measured)

    def broken_off(towers):
        evaluated.append("begun")
        if len(evaluated) > before:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it goes on")
        return measured(towers)

    for _ in range(2):
        with pytest.raises(Interrupted, match=rf"after step {at} of 6, and saved; .* evaluation"):
            train(recipe, selection, tmp_path / "run", judge=broken_off)
    assert steps_in(tmp_path / "run" / "checkpoints")[-1] == at
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == list(range(1, at))
    train(recipe, selection, tmp_path / "run", judge=measured)
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))
    assert not (tmp_path / "run" / UNJUDGED_FILE).exists()


def test_the_validation_loss_ends_at_its_next_batch(recipe, selection, tmp_path, monkeypatch):
    recipe = short(recipe, evaluated_every=0)
    train(recipe, selection, tmp_path / "whole", validation=selection)
    honest, seen = Judging._loss, []

    def loss(self, *arguments):
        seen.append("a batch")
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Judging, "_loss", loss)
        with pytest.raises(Interrupted, match="after step 6 of 6") as stop:
            train(recipe, selection, tmp_path / "run", validation=selection)
    assert stop.value.status == 130 and len(seen) == 2
    train(recipe, selection, tmp_path / "run", validation=selection)
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))


def test_a_stop_is_heard_while_a_reader_stands_still(
    with_workers, selection, tmp_path, monkeypatch
):
    """A worker hangs for good in the batch of step 4; who waits for it is told at a look."""
    honest = loader._Steps._read
    never, _ = os.pipe()

    def read(self, positions):
        if positions[0] == 4 * 8:
            os.read(never, 1)
        return honest(self, positions)

    def look(self):
        if self._step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = replace(with_workers, steps=6)
    train(recipe, selection, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loader._Steps, "_read", read)
        patch.setattr(Waiting, "look", look)
        patch.setattr("winnow.data.workers._LOOK_EVERY_SECONDS", 0.05)
        patch.setattr("winnow.data.workers._GRACE_SECONDS", 0.1)
        with pytest.raises(Interrupted, match="saved at step 4 of 6") as stop:
            train(recipe, selection, tmp_path / "run")
    assert stop.value.status == 143
    train(recipe, selection, tmp_path / "run")
    assert_same(trace(tmp_path / "run"), trace(tmp_path / "whole"))


STOPPED_ON_ONE = """
import os, signal, sys
from winnow.training.judging import Judging
own_loss, seen = Judging._loss, []

def loss(self, *arguments):
    seen.append("a batch")
    if len(seen) == 2 and int(sys.argv[5]) == 1 and int(sys.argv[7]) == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    return own_loss(self, *arguments)

Judging._loss = loss
"""


@pytest.mark.slow
def test_ranks_leave_an_evaluation_together_and_make_it_later(recipe, selection, tmp_path):
    """Only the second rank is asked to stop."""
    recipe = short(recipe, evaluated_every=4)
    judged = CHILD.replace("Path(out))", "Path(out), validation=Selection.open(Path(selection)))")
    script = STOPPED_ON_ONE + judged.replace('options["step"] == int(at)', "False")
    out = tmp_path / "run"
    stopped = run_on_ranks(recipe, selection, out, size=2, at=7, script=script)
    assert {process.returncode for process in stopped} == {128 + signal.SIGTERM}, stopped[1].stderr
    assert "in the evaluation after step 4 of 6" in stopped[0].stderr
    assert json.loads((out / UNJUDGED_FILE).read_text())["step"] == 4
    again = run_on_ranks(recipe, selection, out, size=2, script=script)
    assert {process.returncode for process in again} == {0}, again
    train(recipe, selection, tmp_path / "one", validation=selection)
    found, expected = (
        torch.tensor([row["validation_loss"] for row in read_metrics(path)[3::2]])
        for path in (out, tmp_path / "one")
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
