"""Evaluation while training: when, of what, and which model is the best so far."""

import errno
import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_towers import SMALL

from winnow.data.loader import load_batches
from winnow.models.towers import Towers
from winnow.objectives import ProgressiveSelfDistillation, contrastive_loss
from winnow.training import updates
from winnow.training.average import WeightAverage
from winnow.training.checkpoint_files import steps_in
from winnow.training.health import Finding, Health
from winnow.training.judging import Best
from winnow.training.metrics import MetricsFile, read_metrics
from winnow.training.norms import UpdateNorm
from winnow.training.run import train
from winnow.types import InputError


def read_best(out):
    return json.loads((out / "best.json").read_text())


def every(recipe, steps, **runtime):
    return replace(recipe, runtime=replace(recipe.runtime, evaluate_every=steps, **runtime))


def measures(out, name):
    return {row["step"]: row[name] for row in read_metrics(out) if name in row}


class Judge:
    """Gives the numbers of a list, and remembers what it was shown."""

    def __init__(self, numbers):
        self.numbers, self.seen = iter(numbers), []

    def __call__(self, towers):
        assert isinstance(towers, Towers) and not towers.training
        self.seen.append({n: w.detach().clone() for n, w in towers.clip.state_dict().items()})
        return {"set top1": next(self.numbers), "set top5": 0.5}


def test_every_n_steps_and_at_the_end_the_best_is_kept(recipe, selection, tmp_path):
    judge = Judge([0.1, 0.4, 0.3])
    train(every(recipe, 5), selection, tmp_path, judge=judge)
    assert measures(tmp_path, "evaluation/set top1") == {5: 0.1, 10: 0.4, 12: 0.3}
    assert read_best(tmp_path) == {"step": 10, "measure": "evaluation/set top1", "value": 0.4}
    kept = load_file(tmp_path / "best" / "open_clip_model.safetensors")
    shown = judge.seen[1]
    assert all(torch.equal(kept[name].reshape(-1), shown[name].reshape(-1)) for name in kept)
    last = load_file(tmp_path / "model" / "open_clip_model.safetensors")
    assert not all(torch.equal(kept[name], last[name]) for name in kept)


@pytest.mark.slow
def test_evaluating_changes_nothing_of_the_run(with_workers, selection, tmp_path):
    train(with_workers, selection, tmp_path / "plain")
    judged = every(with_workers, 2)
    train(judged, selection, tmp_path / "judged", judge=Judge([0.1] * 9), validation=selection)
    plain, other = (
        load_file(tmp_path / run / "model" / "open_clip_model.safetensors")
        for run in ("plain", "judged")
    )
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_average_is_what_is_judged(recipe, selection, tmp_path):
    judge = Judge([0.1])
    average = WeightAverage(decay=0.9)
    train(replace(recipe, average=average), selection, tmp_path, judge=judge)
    exported = load_file(tmp_path / "model" / "open_clip_model.safetensors")
    shown = judge.seen[-1]
    assert all(torch.equal(exported[n].reshape(-1), shown[n].reshape(-1)) for n in exported)
    plain = train(recipe, selection, tmp_path / "plain") / "open_clip_model.safetensors"
    assert not all(torch.equal(exported[n], w) for n, w in load_file(plain).items())


def test_a_resumed_run_knows_what_was_best(recipe, selection, tmp_path):
    """Judged 0.9 at step 3; asked to stop at 4; later measures are worse."""
    honest = updates.training_step

    def stops(*arguments, **options):
        if options["step"] == 4:
            raise InputError("enough")
        return honest(*arguments, **options)

    recipe = every(recipe, 3)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="enough"):
        patch.setattr(updates, "training_step", stops)
        train(recipe, selection, tmp_path, judge=Judge([0.9]))
    train(recipe, selection, tmp_path, judge=Judge([0.2, 0.3, 0.4]))
    assert measures(tmp_path, "evaluation/set top1") == {3: 0.9, 6: 0.2, 9: 0.3, 12: 0.4}
    assert read_best(tmp_path)["step"] == 3


def test_the_validation_loss_is_the_rules_loss_on_the_pictures_as_they_are(
    recipe, selection, tmp_path
):
    recipe = every(recipe, 12, validation_batches=2)
    train(recipe, selection, tmp_path, validation=selection)
    found = measures(tmp_path, "validation_loss")
    towers = Towers(SMALL).eval()
    weights = load_file(tmp_path / "model" / "open_clip_model.safetensors")
    towers.clip.load_state_dict(
        {n: w.reshape(towers.clip.state_dict()[n].shape) for n, w in weights.items()}
    )

    unit = torch.nn.functional.normalize
    losses = []
    for batch in load_batches(
        selection,
        selection.order(0),
        tokenize=towers.tokenize,
        image_size=towers.image_size,
        augmentation=towers.view,
        workers=0,
        batch_size=recipe.batch_size,
        first_step=0,
        last_step=2,
    ):
        with torch.no_grad():
            own = towers(batch.image_BCHW, batch.text_BT)
        loss = contrastive_loss(
            recipe.objective, unit(own.image_BD), unit(own.text_BD), own.scale, progress=1.0
        )
        losses.append(loss.total.item())
    assert found == {12: pytest.approx(sum(losses) / 2, rel=1e-6)}
    assert read_best(tmp_path)["measure"] == "validation_loss"


