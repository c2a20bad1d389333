"""The running average of the weights, by hand, sharded and as a teacher."""

import copy

import pytest
import torch
from small_towers import SMALL
from test_step import run_step, towers_and_batch

from winnow.models.towers import Towers
from winnow.objectives import ProgressiveSelfDistillation, Teacher, contrastive_loss
from winnow.training.average import WeightAverage, averaged_copy, update_average
from winnow.types import InputError


def moved(towers, by):
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(by)


@pytest.mark.parametrize("every", [1, 2])
def test_the_average_is_the_literal_one(every):
    config = WeightAverage(decay=0.5, every=every)
    towers = Towers(SMALL).double()
    average = averaged_copy(towers)
    expected = {name: p.detach().clone() for name, p in towers.named_parameters()}
    updates = 0
    for step in range(1, 7):
        moved(towers, 0.1 * step)
        update_average(average, towers, config, step=step)
        if step % every == 0:
            decay = min(0.5, (1 + updates) / (10 + updates))
            updates += 1
            for name, parameter in towers.named_parameters():
                expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    for name, parameter in average.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-12, atol=1e-12)


def test_the_average_is_never_trained_and_has_no_heads():
    towers = Towers(SMALL, heads=torch.nn.Linear(16, 3))
    average = averaged_copy(towers)
    assert towers.heads is not None and average.heads is None
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not average.training and towers.training


def test_its_first_updates_forget_the_random_start():
    config = WeightAverage(decay=0.999)
    assert [round(config.decay_at(n), 4) for n in (0, 1, 8, 10_000)] == [0.1, 0.1818, 0.5, 0.999]


@pytest.mark.parametrize("change", [{"decay": 1.0}, {"decay": -0.1}, {"every": 0}])
def test_what_is_no_average_is_refused(change):
    with pytest.raises(InputError, match="WeightAverage"):
        WeightAverage(**change)


def test_a_teacher_in_the_step_is_the_teacher_of_the_loss():
    """Soft targets from another model, in one pass and in micro-batches, as told by hand."""
    rule = ProgressiveSelfDistillation(final_share=0.5)
    for micro_batches in (1, 2):
        towers, batch = towers_and_batch(8)
        teacher = averaged_copy(Towers(SMALL))
        before = copy.deepcopy(towers)
        report = run_step(
            towers,
            batch,
            torch.optim.SGD(towers.parameters(), lr=0.0),
            rule=rule,
            micro_batches=micro_batches,
            progress=1.0,
            teacher=teacher,
        )
        own = before(batch.image_BCHW, batch.text_BT)
        with torch.no_grad():
            theirs = teacher(batch.image_BCHW, batch.text_BT)
        unit = torch.nn.functional.normalize
        expected = contrastive_loss(
            rule,
            unit(own.image_BD),
            unit(own.text_BD),
            own.scale,
            teacher=Teacher(
                image_BD=unit(theirs.image_BD), text_BD=unit(theirs.text_BD), scale=theirs.scale
            ),
            progress=1.0,
        )
        itself = contrastive_loss(
            rule, unit(own.image_BD), unit(own.text_BD), own.scale, progress=1.0
        )
        assert report.loss == pytest.approx(expected.total.item(), rel=1e-5)
        assert report.loss != pytest.approx(itself.total.item(), rel=1e-4)
