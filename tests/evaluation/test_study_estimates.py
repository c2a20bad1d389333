import math

import numpy as np
import pytest

from winnow.evaluation.crossed import crossed_mean
from winnow.evaluation.study.axes import POOLED, SLOPES, SLOPES_AND_PICTURES, Point, fit_growth
from winnow.evaluation.study.estimates import (
    BOTH,
    NO_SPREAD,
    ONE_SEED,
    Part,
    over_seeds,
    over_seeds_and_parts,
    over_seeds_and_pictures,
    picture_part,
    ratio_over_seeds,
)

T2 = 4.302652729911275  # t of 2 degrees of freedom, 97.5 %


def test_student_s_interval_over_three_seeds_by_hand():
    """Of 2 degrees of freedom P(|T| > t) is 1 - t / sqrt(2 + t²); here t² = 27."""
    found = over_seeds([0.02, 0.03, 0.04])
    half = T2 * 0.01 / math.sqrt(3)
    assert found.value == pytest.approx(0.03)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half))
    assert found.p_value == pytest.approx(1 - math.sqrt(27 / 29))
    assert (found.freedom, found.seeds) == (2, 3)
    assert found.is_above
    assert not found.is_below


def test_one_seed_and_equal_seeds_have_no_interval():
    one = over_seeds([0.02])
    assert (one.value, one.low, one.p_value, one.how) == (0.02, None, None, ONE_SEED)
    equal = over_seeds([0.25, 0.25])
    assert (equal.value, equal.low, equal.how) == (0.25, None, NO_SPREAD)
    assert not equal.is_above
    none = over_seeds([0.0, 0.0])
    assert (none.low, none.high, none.p_value) == (0, 0, 1)


def test_ratios_are_averaged_as_logarithms():
    """Twice and half as much are none more."""
    found = ratio_over_seeds([2.0, 0.5])
    assert found.value == pytest.approx(1)
    assert found.high == pytest.approx(math.exp(12.706204736 * math.log(2)))
    assert found.low == pytest.approx(1 / found.high)


def test_pictures_are_the_second_part_of_the_variance():
    gain_SN = np.array([[1.0, 0, 0, 1], [0, 0, 0, 1]])
    found = over_seeds_and_pictures(gain_SN)
    crossed = crossed_mean(gain_SN)
    # Seeds' means are 1/2 and 1/4: s²/2 = 1/64. Pictures' are 1/2, 0, 0 and 1: s²/4 = 11/192.
    assert crossed.standard_error == pytest.approx(math.sqrt(1 / 64 + 11 / 192))
    assert found.high - found.value == pytest.approx(crossed.half_width)
    assert (found.freedom, found.how) == (crossed.freedom, BOTH)
    assert over_seeds_and_pictures(gain_SN[:1]).how == ONE_SEED
    assert over_seeds_and_pictures(gain_SN[:, :1]).low is None


def test_one_part_of_pictures_is_the_crossed_mean():
    gain_SN = np.random.default_rng(0).normal(size=(4, 30))
    found = over_seeds_and_parts(gain_SN.mean(axis=1).tolist(), [picture_part(gain_SN)])
    direct = over_seeds_and_pictures(gain_SN)
    assert (found.low, found.high, found.freedom) == pytest.approx(
        (direct.low, direct.high, direct.freedom)
    )


def test_growth_is_the_mean_of_the_seeds_slopes():
    """Slopes of 1, 2 and 3 over places that all seeds have."""
    points = [Point(seed, x, 5 * seed + (seed + 1) * x) for seed in range(3) for x in (2, 3, 5)]
    # A fourth seed, of one place, says nothing of growth.
    found = fit_growth([*points, Point(3, 5, 99.0)])
    assert found.value == pytest.approx(2)
    assert (found.high - found.low) / 2 == pytest.approx(T2 / math.sqrt(3))
    assert (found.how, found.seeds) == (SLOPES, 3)


