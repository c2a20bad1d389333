import dataclasses
import math

import numpy as np
import pytest
from result_rows import measured

from winnow.evaluation.robustness import (
    PUBLISHED,
    Accuracy,
    Line,
    effective_robustness,
    fit_line,
    fitted_shift,
    robustness_rows,
    same_set,
)
from winnow.types import InputError

LINES = {shift.name: shift.line for shift in PUBLISHED}


def result(task, value, *, model="m", **others):
    return measured(model, task=task, value=value, **others)


@pytest.mark.parametrize(
    ("shift", "val", "shifted", "points"),
    [
        ("imagenetv2", 59.81, 52.53, 5.5),  # OpenAI CLIP RN50
        ("imagenetv2", 63.30, 55.77, 5.4),  # OpenAI CLIP ViT-B/32
        ("imagenet_sketch", 63.30, 42.37, 28.0),
    ],
)
def test_the_two_clip_models_of_the_literature(shift, val, shifted, points):
    accuracies = Accuracy(val / 100, 50_000), Accuracy(shifted / 100, 10_000)
    found = effective_robustness(*accuracies, LINES[shift])
    assert 100 * found.value == pytest.approx(points, abs=0.05)
    assert not found.extrapolated
    assert found.value == pytest.approx(shifted / 100 - found.expected)


def test_the_published_lines_pass_where_they_should():
    """Literal formula; a model of 75 % accuracy is expected at 62.7 % on ImageNetV2."""
    z = 0.9114 * math.log(0.75 / 0.25) - 0.4813
    expected = LINES["imagenetv2"].expected(Accuracy(0.75, 50_000))
    assert expected == pytest.approx(math.exp(z) / (1 + math.exp(z)))
    assert expected == pytest.approx(0.627, abs=5e-4)


