import numpy as np
import pytest

from winnow.evaluation.zero_shot import zero_shot, zero_shot_measures


def measured(image, classes, label):
    ranking = zero_shot(image, classes, label)
    measures = zero_shot_measures(ranking, label, num_classes=len(classes))
    return {measure.metric: measure for measure in measures}


def planted(num_right, num_wrong, num_classes=10):
    """Pictures at the point of their class, but for the last ones, at the point of the next."""
    label = np.arange(num_right + num_wrong) % num_classes
    shown = np.where(np.arange(len(label)) < num_right, label, (label + 1) % num_classes)
    return np.eye(num_classes)[shown], np.eye(num_classes), label


def test_a_planted_model_scores_exactly_what_was_planted():
    result = measured(*planted(37, 13))
    assert result["top1"].value == pytest.approx(0.74)
    assert result["top1"].n == 50
    assert result["top1"].standard_error == pytest.approx((0.74 * 0.26 / 50) ** 0.5)
    assert (result["top1"].chance, result["top5"].chance) == (0.1, 0.5)


def test_the_mean_over_classes_weighs_each_class_alike():
    label = np.array([0] * 8 + [1] * 2 + [3])
    shown = np.array([0] * 8 + [1, 2] + [0])
    result = measured(np.eye(4)[shown], np.eye(4), label)["mean_per_class"]
    recalls = np.array([1.0, 0.5, 0.0])  # no picture shows class 2
    assert result.value == pytest.approx(recalls.mean())
    assert result.standard_error == pytest.approx(recalls.std(ddof=1) / np.sqrt(3))
    assert (result.n, result.chance) == (3, 0.25)


def test_top5_exists_only_where_it_says_something():
    assert "top5" not in measured(*planted(10, 0, num_classes=5))
    assert "top5" in measured(*planted(10, 0, num_classes=6))


def test_a_random_model_scores_chance():
    rng = np.random.default_rng(0)
    label = rng.integers(20, size=4000)
    result = measured(rng.normal(size=(4000, 64)), rng.normal(size=(20, 64)), label)
    for metric in ("top1", "top5"):
        assert abs(result[metric].value - result[metric].chance) < 4 * result[metric].standard_error
    # The bound is tight enough to fail: it allows no more than two points.
    assert result["top1"].standard_error < 0.005


def test_a_constant_model_scores_nothing():
    label = np.arange(30) % 10
    assert measured(np.ones((30, 8)), np.ones((10, 8)), label)["top5"].value == 0.0
