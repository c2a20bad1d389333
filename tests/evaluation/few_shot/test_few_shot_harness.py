import json

import numpy as np
import pytest
from few_shot_worlds import world
from scipy import stats

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot.fitted import Fitted
from winnow.evaluation.few_shot.harness import METHODS, fit_all, predictions
from winnow.evaluation.few_shot.summary import accuracy, accuracy_over_subsets
from winnow.evaluation.zero_shot import first_of_a_name, zero_shot
from winnow.types import InputError

NAMES = ["ant", "bee", "cat", "dog"]


def split(per_class=12, dtype=np.float32):
    train, text_KD = world(
        classes=4, width=16, per_class=per_class, spread=2.0, text_error=1.5, dtype=dtype
    )
    # As an encoder gives them: of any length.
    length_N1 = np.linspace(0.5, 20, len(train.label_N), dtype=dtype)[:, None]
    keys = [f"{row:04}" for row in range(len(train.label_N))]
    return Labelled(train.feature_ND * length_N1, train.label_N), keys, text_KD


def fits(train, keys, text_KD, **kwargs):
    settings = {"shots": (1, 4), "subsets": 2, "fingerprint": "d", "scale": 30.0} | kwargs
    return list(fit_all(train, keys, class_KD=text_KD, **settings))


def test_every_method_is_fitted_to_every_subset_and_zero_shot_once():
    train, keys, text_KD = split()
    found = fits(train, keys, text_KD)
    assert [fit.method for fit in found].count("zero-shot") == 1
    rows = {(fit.method, fit.shots, fit.subset) for fit in found if fit.shots}
    learning = [method for method in METHODS if method != "zero-shot"]
    assert rows == {(m, k, s) for m in learning for k in (1, 4) for s in (0, 1)}
    assert {fit.num_shots for fit in found if fit.shots == 4} == {16}
    json.dumps([dict(fit.fitted.settings) for fit in found])


@pytest.mark.slow
def test_the_order_of_the_rows_changes_no_probe():
    train, keys, text_KD = split()
    shuffle = np.random.default_rng(0).permutation(len(keys))
    first = fits(train, keys, text_KD)
    second = fits(train.rows(shuffle), [keys[row] for row in shuffle], text_KD)
    for one, other in zip(first, second, strict=True):
        logits = (fit.fitted.logits(train.feature_ND) for fit in (one, other))
        np.testing.assert_array_equal(*logits)


def test_the_length_of_features_changes_no_prediction():
    train, keys, text_KD = split()
    names, longer_ND = list("abcd"), 3 * train.feature_ND
    feels_length = set()
    for fit in fits(train, keys, text_KD):
        as_they_are = predictions(fit.fitted, train.feature_ND, names)
        assert np.array_equal(predictions(fit.fitted, longer_ND, names), as_they_are)
        if not np.array_equal(fit.fitted.logits(longer_ND).argmax(axis=1), as_they_are):
            feels_length.add(fit.method)
        assert predictions(fit.fitted, train.feature_ND[:0], names).shape == (0,)
    assert feels_length >= {"tip-adapter", "lp++"}  # which would tell if lengths were left


def test_zero_shot_predicts_the_nearest_text():
    train, keys, text_KD = split()
    (fit,) = fits(train, keys, text_KD, methods=["zero-shot"])
    nearest = (train.feature_ND @ text_KD.T).argmax(axis=1)
    assert np.array_equal(predictions(fit.fitted, train.feature_ND, NAMES), nearest)


@pytest.mark.parametrize(
    ("is_constant", "names", "right"),
    [
        (True, NAMES, 0),
        (True, ["bee"] * 4, 12),
        (False, NAMES, 6),
        (False, ["ant", "bee", "bee", "bee"], 17),
    ],
)
def test_few_shot_s_zero_shot_is_the_protocol_s(is_constant, names, right):
    train, keys, text_KD = split()
    if is_constant:
        train = train._replace(feature_ND=np.ones_like(train.feature_ND))
        text_KD = np.full_like(text_KD, 0.25)
    else:
        # Up to the last digit, by which the columns of one product differ.
        text_KD[2:] = text_KD[1]
        text_KD[3] *= 1 + 2e-7
    (fit,) = fits(train, keys, text_KD, methods=["zero-shot"])
    found = predictions(fit.fitted, train.feature_ND, names) == train.label_N
    ranking = zero_shot(train.feature_ND, text_KD, train.label_N)
    expected = first_of_a_name(ranking, train.label_N, names).rank_Q == 1
    assert np.array_equal(found, expected)
    assert found.sum() == right


