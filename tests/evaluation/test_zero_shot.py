import numpy as np
import pytest

from winnow.evaluation.zero_shot import (
    first_of_a_name,
    mean_per_class,
    zero_shot,
    zero_shot_measures,
)


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
    assert (result.n, result.chance, result.interval) == (3, 0.25, "bootstrap")


def test_the_interval_over_classes_is_that_of_drawn_pictures_with_their_weights():
    rng = np.random.default_rng(1)
    label = np.repeat(np.arange(6), [1, 2, 5, 20, 40, 60])
    hit = rng.random(128) < 0.2 + 0.1 * label
    result = mean_per_class(hit, label, num_classes=6)
    weight = 1 / np.bincount(label)[label]
    drawn = rng.integers(128, size=(20000, 128))
    literal = (weight * hit)[drawn].sum(1) / weight[drawn].sum(1)
    assert result.standard_error == pytest.approx(literal.std(), rel=0.1)
    assert result.low == pytest.approx(np.quantile(literal, 0.025), abs=0.02)
    assert result.high == pytest.approx(np.quantile(literal, 0.975), abs=0.02)


@pytest.mark.parametrize("each", [1, 25])
def test_where_classes_are_equally_large_the_error_is_that_of_top1(each):
    label = np.repeat(np.arange(400 // each), each)
    hit = np.random.default_rng(2).random(400) < 0.3
    result = mean_per_class(hit, label, num_classes=400 // each)
    assert result.value == pytest.approx(hit.mean())
    expected = (hit.mean() * (1 - hit.mean()) / 400) ** 0.5
    assert result.standard_error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("hit", [False, True])
def test_where_all_pictures_are_right_or_none_the_interval_has_a_width(hit):
    """Wilson's of 20 in equal classes; classes of 17, 1, 1 and 1 are 16 / (3 + 1/17), about 5."""
    lost = 0.16113
    equal = mean_per_class(np.full(20, hit), np.arange(20) % 4, num_classes=4)
    ends = (1 - lost, 1.0) if hit else (0.0, lost)
    assert (equal.low, equal.high) == pytest.approx(ends, abs=1e-5)
    assert (equal.interval, equal.n) == ("wilson over weighted pictures", 4)
    rare = mean_per_class(np.full(20, hit), np.repeat(range(4), [17, 1, 1, 1]), num_classes=4)
    assert rare.high - rare.low == pytest.approx(0.43449, abs=1e-5)


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


def test_classes_of_one_name_are_told_apart_as_an_argmax_does():
    rng = np.random.default_rng(0)
    image_ND, class_KD = rng.normal(size=(300, 4)), rng.normal(size=(6, 4))
    class_KD[4] = class_KD[1]
    class_KD[5] = class_KD[1]
    names = ["a", "twice", "b", "c", "twice", "twice"]
    label_N = rng.integers(6, size=300)
    ranking = zero_shot(image_ND, class_KD, label_N)
    cosine_NK = image_ND @ (class_KD / np.linalg.norm(class_KD, axis=1, keepdims=True)).T
    # Equal columns may differ in the last digit of a product, and an argmax is of equal ones.
    expected = np.round(cosine_NK, 9).argmax(axis=1) == label_N
    assert not (ranking.rank_Q[label_N == 1] == 1).any()
    np.testing.assert_array_equal(first_of_a_name(ranking, label_N, names).rank_Q == 1, expected)
