"""Each rule on rows where it must speak and where it must not; and on runs that were healthy."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from winnow.config import as_dict, from_dict
from winnow.objectives import (
    HardNegativeNCE,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
    contrastive_loss,
)
from winnow.training.health import Health
from winnow.training.health_rules import RULES, HealthConfig, RuleName
from winnow.training.metrics import MetricsFile, read_metrics
from winnow.types import InputError

N = 256
CHANCE = math.log(N)
HEALTHY = {
    name: [
        json.loads(line)
        for line in (Path(__file__).parent / f"healthy_{name}.jsonl").read_text().splitlines()
    ]
    for name in ("clip", "psd_concepts")
}
"""Rows of the demo's runs, batches of 256, to four digits."""


def rows(count, *, every=10, **columns):
    """`count` rows; a column is a number, or a function of the step."""
    steps = range(every, every * count + 1, every)
    return [
        {"step": step}
        | {name: value(step) if callable(value) else value for name, value in columns.items()}
        for step in steps
    ]


def found(given, config=None, *, batch_size=N):
    """(rule, step, whether it begins) of all that is said of the rows."""
    health = Health(config or HealthConfig(), batch_size=batch_size)
    findings = [finding for row in given for finding in health.see(row)]
    assert all(finding.sentence.startswith(f"step {finding.step:,}: ") for finding in findings)
    assert not [finding for finding in findings if "\n" in finding.sentence]
    return [(finding.rule, finding.step, finding.begins) for finding in findings]


def sentence(given, rule, *, batch_size=N):
    health = Health(HealthConfig(), batch_size=batch_size)
    said = [f.sentence for row in given for f in health.see(row) if f.rule == rule]
    return said[0]


def test_every_rule_has_a_judge():
    assert set(RULES) == set(get_args(RuleName))


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_healthy_runs(name):
    assert found(HEALTHY[name]) == []
    # Not even without patience, but that these runs begin at chance.
    assert {rule for rule, _, _ in found(HEALTHY[name], HealthConfig(patience_steps=0))} <= {
        "stuck-at-chance"
    }


@pytest.mark.parametrize("name", HEALTHY)
def test_the_thresholds_are_as_far_from_healthy_runs_as_they_say(name):
    assert found(HEALTHY[name], HealthConfig(falling_scale=0.97, spike_factor=2.2)) == []


def test_rows_without_numbers_are_no_findings():
    assert found(rows(200)) == []
    assert found([*rows(5, loss=1.0), *[{"step": 60}], {"step": 70, "source/a/loss": 3.0}]) == []


