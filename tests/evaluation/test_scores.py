import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from winnow.evaluation.scores import (
    class_scores,
    map_11_point,
    mean_average_precision,
    of_draws,
    roc_auc,
)


def multi_label(seed, *, n=300, classes=7, levels=None):
    """Scores that tell something of random labels; `levels` rounds them, so that many are equal."""
    rng = np.random.default_rng(seed)
    label = rng.random((n, classes)) < rng.uniform(0.02, 0.5, size=classes)
    score = rng.normal(size=(n, classes)) + label
    return np.round(score * levels) / levels if levels else score, label


@pytest.mark.parametrize("levels", [None, 2])
def test_average_precision_equals_scikit_learn_s(levels):
    score, label = multi_label(0, levels=levels)
    expected = average_precision_score(label, score, average="macro")
    assert mean_average_precision(score, label).value == pytest.approx(expected, abs=1e-12)


def literal_11_point(score, positive):
    """Everingham et al. 2010, 4.2, in loops over every threshold."""
    points = []
    for threshold in set(score.tolist()):
        shown = score >= threshold
        points.append((positive[shown].sum(), positive.sum(), positive[shown].mean()))
    return np.mean([max(p for hit, total, p in points if 10 * hit >= r * total) for r in range(11)])


@pytest.mark.parametrize("levels", [None, 2])
def test_eleven_points_equal_the_literal_loops(levels):
    score, label = multi_label(1, n=90, levels=levels)
    expected = np.mean([literal_11_point(score[:, k], label[:, k]) for k in range(7)])
    assert map_11_point(score, label).value == pytest.approx(expected, abs=1e-12)


def test_a_class_without_a_positive_is_left_out():
    score, label = multi_label(2)
    label[:, 3] = False
    kept = [0, 1, 2, 4, 5, 6]
    for metric in (mean_average_precision, map_11_point):
        whole, without = metric(score, label), metric(score[:, kept], label[:, kept])
        assert (whole.value, whole.n) == (without.value, 6)
    with pytest.raises(ValueError, match="no class"):
        mean_average_precision(score, np.zeros_like(label))


def test_chance_is_the_mean_over_all_orders():
    label = np.array([True, False, False, True, False])
    values = [
        average_precision_score(label, -np.array(order))
        for order in itertools.permutations(range(5))
    ]
    measure = mean_average_precision(np.arange(5.0)[:, None], label[:, None])
    assert measure.chance == pytest.approx(np.mean(values))


def test_chance_of_eleven_points_is_the_mean_share_of_positives():
    """5 and 20 of 30; a class without a positive does not count."""
    label = np.zeros((30, 3), dtype=bool)
    label[:5, 0] = label[5:25, 1] = True
    assert map_11_point(np.arange(90.0).reshape(30, 3), label).chance == pytest.approx(5 / 12)


def test_a_constant_model_has_the_share_of_positives_and_no_area():
    label = np.zeros((40, 1), dtype=bool)
    label[:10] = True
    same = np.ones((40, 1))
    assert mean_average_precision(same, label).value == 0.25
    assert map_11_point(same, label).value == 0.25
    assert roc_auc(same[:, 0], label[:, 0]).value == 0.5


@pytest.mark.parametrize("levels", [None, 2])
def test_the_area_equals_scikit_learn_s(levels):
    score, label = multi_label(3, levels=levels)
    expected = roc_auc_score(label[:, 2], score[:, 2])
    measure = roc_auc(score[:, 2], label[:, 2])
    assert measure.value == pytest.approx(expected, abs=1e-12)
    assert (measure.n, measure.chance) == (300, 0.5)


def test_the_area_needs_both_kinds():
    with pytest.raises(ValueError, match="negatives"):
        roc_auc(np.arange(3.0), np.ones(3, dtype=bool))


def literal_errors(metric, score, label, *, resamples=400):
    rng = np.random.default_rng(9)
    drawn = [rng.integers(len(score), size=len(score)) for _ in range(resamples)]
    return np.array([metric(label[rows], score[rows]) for rows in drawn])


def test_the_intervals_are_those_of_drawn_pictures():
    score, label = multi_label(4, n=150, classes=3)

    def macro(label, score):
        return average_precision_score(label, score, average="macro")

    cases = [
        (mean_average_precision(score, label), literal_errors(macro, score, label)),
        (
            roc_auc(score[:, 0], label[:, 0]),
            literal_errors(roc_auc_score, score[:, 0], label[:, 0]),
        ),
    ]
    for measure, literal in cases:
        assert measure.standard_error == pytest.approx(literal.std(), rel=0.15)
        assert measure.low == pytest.approx(np.quantile(literal, 0.025), abs=0.03)
        assert measure.high == pytest.approx(np.quantile(literal, 0.975), abs=0.03)
        assert measure.interval == "bootstrap"


def test_a_model_without_a_mistake_has_an_interval_with_a_width():
    """Wilson's over positives: 5 and 20 are as sure as 4 / (1/5 + 1/20) = 16; ROC-AUC has 5."""
    label = np.zeros((30, 2), dtype=bool)
    label[:5, 0] = label[5:25, 1] = True
    score = label + np.linspace(0, 0.1, 30)[:, None]
    for metric in (mean_average_precision, map_11_point):
        found = metric(score, label)
        assert (found.value, found.high, found.n) == (1, 1, 2)
        assert (found.low, found.interval) == (
            pytest.approx(0.80639, abs=1e-5),
            "wilson over positives",
        )
    for positive, sign in ((label[:, 0], 1), (~label[:, 0], -1)):
        found = roc_auc(sign * score[:, 0], positive)
        assert (found.value, found.high, found.n) == (1, 1, 30)
        assert (found.low, found.interval) == (
            pytest.approx(0.56552, abs=1e-5),
            "wilson over the rarer class",
        )


@pytest.mark.parametrize("metric", ["map", "map_11_point"])
def test_a_class_that_a_draw_misses_is_left_out_of_its_mean(metric):
    """Positives in places 2 and 4 of class 0, and the best of class 1: 1/2, and 1."""
    score = np.array([[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    label = np.array([[0, 0], [1, 0], [0, 0], [1, 1]], bool)
    draws = np.array([[1.0, 1, 1, 1], [1, 2, 1, 0], [2, 0, 2, 0], [0, 0, 0, 4]])
    # Of the second, class 0 has precision 2/3 at its positives; the third has none of either.
    expected = [(1 / 2 + 1) / 2, 2 / 3, np.nan, 1]
    assert of_draws(metric, score, label)(draws) == pytest.approx(expected, nan_ok=True)


def test_draws_without_a_positive_leave_the_interval_finite():
    """Of one positive in four, a third of the draws hold none."""
    score, positive = np.array([3.0, 2.0, 4.0, 1.0]), np.array([False, True, False, False])
    for found in (
        mean_average_precision(score[:, None], positive[:, None]),
        map_11_point(score[:, None], positive[:, None]),
        roc_auc(score, positive),
    ):
        assert found.interval == "bootstrap"
        assert np.isfinite(found.standard_error)
        assert found.low < found.value < found.high


def test_class_scores_are_cosines():
    rng = np.random.default_rng(6)
    image, classes = rng.normal(size=(9, 5)), rng.normal(size=(4, 5))
    lengths = np.linalg.norm(image, axis=1)[:, None] * np.linalg.norm(classes, axis=1)
    np.testing.assert_allclose(class_scores(image, classes), image @ classes.T / lengths, atol=1e-6)
