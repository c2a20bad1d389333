import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from winnow.evaluation.scores import (
    class_scores,
    map_11_point,
    mean_average_precision,
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


def test_a_rare_class_that_a_resample_misses_leaves_the_interval_finite():
    score, label = multi_label(5, n=60, classes=2)
    label[:, 1] = False
    label[0, 1] = True
    measure = mean_average_precision(score, label)
    assert np.isfinite([measure.low, measure.high, measure.standard_error]).all()


def test_class_scores_are_cosines():
    rng = np.random.default_rng(6)
    image, classes = rng.normal(size=(9, 5)), rng.normal(size=(4, 5))
    lengths = np.linalg.norm(image, axis=1)[:, None] * np.linalg.norm(classes, axis=1)
    np.testing.assert_allclose(class_scores(image, classes), image @ classes.T / lengths, atol=1e-6)
