import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from winnow.evaluation import logistic
from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.lbfgs import minimize
from winnow.evaluation.logistic import UNSEEN, Regression, fit
from winnow.types import InputError


def planted(n=400, width=12, classes=5, *, seed=0, spread=2.0):
    """Classes around means that overlap, off the origin."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, width))
    label = rng.integers(classes, size=n)
    feature = means[label] + spread * rng.normal(size=(n, width)) + 3
    return Labelled(feature.astype(np.float32), label)


def digits():
    feature, label = load_digits(return_X_y=True)
    return Labelled(feature.astype(np.float32), label)


def unbalanced():
    samples = planted(n=1500, classes=4)
    keep = np.random.default_rng(1).random(1500) < np.array([1, 0.3, 0.05, 0.02])[samples.label_N]
    return samples.rows(np.flatnonzero(keep))


def collinear():
    samples = planted(width=6)
    mix = np.random.default_rng(1).normal(size=(6, 20))
    return Labelled((samples.feature_ND @ mix).astype(np.float32), samples.label_N)


def badly_scaled():
    samples = planted(width=8, spread=1.5)
    scale = np.array([1e-2, 0.1, 0.3, 1, 1, 3, 10, 100], np.float32)
    return Labelled(samples.feature_ND * scale, samples.label_N)


def far_off():
    samples = planted(spread=1.5)
    return Labelled(samples.feature_ND + np.float32(300), samples.label_N)


CASES = {
    "planted": planted,
    "wide": lambda: planted(n=60, width=200),
    "unbalanced": unbalanced,
    "collinear": collinear,
    "badly scaled": badly_scaled,
    "far off": far_off,
    "digits": digits,
}


def objective(classifier, samples, strength):
    """F and its gradients, term by term of the formula, float64."""
    x, y = samples.feature_ND.astype(np.float64), samples.label_N
    weight, bias = classifier.weight_DK.astype(np.float64), classifier.bias_K.astype(np.float64)
    z = x @ weight + bias
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
    value = strength * losses.sum() + (weight**2).sum() / 2
    residual = p - np.eye(len(bias))[y]
    return value, strength * x.T @ residual + weight, strength * residual.sum(axis=0)


def by_sklearn(samples, strength, tol=1e-6):
    """In float64 and on centred features, where its solver gets far enough; the same problem."""
    centre = samples.feature_ND.mean(axis=0, dtype=np.float64)
    model = LogisticRegression(C=strength, tol=tol, max_iter=20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(samples.feature_ND - centre, samples.label_N)
    coefficient, intercept = model.coef_, model.intercept_
    if len(coefficient) == 1:  # two classes: one vector, the difference of ours
        coefficient, intercept = np.outer([-0.5, 0.5], coefficient), intercept * [-0.5, 0.5]
    return LinearClassifier(coefficient.T, intercept - coefficient @ centre)


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_the_optimum_is_scikit_learn_s(case, strength):
    samples = CASES[case]()
    ours = fit(samples, num_classes=int(samples.label_N.max()) + 1, strength=strength)
    theirs = by_sklearn(samples, strength)
    assert ours.converged
    least = objective(theirs, samples, strength)[0]
    value = objective(ours.classifier, samples, strength)[0]
    assert value <= least * (1 + 5e-5)
    assert value >= least * (1 - 1e-3)  # not so much lower that it were another problem
    assert ours.loss == pytest.approx(value, rel=1e-5)
    predicted = ours.classifier.logits(samples.feature_ND).argmax(axis=1)
    logits = samples.feature_ND.astype(np.float64) @ theirs.weight_DK + theirs.bias_K
    assert (predicted != logits.argmax(axis=1)).sum() <= max(1, len(predicted) // 1000)


def test_two_classes_are_scikit_learn_s_at_twice_the_strength():
    samples = planted(classes=2, spread=3.0)
    ours = fit(samples, num_classes=2, strength=0.005, tolerance=1e-9)
    theirs = by_sklearn(samples, 0.01, tol=1e-9)
    np.testing.assert_allclose(ours.classifier.weight_DK, theirs.weight_DK, atol=2e-4)
    half = by_sklearn(samples, 0.005, tol=1e-9)
    assert np.abs(ours.classifier.weight_DK - half.weight_DK).max() > 5e-3


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_vanishes_at_the_optimum(case):
    samples = CASES[case]()
    num_classes = int(samples.label_N.max()) + 1
    # F is about quadratic: a loss within 1e-8 leaves a gradient of about the root of it.
    found = fit(samples, num_classes=num_classes, strength=0.01, tolerance=1e-8)
    _, by_weight, by_bias = objective(found.classifier, samples, 0.01)
    start = LinearClassifier(np.zeros_like(found.classifier.weight_DK), np.zeros(num_classes))
    _, at_start, bias_at_start = objective(start, samples, 0.01)
    scale = np.abs(samples.feature_ND).max(axis=0, initial=1e-6)[:, None]
    assert np.abs(by_weight / scale).max() <= 3e-3 * np.abs(at_start / scale).max()
    assert np.abs(by_bias).max() <= 3e-3 * max(1, np.abs(bias_at_start).max())


def test_the_gradient_that_is_walked_along_is_the_formula_s():
    samples, rng = planted(), np.random.default_rng(3)
    at = LinearClassifier(
        rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    )
    at = LinearClassifier(at.weight_DK - at.weight_DK.mean(axis=1, keepdims=True), at.bias_K)
    regression = Regression(samples, num_classes=5)
    parameters = regression._parameters(at)
    value, gradient = regression._objective(parameters, 0.3)
    expected, by_weight, by_bias = objective(at, samples, 0.3)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient[-1], by_bias, rtol=1e-4, atol=1e-4)
    # Where the bias is that of centred features, the mean's part of the gradient is the bias's.
    by_centred = by_weight - np.outer(samples.feature_ND.mean(axis=0), by_bias)
    np.testing.assert_allclose(
        regression.vector_DD @ gradient[:-1], by_centred, rtol=1e-4, atol=1e-3
    )


def test_a_sample_that_is_fitted_well_keeps_its_digits():
    # At 30 from the others, a float32 softmax is 1 and its logarithm 0.
    samples = Labelled(np.array([[30.0], [-30.0]], np.float32), np.array([0, 1]))
    regression = Regression(samples, num_classes=2)
    at = LinearClassifier(np.array([[0.5, -0.5]], np.float32), np.zeros(2, np.float32))
    value, gradient = regression._objective(regression._parameters(at), 1e12)
    assert value == pytest.approx(2e12 * np.exp(-30.0) + 0.25, rel=1e-5)
    assert abs(gradient[0, 0]) == pytest.approx(60e12 * np.exp(-30.0) - 0.5, rel=1e-4)


def test_a_reported_gradient_is_the_largest_entry_over_the_samples():
    samples = planted()
    found = fit(samples, num_classes=5, strength=0.1, max_iterations=1)
    _, by_weight, by_bias = objective(found.classifier, samples, 0.1)
    largest = max(np.abs(by_weight).max(), np.abs(by_bias).max())
    assert not found.converged
    assert found.iterations == 1
    assert found.gradient_norm == pytest.approx(largest / (0.1 * 400), rel=1e-3)


@pytest.mark.parametrize("case", ["planted", "unbalanced", "badly scaled"])
@pytest.mark.parametrize(("before", "strength"), [(1e-3, 0.1), (10.0, 0.1)])
def test_a_warm_start_ends_where_a_cold_one_does(case, before, strength):
    samples = CASES[case]()
    num_classes = int(samples.label_N.max()) + 1
    regression = Regression(samples, num_classes=num_classes)
    first = regression.fit(before)
    assert regression.pairs  # which the next fit begins with
    warm = regression.fit(strength, start=first.classifier)
    cold = fit(samples, num_classes=num_classes, strength=strength)
    assert warm.converged
    assert warm.loss == pytest.approx(cold.loss, rel=2e-6)
    again = regression.fit(strength, start=warm.classifier)
    assert again.iterations <= 1


def test_pairs_are_handed_on_as_those_of_the_next_strength(monkeypatch):
    """Each is a step between two places of the first fit, and what it changes at the next C."""
    regression = Regression(planted(), num_classes=5)
    objective_of, places, begun_with = regression._objective, [], []

    def record_place(at, strength):
        places.append(at)
        return objective_of(at, strength)

    def record_pairs(*args, pairs, **kwargs):
        begun_with.append(pairs)
        return minimize(*args, pairs=pairs, **kwargs)

    monkeypatch.setattr(regression, "_objective", record_place)
    monkeypatch.setattr(logistic, "minimize", record_pairs)
    regression.fit(0.01)
    visited = list(places)
    begun_with.clear()
    regression.fit(7.0)
    assert len(begun_with[0]) >= 3
    for step, change in begun_with[0]:
        before, after = next(
            (one, other) for one in visited for other in visited if torch.equal(other - one, step)
        )
        expected = objective_of(after, 7.0)[1] - objective_of(before, 7.0)[1]
        np.testing.assert_allclose(change, expected, rtol=1e-5, atol=1e-4)
    for step, change in regression.pairs:
        assert float((step * change).sum()) > 0  # the sum of losses is convex by itself


@pytest.mark.parametrize("case", ["planted", "unbalanced", "digits"])
def test_handed_on_pairs_shorten_the_way(case):
    samples = CASES[case]()
    num_classes = int(samples.label_N.max()) + 1
    regression = Regression(samples, num_classes=num_classes)
    with_pairs = without = 0
    start = regression.fit(0.001).classifier
    for strength in (0.002, 0.004, 0.008, 0.016):
        alone = fit(samples, num_classes=num_classes, strength=strength, start=start)
        handed_on = regression.fit(strength, start=start)
        with_pairs += handed_on.evaluations
        without += alone.evaluations
        start = handed_on.classifier
    assert with_pairs < 0.9 * without


@pytest.mark.parametrize("at", [None, 0.3])
def test_the_metric_is_the_formula_s_also_of_a_class_of_one_in_a_thousand(at):
    """C h_k λ_d + 1 and C h_k N, h_k from probabilities in float64."""
    samples = planted(n=4000, classes=4)
    label = np.where(samples.label_N == 3, 2, samples.label_N)
    label[:4] = 3
    regression = Regression(Labelled(samples.feature_ND, label), num_classes=4)
    parameters = regression._parameters(None)
    if at is not None:
        parameters[:-1] += at * torch.from_numpy(np.random.default_rng(0).normal(size=(12, 4)))
    centred = samples.feature_ND.astype(np.float64) - samples.feature_ND.mean(axis=0)
    logits = torch.from_numpy(centred) @ regression.vector_DD @ parameters[:-1] + parameters[-1]
    share = logits.softmax(dim=1)
    curvature = (share * (1 - share)).mean(dim=0)
    eigenvalue = torch.linalg.eigvalsh(torch.from_numpy(centred.T @ centred))
    found = regression._diagonal(parameters, 0.3)
    assert float(curvature.min()) < 5e-3
    expected = 0.3 * eigenvalue[:, None] * curvature + 1
    torch.testing.assert_close(found[:-1], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(found[-1], 0.3 * 4000 * curvature, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sureness", [10, 30, 100, 300, 1000, 10000])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread", [0.02, 0.2])
def test_a_start_that_is_sure_of_everything_is_left(spread, seed, sureness):
    """All probabilities round to 0 and 1 there, so nothing of the sum of losses bends, and what
    rounding leaves of the bias's gradient decides how far the first step goes: hence many."""
    samples = planted(seed=seed, spread=spread)
    expected = fit(samples, num_classes=5, strength=1.0)
    sure = expected.classifier
    start = LinearClassifier(sureness * sure.weight_DK, sureness * sure.bias_K)
    found = fit(samples, num_classes=5, strength=1.0, start=start)
    assert found.converged
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_blocks_change_nothing():
    samples = planted()
    whole = fit(samples, num_classes=5, strength=0.1)
    blocks = fit(samples, num_classes=5, strength=0.1, block_elements=12 * 33)
    single = fit(samples, num_classes=5, strength=0.1, block_elements=1)
    for other in (blocks, single):
        assert other.loss == pytest.approx(whole.loss, rel=1e-6)
        np.testing.assert_allclose(
            other.classifier.weight_DK, whole.classifier.weight_DK, atol=1e-3
        )