def test_a_tied_class_is_no_prediction():
    tied = Fitted(LinearClassifier(np.zeros((2, 3)), np.array([1.0, 0.0, 1.0])), {})
    feature_ND = np.ones((2, 2))
    assert predictions(tied, feature_ND, ["a", "b", "c"]).tolist() == [-1, -1]
    assert predictions(tied, feature_ND, ["a", "b", "a"]).tolist() == [0, 0]


def test_small_classes_are_counted_and_used_up_ones_choose_nothing():
    train, keys, text_KD = split(per_class=4)
    # Of class 2 nothing is left, and of classes 0 and 3 all but one.
    kept = np.flatnonzero(train.label_N != 2)[1:-1]
    found = fits(
        train.rows(kept), [keys[row] for row in kept], text_KD, methods=["from-zero"], shots=(4,)
    )
    for fit in found:
        assert fit.num_shots == 10
        assert fit.fitted.settings["short_classes"] == 2
        assert fit.fitted.settings["absent_classes"] == 1
        assert fit.fitted.settings["chosen_by"] == "fixed: no further shots"


def test_unknown_methods_and_empty_splits_are_refused():
    train, keys, text_KD = split()
    with pytest.raises(InputError, match="no method tip; there are zero-shot, text-init"):
        fits(train, keys, text_KD, methods=["tip"])
    with pytest.raises(InputError, match="no samples"):
        fits(train.rows(np.arange(0)), [], text_KD)


def test_the_mean_over_subsets_says_what_other_shots_and_other_pictures_would_change():
    random = np.random.default_rng(4)
    hit_SN = random.random((5, 40)) < random.uniform(0.2, 0.9, 40)
    measure = accuracy_over_subsets(list(hit_SN), num_classes=8)
    parts = [stats.sem(hit_SN.mean(axis=axis)) ** 2 for axis in (1, 0)]
    freedom = np.floor(sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 39))
    low, high = stats.t.interval(0.95, freedom, loc=hit_SN.mean(), scale=np.sqrt(sum(parts)))
    assert (measure.low, measure.high) == pytest.approx((low, high), rel=1e-9)
    assert measure.value == pytest.approx(hit_SN.mean())
    assert measure.standard_error == pytest.approx(np.sqrt(sum(parts)))
    assert measure.interval == "t over subsets and pictures"
    assert (measure.n, measure.chance) == (40, 1 / 8)


def test_the_interval_holds_what_pictures_and_shots_of_the_same_kind_give():
    """Truth 0.5; each subset and each picture has its own lean: 400 times over. The spread of
    subset means alone, as the interval once had it, holds it in far fewer.
    """
    random = np.random.default_rng(6)
    covered = covered_by_subsets = 0
    for _ in range(400):
        lean_S1, lean_N = random.normal(0, 0.03, (5, 1)), random.choice([-0.4, 0.4], 60)
        hit_SN = random.random((5, 60)) < 0.5 + lean_S1 + lean_N
        measure = accuracy_over_subsets(list(hit_SN), num_classes=2)
        covered += measure.low <= 0.5 <= measure.high
        means = hit_SN.mean(axis=1)
        low, high = stats.t.interval(0.95, 4, loc=means.mean(), scale=stats.sem(means))
        covered_by_subsets += low <= 0.5 <= high
    assert 0.93 <= covered / 400 <= 0.995
    assert covered_by_subsets / 400 < 0.88


def test_subsets_that_agree_are_not_certain():
    """All as accurate, or all right in everything, or on one picture: an error is left."""
    rolled = [np.roll(np.arange(20) < 15, shift) for shift in range(3)]
    for hits in (rolled, [np.ones(20, bool)] * 3, [np.zeros(20, bool)] * 3):
        measure = accuracy_over_subsets(hits, num_classes=2)
        assert measure.standard_error > 0.01
        assert measure.high - measure.low > 0.1
        assert measure.low <= measure.value <= measure.high
    one = accuracy_over_subsets([np.array([True]), np.array([False])], num_classes=2)
    assert (one.value, one.interval) == (0.5, "wilson")


def test_an_interval_stays_between_0_and_1_and_one_subset_has_wilson_s():
    hits = [np.arange(20) < right for right in (20, 20, 15)]
    assert accuracy_over_subsets(hits, num_classes=2).high == 1.0
    assert accuracy_over_subsets(hits[2:], num_classes=2) == accuracy(hits[2], num_classes=2)
    assert accuracy(hits[2], num_classes=2).interval == "wilson"
