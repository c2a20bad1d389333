import itertools

import numpy as np
import pytest

from winnow.resampling import (
    bootstrap,
    bootstrap_groups,
    bootstrap_p_value,
    percentile_interval,
    sign_flips_p_value,
)


def test_counts_are_of_n_draws_and_known_by_n_and_seed_alone():
    seen = []

    def metric(counts_BN):
        seen.append(counts_BN.copy())
        return counts_BN[:, 0]

    whole = bootstrap(metric, 7, resamples=20, seed=3)
    in_pieces = bootstrap(metric, 7, resamples=20, seed=3, block=21)
    assert [len(counts) for counts in seen] == [20, 3, 3, 3, 3, 3, 3, 2]
    assert (np.concatenate(seen[1:]) == seen[0]).all()
    assert (whole == in_pieces).all()
    assert (seen[0].sum(axis=1) == 7).all()
    assert (bootstrap(metric, 7, resamples=20, seed=4) != whole).any()


def test_a_mean_s_bootstrap_error_is_the_plug_in_one():
    values = np.random.default_rng(0).gamma(2.0, size=400)
    value_B = bootstrap(lambda counts_BN: counts_BN @ values / 400, 400, resamples=4000)
    assert value_B.mean() == pytest.approx(values.mean(), abs=0.005)
    assert value_B.std(ddof=1) == pytest.approx(values.std() / 20, rel=0.05)


def test_groups_are_drawn_as_their_samples_would_be():
    """Mean and covariance of the counts of groups of 5, 15 and 180 of 200 samples."""
    size_G = np.array([5, 15, 180])
    rows = []
    bootstrap_groups(lambda c: rows.append(c) or c[:, 0], size_G, resamples=20000)
    counts_BG = np.concatenate(rows)
    share_G = size_G / 200
    covariance = 200 * (np.diag(share_G) - np.outer(share_G, share_G))
    assert (counts_BG.sum(axis=1) == 200).all()
    assert counts_BG.mean(axis=0) == pytest.approx(size_G, abs=0.15)
    assert np.cov(counts_BG.T) == pytest.approx(covariance, abs=0.6)


def test_groups_do_not_depend_on_how_many_are_held_at_once():
    size_G = np.array([3, 4, 0, 9])
    one = bootstrap_groups(lambda c: c[:, 1], size_G, resamples=50)
    assert (one == bootstrap_groups(lambda c: c[:, 1], size_G, resamples=50, block=12)).all()


def test_the_interval_holds_the_middle_of_the_values():
    assert percentile_interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert percentile_interval(np.arange(1001.0), level=0.5) == pytest.approx((250.0, 750.0))


def test_p_counts_the_resamples_on_the_rarer_side_of_zero():
    assert bootstrap_p_value(np.zeros(99)) == 1.0
    assert bootstrap_p_value(np.ones(99)) == pytest.approx(2 / 100)
    assert bootstrap_p_value(np.array([-1.0] * 4 + [1.0] * 95)) == pytest.approx(10 / 100)
    assert bootstrap_p_value(np.array([1.0] * 4 + [-1.0] * 95)) == pytest.approx(10 / 100)


def test_sign_flips_are_the_share_of_signs_that_are_as_far():
    """Of all signs, of gains of four sizes; to within four errors of 20,000 draws."""
    gain_N = np.array([0.5, -0.25, 0.125, 0.125, 0.0, 0.1, 0.1, 0.1, -0.1])
    signs = np.array(list(itertools.product([-1, 1], repeat=9)))
    literal = (np.abs(signs @ gain_N) >= abs(gain_N.sum()) - 1e-12).mean()
    assert literal == 94 / 256
    found = sign_flips_p_value(gain_N, draws=20_000)
    assert found == pytest.approx(literal, abs=4 * (literal * (1 - literal) / 20_000) ** 0.5)
    assert sign_flips_p_value(gain_N, draws=50, seed=1) == sign_flips_p_value(
        gain_N, draws=50, seed=1
    )


def test_sign_flips_of_no_gain_and_of_all_gains():
    assert sign_flips_p_value(np.zeros(9), draws=99) == 1.0
    assert sign_flips_p_value(np.array([0.1, 0.2, -0.3]), draws=99) == 1.0
    assert sign_flips_p_value(np.ones(60), draws=99) == 1 / 100


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """The difference of two shares on 200 samples, 400 times over: 95 % ± 2 errors of 400."""
    random = np.random.default_rng(1)
    truth = 0.05  # second right, first wrong, with 0.25; the other way round with 0.20
    covered = 0
    for repeat in range(400):
        b, c, rest = random.multinomial(200, [0.20, 0.25, 0.55])
        gain_B = bootstrap_groups(
            lambda counts: (counts[:, 1] - counts[:, 0]) / 200,
            np.array([b, c, rest]),
            resamples=400,
            seed=repeat,
        )
        low, high = percentile_interval(gain_B)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98
