import json

import numpy as np
import pytest
from few_shot_worlds import world
from scipy import stats

from winnow.evaluation.features import Labelled
from winnow.evaluation.few_shot.harness import METHODS, fit_all, predictions
from winnow.evaluation.few_shot.summary import accuracy, accuracy_over_subsets
from winnow.types import InputError


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
    (fit, *_) = fits(train, keys, text_KD, methods=["text-initialised"])
    doubled = predictions(fit.fitted, 2 * train.feature_ND)
    assert np.array_equal(predictions(fit.fitted, train.feature_ND), doubled)
    assert predictions(fit.fitted, train.feature_ND[:0]).shape == (0,)


def test_zero_shot_predicts_the_nearest_text():
    train, keys, text_KD = split()
    (fit,) = fits(train, keys, text_KD, methods=["zero-shot"])
    nearest = (train.feature_ND @ text_KD.T).argmax(axis=1)
    assert np.array_equal(predictions(fit.fitted, train.feature_ND), nearest)


def test_small_classes_are_counted_and_used_up_ones_choose_nothing():
    train, keys, text_KD = split(per_class=4)
    kept = np.flatnonzero(train.label_N != 2)[1:]
    found = fits(
        train.rows(kept), [keys[row] for row in kept], text_KD, methods=["from-zero"], shots=(4,)
    )
    for fit in found:
        assert fit.num_shots == 11
        assert fit.fitted.settings["short_classes"] == 1
        assert fit.fitted.settings["absent_classes"] == 1
        assert fit.fitted.settings["chosen_by"] == "fixed: no further shots"


def test_unknown_methods_and_empty_splits_are_refused():
    train, keys, text_KD = split()
    with pytest.raises(InputError, match="no method tip; there are zero-shot, text-init"):
        fits(train, keys, text_KD, methods=["tip"])
    with pytest.raises(InputError, match="no samples"):
        fits(train.rows(np.arange(0)), [], text_KD)


def test_the_mean_over_subsets_has_student_s_interval():
    hits = [np.arange(40) < right for right in (20, 24, 22, 26, 18)]
    measure = accuracy_over_subsets(hits, num_classes=8)
    values = np.array([20, 24, 22, 26, 18]) / 40
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (measure.low, measure.high) == pytest.approx((low, high), rel=1e-9)
    assert measure.value == pytest.approx(values.mean())
    assert measure.standard_error == pytest.approx(stats.sem(values))
    assert (measure.interval, measure.n, measure.chance) == ("t over subsets", 40, 1 / 8)


def test_an_interval_stays_between_0_and_1_and_one_subset_has_wilson_s():
    hits = [np.arange(20) < right for right in (20, 20, 15)]
    assert accuracy_over_subsets(hits, num_classes=2).high == 1.0
    assert accuracy_over_subsets(hits[2:], num_classes=2) == accuracy(hits[2], num_classes=2)
    assert accuracy(hits[2], num_classes=2).interval == "wilson"