def test_growth_is_of_the_seeds_that_miss_no_cell():
    """Slopes of 1, 2 and 3; a fourth seed lacks a place, and its steep slope is not taken."""
    points = [Point(seed, x, 5 * seed + (seed + 1) * x) for seed in range(3) for x in (2, 3, 5)]
    found = fit_growth([*points, Point(3, 2, 0.0), Point(3, 5, 90.0)])
    assert found == fit_growth(points)
    assert (found.seeds, found.how) == (3, SLOPES)


def test_growth_without_two_whole_seeds_is_one_regression_and_has_no_interval():
    random = np.random.default_rng(3)
    points = [Point(s, float(x), s + 2 * x + random.normal()) for s in range(3) for x in range(4)]
    del points[9], points[5]
    found = fit_growth(points)
    design = np.zeros((10, 4))
    for row, point in enumerate(points):
        design[row, [point.seed, 3]] = 1, point.x
    fitted, *_ = np.linalg.lstsq(design, np.array([point.y for point in points]), rcond=None)
    assert found.value == pytest.approx(fitted[3])
    assert (found.low, found.high, found.p_value, found.freedom) == (None, None, None, None)
    assert (found.seeds, found.how) == (3, POOLED)


def test_growth_holds_what_varies_besides_seeds():
    """Slopes of 1, 2 and 3: s²/3 = 1/3, and 1/6 more of pictures."""
    points = [Point(seed, x, (seed + 1) * x) for seed in range(3) for x in (2, 3)]
    found = fit_growth(points, [Part(1 / 6, 10)])
    freedom = int(0.5**2 / ((1 / 3) ** 2 / 2 + (1 / 6) ** 2 / 10))
    assert (found.freedom, found.how) == (freedom, SLOPES_AND_PICTURES)
    assert freedom == 4
    assert (found.high - found.low) / 2 == pytest.approx(2.7764451051977987 * math.sqrt(0.5))


def test_growth_needs_two_places_and_two_seeds():
    assert fit_growth([Point(0, 1.0, 0.5), Point(1, 1.0, 0.7)]) is None
    alone = fit_growth([Point(0, 1.0, 0.5), Point(0, 2.0, 0.75), Point(1, 2.0, 0.1)])
    assert (alone.value, alone.low, alone.how) == (0.25, None, ONE_SEED)


@pytest.mark.parametrize("picture_spread", [0.0, 0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(picture_spread):
    """5 seeds, 100 pictures; noise of every seed on every picture is in both terms, so wider."""
    random = np.random.default_rng(8)
    held = []
    for _ in range(400):
        seed_S1 = random.normal(0, 0.05, (5, 1))
        picture_N = random.normal(0, picture_spread, 100)
        gain_SN = 0.02 + seed_S1 + picture_N + random.normal(0, 0.2, (5, 100))
        found = over_seeds_and_pictures(gain_SN)
        held.append(found.low <= 0.02 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.995


def test_seeds_alone_miss_what_other_pictures_would_change():
    """The interval over seeds speaks of the pictures at hand: of others it is too narrow."""
    random = np.random.default_rng(9)
    of_these, of_others = [], []
    for _ in range(400):
        picture_N = random.normal(0, 0.5, 50)
        value_S = 0.02 + picture_N.mean() + random.normal(0, 0.03, 5)
        found = over_seeds(value_S.tolist())
        of_these.append(found.low <= 0.02 + picture_N.mean() <= found.high)
        of_others.append(found.low <= 0.02 <= found.high)
    assert 0.92 <= np.mean(of_these) <= 0.98
    assert np.mean(of_others) < 0.8


def test_growth_s_interval_holds_the_slope():
    random = np.random.default_rng(10)
    held = []
    for _ in range(300):
        slope_S = 0.03 + random.normal(0, 0.02, 4)
        points = [
            Point(seed, x, slope_S[seed] * x + random.normal(0, 0.01))
            for seed in range(4)
            for x in (3.0, 4.0, 5.0)
        ]
        found = fit_growth(points)
        held.append(found.low <= 0.03 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98