def test_parts_are_one_set_of_samples():
    samples = planted()
    cuts = [np.arange(0), np.arange(150), np.arange(150, 151), np.arange(151, 400)]
    whole = Regression(samples, num_classes=5, block_elements=12 * 64)
    parts = Regression(*map(samples.rows, cuts), num_classes=5, block_elements=12 * 64)
    torch.testing.assert_close(parts.x_ND, whole.x_ND, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(parts.label_N, whole.label_N)
    torch.testing.assert_close(parts.eigenvalue_D, whole.eigenvalue_D, rtol=1e-5, atol=1e-5)
    one, other = parts.fit(0.1, tolerance=1e-9), whole.fit(0.1, tolerance=1e-9)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    np.testing.assert_allclose(one.classifier.weight_DK, other.classifier.weight_DK, atol=1e-4)


def test_samples_stay_as_they_are():
    samples = planted()
    before = samples.feature_ND.copy()
    fit(samples, num_classes=5, strength=0.1)
    np.testing.assert_array_equal(samples.feature_ND, before)


def test_another_order_of_classes_or_rows_is_the_same_fit():
    samples, rng = planted(), np.random.default_rng(5)
    renamed, order = rng.permutation(5), rng.permutation(400)
    other = Labelled(samples.feature_ND[order], renamed[samples.label_N[order]])
    first = fit(samples, num_classes=5, strength=0.1, tolerance=1e-9).classifier
    second = fit(other, num_classes=5, strength=0.1, tolerance=1e-9).classifier
    np.testing.assert_allclose(second.weight_DK[:, renamed], first.weight_DK, atol=2e-4)
    np.testing.assert_allclose(second.bias_K[renamed], first.bias_K, atol=1e-3)


def test_a_class_without_samples_is_never_predicted():
    samples = planted(classes=4)
    moved = Labelled(samples.feature_ND, np.array([0, 2, 3, 6])[samples.label_N])
    found = fit(moved, num_classes=8, strength=0.1)
    plain = fit(samples, num_classes=4, strength=0.1)
    assert found.loss == plain.loss
    assert found.classifier.weight_DK.shape == (12, 8)
    np.testing.assert_array_equal(
        found.classifier.weight_DK[:, [0, 2, 3, 6]], plain.classifier.weight_DK
    )
    logits = found.classifier.logits(10 * samples.feature_ND)
    assert np.isfinite(logits).all()
    assert set(logits.argmax(axis=1)) <= {0, 2, 3, 6}
    assert (found.classifier.bias_K == UNSEEN).sum() == 4


def test_a_start_need_not_have_seen_every_class():
    samples = planted()
    few = samples.rows(np.flatnonzero(samples.label_N < 3))
    start = fit(few, num_classes=5, strength=0.1).classifier
    warm = fit(samples, num_classes=5, strength=0.1, start=start)
    assert warm.converged
    assert warm.loss == pytest.approx(fit(samples, num_classes=5, strength=0.1).loss, rel=1e-6)


def test_separable_classes_converge_at_a_large_strength():
    samples = planted(spread=0.05)
    found = fit(samples, num_classes=5, strength=1e6)
    assert found.converged
    assert (found.classifier.logits(samples.feature_ND).argmax(axis=1) == samples.label_N).all()
    assert objective(found.classifier, samples, 1e6)[0] == pytest.approx(found.loss, rel=1e-2)


def test_too_few_iterations_are_said():
    found = fit(digits(), num_classes=10, strength=1.0, max_iterations=3)
    assert (found.converged, found.iterations) == (False, 3)
    assert fit(digits(), num_classes=10, strength=1.0).loss < found.loss


def test_what_cannot_be_fitted_is_refused():
    samples = planted()
    broken = samples.feature_ND.copy()
    broken[17, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        fit(Labelled(broken, samples.label_N), num_classes=5, strength=1.0)
    with pytest.raises(InputError, match="no training samples"):
        fit(samples.rows(np.arange(0)), num_classes=5, strength=1.0)
    with pytest.raises(InputError, match="all 9 training samples are of class 2"):
        fit(samples.rows(np.flatnonzero(samples.label_N == 2)[:9]), num_classes=5, strength=1.0)
    with pytest.raises(ValueError, match="label 4 is none of the 4 classes"):
        fit(samples, num_classes=4, strength=1.0)
    for strength in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="positive"):
            fit(samples, num_classes=5, strength=strength)