def test_the_error_is_what_drawing_both_sets_anew_gives():
    line, n_in, n_shift = LINES["imagenet_sketch"], 2_000, 1_000
    random = np.random.default_rng(0)
    drawn = zip(random.binomial(n_in, 0.6, 2000), random.binomial(n_shift, 0.4, 2000), strict=True)
    values = [
        effective_robustness(Accuracy(x / n_in, n_in), Accuracy(y / n_shift, n_shift), line).value
        for x, y in drawn
    ]
    found = effective_robustness(Accuracy(0.6, n_in), Accuracy(0.4, n_shift), line)
    assert found.standard_error == pytest.approx(np.std(values), rel=0.05)
    measure = found.measure(n_shift)
    covered = np.mean([measure.low <= value <= measure.high for value in values])
    assert covered == pytest.approx(0.95, abs=0.015)
    assert (measure.metric, measure.interval, measure.n) == (
        "effective_robustness",
        "delta method",
        1000,
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_accuracies_of_none_and_all_have_a_logit_half_a_sample_away(value):
    accuracy = Accuracy(value, 199)
    assert accuracy.inside == pytest.approx(abs(value - 0.5 / 200))
    found = effective_robustness(accuracy, accuracy, LINES["objectnet"])
    assert math.isfinite(found.value)
    assert 0 < found.standard_error < 0.1
    assert found.extrapolated


def test_beyond_the_fitted_range_is_extrapolated():
    line = LINES["imagenetv2"]
    assert not line.is_extrapolated(Accuracy(0.57, 1000))
    assert not line.is_extrapolated(Accuracy(0.85, 1000))
    assert line.is_extrapolated(Accuracy(0.569, 1000))
    assert line.is_extrapolated(Accuracy(0.851, 1000))


def test_a_fitted_line_is_the_one_that_the_points_lie_on():
    truth = Line(slope=1.3, intercept=-0.7, r_squared=1, n=0, low=0, high=1, scatter=0, source="")
    xs = [Accuracy(x, 500) for x in (0.2, 0.35, 0.5, 0.8)]
    fitted = fit_line([(x, Accuracy(truth.expected(x), 500)) for x in xs], source="here")
    assert (fitted.slope, fitted.intercept) == pytest.approx((1.3, -0.7))
    assert fitted.r_squared == pytest.approx(1.0)
    assert fitted.scatter == pytest.approx(0.0, abs=1e-9)
    assert (fitted.n, fitted.low, fitted.high, fitted.source) == (4, 0.2, 0.8, "here")


def test_a_fitted_line_is_least_squares_on_logits():
    random = np.random.default_rng(2)
    x, y = random.uniform(0.1, 0.9, (2, 12))
    fitted = fit_line(
        [(Accuracy(a, 100), Accuracy(b, 100)) for a, b in zip(x, y, strict=True)], source=""
    )
    logit_x, logit_y = np.log(x / (1 - x)), np.log(y / (1 - y))
    slope, intercept = np.polyfit(logit_x, logit_y, 1)
    assert (fitted.slope, fitted.intercept) == pytest.approx((slope, intercept))
    assert fitted.r_squared == pytest.approx(np.corrcoef(logit_x, logit_y)[0, 1] ** 2)
    expected = 1 / (1 + np.exp(-(slope * logit_x + intercept)))
    assert fitted.scatter == pytest.approx(math.sqrt(((y - expected) ** 2).sum() / 10))


def test_the_error_of_a_fitted_line_is_that_of_its_regression():
    """The covariance of slope and intercept is s² (XᵀX)⁻¹; t of one degree of freedom is 12.7."""
    points = [(0.5, 0.4), (0.6, 0.52), (0.8, 0.7)]
    line = fit_line([(Accuracy(x, 900), Accuracy(y, 900)) for x, y in points], source="")
    x, y = np.log(np.array(points) / (1 - np.array(points))).T
    design = np.stack([x, np.ones(3)], axis=1)
    residual = y - design @ [line.slope, line.intercept]
    covariance = (residual @ residual) * np.linalg.inv(design.T @ design)
    at = np.array([math.log(0.3 / 0.7), 1])
    model = Accuracy(0.3, 900), Accuracy(0.25, 900)
    found = effective_robustness(*model, line)
    fitted = (found.expected * (1 - found.expected)) ** 2 * (at @ covariance @ at)
    alone = effective_robustness(*model, dataclasses.replace(line, fit=None))
    assert found.value == alone.value
    assert found.standard_error**2 == pytest.approx(alone.standard_error**2 + fitted)
    assert found.half_width**2 == pytest.approx(alone.half_width**2 + 12.7062**2 * fitted)
    assert alone.half_width == pytest.approx(1.96 * alone.standard_error, rel=1e-4)


@pytest.mark.parametrize(("baselines", "scatter"), [(3, 0.05), (5, 0.05), (10, 0.0)])
def test_intervals_against_a_fitted_line_hold_the_truth(baselines, scatter):
    """ρ is 0.03 against the line that the baselines scatter around; x is beyond them."""
    random = np.random.default_rng(3)

    def measured_share(share):
        return Accuracy(float(random.binomial(10_000, share) / 10_000), 10_000)

    def along(x):
        return 1 / (1 + np.exp(0.5 - 0.9 * np.log(x / (1 - x)) - scatter * random.normal()))

    expected, covered = 1 / (1 + math.exp(0.5 - 0.9 * math.log(0.45 / 0.55))), 0
    for _ in range(400):
        share = random.uniform(0.5, 0.8, baselines)
        points = [(measured_share(x), measured_share(along(x))) for x in share]
        line = fit_line(points, source="")
        found = effective_robustness(measured_share(0.45), measured_share(expected + 0.03), line)
        covered += abs(found.value - 0.03) <= found.half_width
    assert 0.93 <= covered / 400 <= 0.99


def test_a_line_through_two_models_has_no_error_that_is_known():
    points = [(Accuracy(x, 500), Accuracy(x - 0.1, 500)) for x in (0.3, 0.6)]
    found = effective_robustness(
        Accuracy(0.5, 500), Accuracy(0.45, 500), fit_line(points, source="")
    )
    assert math.isfinite(found.value)
    assert (found.standard_error, found.half_width) == (math.inf, math.inf)


def test_a_line_needs_two_different_accuracies():
    point = (Accuracy(0.5, 100), Accuracy(0.4, 100))
    with pytest.raises(InputError, match="at least 2 different accuracies, and there is only 1"):
        fit_line([point, point], source="")
    flat = fit_line([point, (Accuracy(0.6, 100), Accuracy(0.4, 100))], source="")
    assert (flat.slope, flat.r_squared, flat.scatter) == (pytest.approx(0.0), 0.0, None)


def test_each_model_meets_every_line_for_which_it_has_both_accuracies():
    subset = {"protocol": "robustness", "metric": "accuracy_on_subset", "method": "imagenet-r"}
    results = [
        result("wds_imagenet1k", 0.6),
        result("wds_imagenet1k", 0.9, metric="top5"),
        result("wds_imagenet1k", 0.8, **subset),
        result("wds_imagenetv2", 0.5, n=500),
        result("wds_imagenet-r", 0.7, num_classes=200),
        result("wds_imagenet-a", 0.3),  # no accuracy on its classes: no line to meet
        result("wds_imagenet1k", 0.4, model="other"),
        result("wds_imagenet_sketch", 0.2, model="third"),
    ]
    rows = robustness_rows(results)
    assert [(row.model, row.shift.name) for row in rows] == [
        ("m", "imagenetv2"),
        ("m", "imagenet-r"),
    ]
    assert rows[0].accuracy_in == (0.6, 1000)
    assert rows[0].accuracy_shift == (0.5, 500)
    assert rows[1].accuracy_in == (0.8, 1000)
    assert rows[1].shift.axis == "imagenet1k, classes of imagenet-r"


def test_numbers_of_other_weights_are_not_paired():
    results = [result("imagenet1k", 0.6), result("imagenetv2", 0.5)]
    assert len(robustness_rows(results)) == 1
    results[1] = dataclasses.replace(results[1], model_fingerprint="trained on")
    assert robustness_rows(results) == []


def test_numbers_of_another_precision_are_not_paired():
    pairs = [
        result(task, value, precision=precision)
        for precision, x, y in (("fp32", 0.6, 0.5), ("bf16", 0.4, 0.2))
        for task, value in (("imagenet1k", x), ("imagenetv2", y))
    ]
    rows = robustness_rows(pairs)
    assert [(row.accuracy_in.value, row.accuracy_shift.value) for row in rows] == [
        (0.6, 0.5),
        (0.4, 0.2),
    ]
    assert robustness_rows([pairs[0], pairs[3]]) == []


def test_a_user_s_baselines_define_the_line():
    baselines = [
        result(task, value, model=model)
        for model, x, y in (("a", 0.3, 0.2), ("b", 0.6, 0.5))
        for task, value in (("photos", x), ("sketches", y))
    ]
    shift = fitted_shift("photos", "sketches", baselines)
    assert shift.line.n == 2
    assert "only 2 baseline models" in shift.note
    on_it = [result("photos", 0.6, model="new"), result("sketches", 0.55, model="new")]
    (row,) = robustness_rows(on_it, [shift])
    assert row.robustness.value == pytest.approx(0.05)
    assert not row.robustness.extrapolated
    baselines += [result("photos", 0.4, model="c"), result("sketches", 0.3, model="c")]
    assert fitted_shift("photos", "sketches", baselines).note == ""
    with pytest.raises(InputError, match="no baseline model was measured on both photos and icons"):
        fitted_shift("photos", "icons", baselines)


def test_names_of_one_set_are_known_however_they_are_written():
    assert same_set("wds_imagenet-r", "ImageNet-R")
    assert same_set("wds_imagenet1k", "imagenet")
    assert same_set("imagenet_sketch", "wds_imagenet_sketch")
    assert not same_set("imagenet-r", "imagenet-a")