@pytest.mark.parametrize("name", ["loss", "loss_heads", "scale", "bias", "validation_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_named(name, value):
    given = [*rows(3, loss=1.0), {"step": 40, "loss": 1.0, name: value}]
    assert found(given) == [("non-finite", 40, True)]
    assert f"step 40: {name} is not finite" in sentence(given, "non-finite")


def test_a_diagnostic_may_have_no_value():
    assert found([{"step": 1, "loss": 1.0, "target_entropy": math.nan}]) == []


def test_fp16_may_overflow_a_few_times():
    broken = {"gradient_norm": math.inf}
    assert found(rows(1, **broken)) == [("non-finite", 10, True)]
    assert found(rows(4, **broken, skipped_steps=lambda step: step)) == []
    assert found(rows(9, **broken, skipped_steps=1)) == [("non-finite", 50, True)]


def warm(step):
    """A learning rate that rises for 100 steps and then falls."""
    return min(step, 100) - step / 1000


def test_a_loss_at_chance_is_said_after_the_patience():
    given = rows(100, loss=CHANCE, learning_rate=warm)
    assert found(given) == [("stuck-at-chance", 600, True)]
    assert "the loss is 5.545, and guessing among 256 pairs gives 5.545" in sentence(
        given, "stuck-at-chance"
    )
    assert found(given, HealthConfig(patience_steps=200)) == [("stuck-at-chance", 300, True)]
    assert found(given[:59]) == []


def test_a_loss_that_falls_is_not_stuck():
    def falling(step):
        return CHANCE if step < 300 else 0.97 * CHANCE

    assert found(rows(100, loss=falling, learning_rate=warm)) == []


def test_a_loss_above_chance_is_stuck_unless_pairs_rank_first():
    ranks = {"rank_1_text_to_image": 0.004}
    given = rows(100, loss=6.6, learning_rate=warm, rank_1_image_to_text=0.004, **ranks)
    assert found(given) == [("stuck-at-chance", 600, True)]
    # As a loss over hard negatives or of sigmoids may be.
    ranks = {"rank_1_text_to_image": 0.05}
    assert found(rows(100, loss=6.6, learning_rate=warm, rank_1_image_to_text=0.03, **ranks)) == []


def test_the_contrastive_part_is_what_is_at_chance():
    given = rows(100, loss=12.0, loss_contrastive=0.5 * CHANCE, learning_rate=warm)
    assert found(given) == []
    given = rows(100, loss=1.0, loss_contrastive=CHANCE, learning_rate=warm)
    assert [rule for rule, _, _ in found(given)] == ["stuck-at-chance"]


@pytest.mark.parametrize(
    ("rule", "at_chance"),
    [
        (InfoNCE(), CHANCE),
        (ProgressiveSelfDistillation(initial_share=0.5, final_share=0.5), CHANCE),
        (HardNegativeNCE(beta=0.5), CHANCE),
        (HardNegativeNCE(alpha=0.5), math.log(N - 0.5)),
        (SigLIP(), CHANCE + (N - 1) * math.log(N / (N - 1))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_objective_at_chance_is_below_the_rule(rule, at_chance):
    same_ND = torch.nn.functional.normalize(torch.ones(N, 4, dtype=torch.float64), dim=1)
    # The bias makes the constant answer of a yes-or-no question the share of yeses, 1 / N.
    bias = torch.tensor([-10 - math.log(N - 1)], dtype=torch.float64)
    scale = torch.tensor([10.0], dtype=torch.float64)
    loss = contrastive_loss(rule, same_ND, same_ND, scale, bias=bias).total.item()
    assert loss == pytest.approx(at_chance, rel=1e-9)
    given = rows(100, loss=loss, learning_rate=warm)
    assert found(given) == [("stuck-at-chance", 600, True)]


def test_a_batch_of_one_has_no_chance_to_be_at():
    assert found(rows(100, loss=0.0), batch_size=1) == []


def test_a_scale_at_its_clamp_for_long_is_said_and_when_it_leaves():
    def scale(step):
        return 100.0 if 200 <= step < 1500 else 50.0

    given = rows(200, scale=scale, learning_rate=warm)
    assert found(given) == [("scale-at-clamp", 700, True), ("scale-at-clamp", 1590, False)]
    assert "at its clamp of 100 since step 200" in sentence(given, "scale-at-clamp")
    # Also with a row for every step, of which fewer are remembered.
    given = rows(800, every=1, scale=100.0)
    assert found(given) == [("scale-at-clamp", 501, True)]


def test_a_scale_that_touches_its_clamp_is_not_at_it():
    given = rows(200, scale=lambda step: 100.0 if step % 400 else 99.0)
    assert found(given) == []


def test_a_scale_that_falls_is_said():
    given = rows(60, scale=lambda step: 14.3 - 0.01 * step, learning_rate=warm)
    # The median of ten rows lies 45 steps back; 0.7 x 14.2 is passed at step 436.
    assert found(given) == [("scale-falling", 490, True)]
    assert "fell from 14.2 to 9.9" in sentence(given, "scale-falling")
    assert found(rows(60, scale=lambda step: 14.3 - 0.005 * step)) == []


def test_a_scale_that_falls_while_warming_up_is_not_said():
    assert found(rows(60, scale=lambda step: 15 - step / 50, learning_rate=lambda s: s)) == []


def test_a_spike_is_said_once_and_once_that_it_is_over():
    def norm(step):
        return 5.1 if step in (500, 530) else 0.5

    given = rows(100, gradient_norm=norm)
    assert found(given) == [("gradient-spikes", 500, True), ("gradient-spikes", 630, False)]
    assert "norm is 5.1, 10 times the 0.5" in sentence(given, "gradient-spikes")
    assert found(rows(100, gradient_norm=lambda s: 4.9 if s == 500 else 0.5)) == []


def test_no_spike_is_seen_before_there_is_a_usual_norm():
    assert found(rows(30, gradient_norm=lambda step: 50.0 if step == 200 else 0.5)) == []
    assert found(rows(30, gradient_norm=lambda step: 50.0 if step == 210 else 0.5)) == [
        ("gradient-spikes", 210, True)
    ]


def test_a_run_that_waits_for_data_is_said():
    def share(step):
        return 0.45 if 300 <= step < 800 else 0.05

    given = rows(120, data_wait_share=share, samples_per_second=310.0)
    # Five of ten rows at 0.45 make a median of 0.25; six are enough.
    assert found(given) == [("waiting-for-data", 350, True), ("waiting-for-data", 930, False)]
    words = sentence(given, "waiting-for-data")
    assert "waits for data 45% of the time at 310 samples/s: raise --runtime.workers" in words
    assert found(rows(120, data_wait_share=0.29)) == []


def test_a_start_that_waits_is_not_said():
    assert found(rows(60, data_wait_share=lambda step: 0.9 if step <= 40 else 0.01)) == []


@pytest.mark.parametrize("side", ["image", "text"])
def test_embeddings_that_are_all_alike_are_said(side):
    given = rows(100, learning_rate=warm, **{f"{side}_similarity": 0.97, "loss": 1.0})
    assert found(given) == [("collapsed", 600, True)]
    assert f"{side}s 0.97" in sentence(given, "collapsed")
    assert found(rows(100, learning_rate=warm, **{f"{side}_similarity": 0.89})) == []


def test_embeddings_start_alike():
    def cosine(step):
        return 0.99 if step < 400 else 0.3

    assert found(rows(100, learning_rate=warm, image_similarity=cosine)) == []


def evaluated(validation, training, *, every=100):
    given = rows(100, loss=training)
    for row in given:
        if row["step"] % every == 0:
            row["validation_loss"] = validation(row["step"])
    return given


def test_a_validation_loss_that_parts_from_training_is_said():
    def validation(step):
        return 2.0 + abs(step - 400) / 1000

    given = evaluated(validation, lambda step: 3 - step / 1000)
    # 5 % above 2.0 is exceeded from step 600 on; the second time running is at 700.
    assert found(given) == [("overfitting", 700, True)]
    assert sentence(given, "overfitting").startswith(
        "step 700: the validation loss is 2.300, its best was 2.000 at step 400, while the "
        "training loss went from 2.645 to 2.345"
    )


@pytest.mark.parametrize(
    ("validation", "training"),
    [
        pytest.param(lambda s: 3 - s / 1000, lambda s: 3 - s / 1000, id="both fall"),
        pytest.param(lambda s: 2 + s / 1000, lambda s: 2 + s / 1000, id="both rise"),
        pytest.param(lambda s: 2.09, lambda s: 3 - s / 1000, id="flat"),
        pytest.param(lambda s: 2.5 if s % 200 else 2.0, lambda s: 3 - s / 1000, id="up and down"),
    ],
)
def test_a_validation_loss_that_goes_along_is_not_said(validation, training):
    assert found(evaluated(validation, training)) == []


def test_overfitting_is_over_with_a_new_best():
    given = evaluated(lambda s: 1.9 if s >= 900 else 2 + s / 1000, lambda s: 3 - s / 1000)
    assert found(given) == [("overfitting", 400, True), ("overfitting", 990, False)]


def test_resuming_says_nothing_twice_and_forgets_nothing(tmp_path):
    given = rows(
        120,
        loss=CHANCE,
        learning_rate=warm,
        scale=lambda step: 14.3 - 0.005 * step,
        gradient_norm=lambda step: math.inf if step == 400 else 0.5 + (step == 900) * 9,
        data_wait_share=lambda step: 0.123456789012345678 * (step // 300),
    )
    whole = found(given)
    assert len(whole) > 5
    for at in range(0, 1200, 170):
        with MetricsFile(tmp_path, resumed_at=0) as file:
            for row in given:
                if row["step"] <= at:
                    file.append(row["step"], row)
        before = read_metrics(tmp_path)
        health = Health(HealthConfig(), batch_size=N, seen=before)
        rest = [f for row in given[len(before) :] for f in health.see(row)]
        assert [(f.rule, f.step, f.begins) for f in rest] == [f for f in whole if f[1] > at]


def test_only_what_was_asked_for_stops_the_run():
    config = HealthConfig(stop_on=("collapsed", "scale-falling"))
    health = Health(config, batch_size=N)
    given = rows(60, scale=lambda step: 14.3 - 0.01 * step, data_wait_share=0.5)
    stopping = [stop for row in given if (stop := health.stops(health.see(row)))]
    assert [(stop.rule, stop.step) for stop in stopping] == [("scale-falling", 490)]


def test_what_is_over_stops_nothing():
    health = Health(HealthConfig(stop_on=("gradient-spikes",)), batch_size=N)
    given = rows(60, gradient_norm=lambda step: 9.0 if step == 300 else 0.5)
    findings = [finding for row in given for finding in health.see(row)]
    assert [finding.begins for finding in findings] == [True, False]
    assert health.stops(findings[1:]) is None
    assert findings[1].row() == {
        "rule": "gradient-spikes",
        "event": "ended",
        "sentence": "step 400: the gradient's norm is as usual again, 100 steps after the warning",
    }


def test_the_configuration_survives_its_json():
    config = HealthConfig(stop_on=("non-finite", "collapsed"), patience_steps=9)
    assert from_dict(HealthConfig, json.loads(json.dumps(as_dict(config))), where="x") == config
    with pytest.raises(InputError, match="stop_on"):
        from_dict(HealthConfig, {"stop_on": ["stuck"]}, where="x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"falling_scale": 1.0},
        {"waiting_share": 0.0},
        {"alike_cosine": 1.5},
        {"patience_steps": -1},
        {"validation_rise": 0.0},
        {"spike_factor": 1.0},
        {"alike_cosine": math.nan},
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(HealthConfig(), **wrong)
