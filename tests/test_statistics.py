import math
from fractions import Fraction

import pytest

from winnow.statistics import (
    SignTest,
    holm_adjusted,
    mcnemar_p_value,
    paired_difference,
    sign_test,
    standard_error,
    t_quantile,
    t_within,
    wilson_interval,
)


def literal_mcnemar(only_first: int, only_second: int) -> float:
    """Sum of exact binomial probabilities of every outcome at least as uneven as the one seen."""
    n, gap = only_first + only_second, abs(only_first - only_second)
    as_uneven = [wins for wins in range(n + 1) if abs(n - 2 * wins) >= gap]
    return float(sum(Fraction(math.comb(n, wins), 2**n) for wins in as_uneven))


@pytest.mark.parametrize("first", range(12))
@pytest.mark.parametrize("second", range(12))
def test_mcnemar_equals_the_sum_over_outcomes_in_exact_fractions(first, second):
    assert mcnemar_p_value(first, second) == pytest.approx(
        literal_mcnemar(first, second), rel=1e-12
    )


def test_mcnemar_stays_exact_where_the_coefficients_leave_float64():
    expected = literal_mcnemar(2300, 2500)
    assert mcnemar_p_value(2300, 2500) == pytest.approx(expected, rel=1e-9)


def test_standard_error_is_the_binomial_one():
    assert standard_error(0.25, 300) == pytest.approx(0.025)
    assert standard_error(1.0, 10) == 0.0


@pytest.mark.parametrize(("p", "n"), [(0.0, 10), (1.0, 10), (0.3, 50), (0.5, 2000), (0.001, 1000)])
def test_wilson_ends_are_where_the_score_test_just_does_not_reject(p, n):
    for end in wilson_interval(p, n):
        assert 0 <= end <= 1
        if end != p:
            assert abs(p - end) / standard_error(end, n) == pytest.approx(1.959964, rel=1e-5)


def test_wilson_leaves_room_at_the_ends():
    low, high = wilson_interval(0.0, 10)
    assert (low, high) == (0.0, pytest.approx(0.2775, abs=1e-4))  # Agresti and Coull 1998: 0.278
    assert wilson_interval(1.0, 10) == pytest.approx((1 - 0.2775, 1.0), abs=1e-4)


def test_paired_difference_counts_the_samples_on_which_one_model_is_right():
    first = [True] * 5 + [False] * 3 + [True] * 10 + [False] * 2
    second = [False] * 5 + [True] * 3 + [True] * 10 + [False] * 2
    paired = paired_difference(first, second)
    assert (paired.only_first, paired.only_second, paired.n) == (5, 3, 20)
    assert paired.difference == pytest.approx(-0.1)
    assert paired.p_value == pytest.approx(literal_mcnemar(5, 3))
    differences = [b - a for a, b in zip(first, second, strict=True)]
    variance = sum((d + 0.1) ** 2 for d in differences) / 20
    assert paired.standard_error == pytest.approx(math.sqrt(variance / 20))


def test_a_model_does_not_differ_from_itself():
    paired = paired_difference([True, False, True], [True, False, True])
    assert (paired.difference, paired.p_value) == (0.0, 1.0)


def test_outcomes_of_different_samples_are_refused():
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([True, False], [True])


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30, 101, 1000])
def test_t_is_scipy_s(freedom):
    t = pytest.importorskip("scipy.stats").t
    assert t_quantile(0.95, freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-10)
    assert t_within(1.3, freedom) == pytest.approx(1 - 2 * t.sf(1.3, freedom), rel=1e-10)


def test_many_degrees_of_freedom_are_taken_for_a_thousand():
    assert t_quantile(0.95, 10**6) == t_quantile(0.95, 1000)
    assert t_quantile(0.95, 1000) == pytest.approx(1.959964, rel=2e-3)


def test_the_sign_test_leaves_ties_out():
    test = sign_test([0.1] * 20 + [-0.1] * 9)
    assert (test.wins, test.losses, test.ties) == (20, 9, 0)
    assert test.p_value == pytest.approx(0.0614, abs=5e-5)  # 2 P[X <= 9], X ~ Bin(29, 1/2)
    assert sign_test([0.1] * 20 + [-0.1] * 9 + [0.0] * 6).p_value == test.p_value
    assert sign_test([0.0, 0.0]) == SignTest(wins=0, losses=0, ties=2, p_value=1.0)


def test_holm_multiplies_the_smallest_most_and_never_falls():
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.5, 0.9]) == [1.0, 1.0]
    assert holm_adjusted([0.02]) == [0.02]
    assert holm_adjusted([]) == []