ROWS = [
    {"step": 1, "loss": 9.0},
    {"step": 2, "evaluation/a top1": 0.5, "evaluation/b top1": 0.1, "validation_loss": 2.0},
]


def test_the_best_is_chosen_by_the_first_measure_or_by_the_one_that_is_asked_for(tmp_path):
    better_a = {"evaluation/a top1": 0.6, "evaluation/b top1": 0.1, "validation_loss": 3.0}
    better_loss = {"evaluation/a top1": 0.4, "evaluation/b top1": 0.1, "validation_loss": 1.0}
    for by, row, is_best in (
        (None, better_a, True),
        (None, better_loss, False),
        ("a top1", better_a, True),
        ("b top1", better_a, False),
        ("validation_loss", better_a, False),
        ("validation_loss", better_loss, True),
    ):
        assert Best(tmp_path, ROWS, by=by).is_best(row) is is_best


def test_a_measure_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match="'c top1' is not measured; there are: a top1, b top1"):
        Best(tmp_path, ROWS, by="c top1")


def test_nan_is_never_the_best(tmp_path):
    seen = Best(tmp_path, [], by=None)
    values = (math.nan, 0.5, math.nan, 0.1, 0.6)
    found = [seen.is_best({"evaluation/x": value}) for value in values]
    assert found == [False, True, False, False, True]


def test_what_fails_while_judging_loses_no_step(recipe, selection, tmp_path):
    def judge(towers):
        raise InputError("a test picture is gone")

    with pytest.raises(InputError, match="a test picture is gone"):
        train(every(recipe, 5, checkpoint_every=100), selection, tmp_path, judge=judge)
    assert steps_in(tmp_path / "checkpoints") == [5]
    train(every(recipe, 5, checkpoint_every=100), selection, tmp_path, judge=Judge([0.1, 0.2, 0.3]))
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 13))
    # The one that failed is made first.
    assert measures(tmp_path, "evaluation/set top1") == {5: 0.1, 10: 0.2, 12: 0.3}


def test_the_best_checkpoint_stays(recipe, selection, tmp_path):
    judged = every(recipe, 2, keep_checkpoints=1, checkpoint_every=4)
    train(judged, selection, tmp_path, judge=Judge([0.1, 0.9, 0.2, 0.3, 0.4, 0.5]))
    assert steps_in(tmp_path / "checkpoints") == [4, 12]


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"best_by": "x"}, "--runtime.best-by is set and there is nothing to evaluate on"),
        ({"evaluate_every": 3}, "--runtime.evaluate-every is set and there is nothing"),
    ],
)
def test_evaluating_on_nothing_is_refused(runtime, message, recipe, selection, tmp_path):
    recipe = replace(recipe, runtime=replace(recipe.runtime, **runtime))
    with pytest.raises(InputError, match=message):
        train(recipe, selection, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_norms_are_of_the_way_and_of_the_weights():
    layer = torch.nn.Linear(3, 2, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    norm = UpdateNorm(layer)
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert norm.row() == pytest.approx({"update_norm": 6**0.5, "weight_norm": 54**0.5})


def test_what_a_step_is_told(recipe, selection, tmp_path, monkeypatch):
    """Progress, a teacher, chance of its own, a new optimizer; the average after every step."""
    told, taken, honest = [], [], updates.training_step

    def step(towers, optimizer, batch, **options):
        told.append((options["progress"], options["teacher"] is not None, torch.initial_seed()))
        if options["step"] == 0:
            assert not optimizer.state
        return honest(towers, optimizer, batch, **options)

    monkeypatch.setattr(updates, "training_step", step)
    monkeypatch.setattr(updates, "update_average", lambda *_, step: taken.append(step))
    distilling = replace(
        recipe,
        objective=ProgressiveSelfDistillation(),
        average=WeightAverage(),
        teacher="average",
        steps=3,
    )
    train(distilling, selection, tmp_path)
    assert [one[:2] for one in told] == [(0.0, True), (0.5, True), (1.0, True)]
    assert len({one[2] for one in told}) == 3 and taken == [1, 2, 3]


def test_a_health_rule_ends_a_run_saved(recipe, selection, tmp_path, monkeypatch):
    finding = Finding(rule="collapsed", step=1, sentence="it is ill", begins=True)
    monkeypatch.setattr(Health, "stops", lambda self, found: finding)
    with pytest.raises(InputError, match="it is ill"):
        train(recipe, selection, tmp_path)
    assert steps_in(tmp_path / "checkpoints") == [1]


def test_a_disk_that_takes_no_rows_ends_a_run(recipe, selection, tmp_path, monkeypatch):
    honest = MetricsFile.append

    def full(self, step, row):
        if step == 7:
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")
        honest(self, step, row)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(MetricsFile, "append", full)
        train(recipe, selection, tmp_path / "run")
    assert steps_in(tmp_path / "run" / "checkpoints") == [3, 6]
    train(recipe, selection, tmp_path / "run")
    train(recipe, selection, tmp_path / "whole")
    found, wanted = (
        load_file(tmp_path / run / "model" / "open_clip_model.safetensors")
        for run in ("run", "whole")
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
