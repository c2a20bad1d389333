"""An evaluation that was broken off or went wrong is made by the run that goes on, once."""

import os
import signal
from dataclasses import replace

import pytest

from winnow.training import audit_log, journal
from winnow.training.checkpoint_files import pinned, steps_in
from winnow.training.metrics import read_metrics
from winnow.training.run import train
from winnow.types import InputError, Interrupted

NO_SPACE = OSError(28, "No space left on device")


def evaluated(recipe, *, every):
    runtime = replace(recipe.runtime, evaluate_every=every, checkpoint_every=100, log_every=1)
    return replace(recipe, steps=6, runtime=runtime)


def measured(_):
    return {"set top1": 0.5}


def stopped(_):
    os.kill(os.getpid(), signal.SIGTERM)
    pytest.fail("an evaluation hears of it at once")


def unreadable(_):
    raise InputError("a picture of the set cannot be read")


def steps_of(run):
    return [(row["step"], "evaluation/set top1" in row) for row in read_metrics(run)]


WHOLE = [(1, False), (2, False), (3, False), (4, True), (5, False), (6, True)]


def test_one_that_went_wrong_is_made_again_and_its_step_stands_once(recipe, selection, tmp_path):
    recipe = evaluated(recipe, every=4)
    with pytest.raises(Interrupted):
        train(recipe, selection, tmp_path, judge=stopped)
    with pytest.raises(InputError, match="a picture of the set"):
        train(recipe, selection, tmp_path, judge=unreadable)
    assert steps_of(tmp_path) == WHOLE[:3]
    train(recipe, selection, tmp_path, judge=measured)
    assert steps_of(tmp_path) == WHOLE


def test_one_whose_row_the_disk_refused_is_made_again(recipe, selection, tmp_path, monkeypatch):
    def full(*_):
        raise NO_SPACE

    recipe = evaluated(recipe, every=4)
    with pytest.raises(Interrupted):
        train(recipe, selection, tmp_path, judge=stopped)
    with monkeypatch.context() as patch, pytest.raises(InputError, match="space"):
        patch.setattr(journal.Journal, "write", full)
        train(recipe, selection, tmp_path, judge=measured)
    train(recipe, selection, tmp_path, judge=measured)
    assert steps_of(tmp_path) == WHOLE


def test_what_could_not_be_saved_is_not_pinned(recipe, selection, tmp_path, monkeypatch):
    honest, written = audit_log.write_segment, []

    def full_at_the_second(*arguments, **options):
        written.append(arguments)
        if len(written) > 1:
            raise NO_SPACE
        return honest(*arguments, **options)

    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(audit_log, "write_segment", full_at_the_second)
    with pytest.raises(InputError, match="space"):
        train(
            evaluated(recipe, every=2),
            selection,
            tmp_path,
            judge=lambda _: {"set top1": next(scores)},
        )
    checkpoints = tmp_path / "checkpoints"
    assert pinned(checkpoints) == 2 and steps_in(checkpoints) == [2]
