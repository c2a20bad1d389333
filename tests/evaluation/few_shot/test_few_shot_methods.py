import numpy as np
import pytest
import torch
from few_shot_worlds import accuracy, mean_cross_entropy, world
from sklearn.linear_model import LogisticRegression

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.few_shot import (
    from_zero,
    lp_plus_plus,
    pulled_to_text,
    text_initialised,
    tip_adapter,
    zero_shot,
)
from winnow.evaluation.few_shot.fitted import FIXED, Fitted, best, cross_entropy
from winnow.evaluation.few_shot.penalized import DECAYS, solve_penalized
from winnow.evaluation.few_shot.softmax_regression import Regression, with_bias

SCALE = 30.0
LEARNING = (text_initialised, from_zero, pulled_to_text, tip_adapter, lp_plus_plus)
by_method = pytest.mark.parametrize(
    "method", LEARNING, ids=lambda method: method.__name__.rsplit(".", 1)[-1]
)


def shots_and_test(per_class, *, seed=0, **kwargs):
    """(shots, further, test, text): the first of each class, the next 4, and 40 more."""
    shape = {"classes": 6, "width": 24, "spread": 1.5, "text_error": 1.5} | kwargs
    everything, text_KD = world(**shape, per_class=per_class + 44, seed=seed)
    number_N = np.arange(len(everything.label_N)) % (per_class + 44)
    parts = (
        number_N < per_class,
        (number_N >= per_class) & (number_N < per_class + 4),
        number_N >= per_class + 4,
    )
    return *(everything.rows(np.flatnonzero(part)) for part in parts), text_KD


def test_without_room_the_probe_is_the_zero_shot_classifier_bit_for_bit():
    shots, _, test, text_KD = shots_and_test(3)
    still = text_initialised.fit_fixed(shots, text_KD, SCALE, delta=0.0, bias_delta=0.0)
    start = zero_shot.fit(shots, None, text_KD, SCALE)
    assert np.array_equal(still.classifier.weight_DK, start.classifier.weight_DK)
    assert np.array_equal(start.classifier.weight_DK, text_KD.T * SCALE)
    assert np.array_equal(still.logits(test.feature_ND), start.logits(test.feature_ND))
    moved = text_initialised.fit_fixed(shots, text_KD, SCALE, delta=0.01, bias_delta=0.0)
    assert not np.array_equal(moved.logits(test.feature_ND), start.logits(test.feature_ND))


def test_with_all_the_room_it_meets_logistic_regression():
    """Where shots are not separable, neither start nor ball has a say."""
    shots, text_KD = world(classes=3, width=3, per_class=30, spread=2.5, text_error=1.0)
    free = text_initialised.fit_fixed(shots, text_KD, SCALE, delta=100.0, bias_delta=1000.0)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000)
    oracle.fit(shots.feature_ND, shots.label_N)
    expected = mean_cross_entropy(oracle.decision_function(shots.feature_ND), shots.label_N)
    found = mean_cross_entropy(free.logits(shots.feature_ND), shots.label_N)
    assert abs(found - expected) < 1e-5
    agree = np.mean(
        free.logits(shots.feature_ND).argmax(axis=1) == oracle.predict(shots.feature_ND)
    )
    assert agree == 1.0


@pytest.mark.parametrize("decay", [10.0, 1.0, 0.01])
def test_the_plain_probe_is_scikit_learn_s(decay):
    shots, _, _, _ = shots_and_test(4)
    x_ND = torch.from_numpy(shots.feature_ND)
    known_NK = torch.zeros(len(x_ND), 6, dtype=torch.float64)
    regression = with_bias(Regression(x_ND, torch.from_numpy(shots.label_N), known_NK))
    start_XK = torch.zeros(25, 6, dtype=torch.float64)
    found = solve_penalized(regression, decay, start_XK=start_XK, tolerance=1e-9)
    oracle = LogisticRegression(C=1 / decay, fit_intercept=False, tol=1e-12, max_iter=10000)
    oracle.fit(np.pad(shots.feature_ND, ((0, 0), (0, 1)), constant_values=1.0), shots.label_N)
    np.testing.assert_allclose(found.weight_XK.numpy().T, oracle.coef_, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_where_single_precision_stalls_double_goes_on(seed):
    shots, _, _, _ = shots_and_test(4, seed=seed, spread=3.0, dtype=np.float32)
    for decay in (10.0, 0.1):
        x_ND = torch.from_numpy(shots.feature_ND)
        regression = Regression(x_ND, torch.from_numpy(shots.label_N), torch.zeros(len(x_ND), 6))
        found = solve_penalized(regression, decay, start_XK=torch.zeros(24, 6), tolerance=1e-7)
        assert found.weight_XK.dtype == torch.float32
        assert found.residual < 1e-7


def test_the_pulled_probe_solves_its_equation():
    """Where λ (W - W_0) is the sum of the shots' own gradients, by their literal loop."""
    shots, _, _, text_KD = shots_and_test(2)
    fitted = pulled_to_text.fit(shots, None, text_KD, SCALE)
    moved_DK = fitted.classifier.weight_DK - text_KD.T * SCALE
    pull_DK = np.zeros_like(moved_DK)
    for x_D, label in zip(shots.feature_ND, shots.label_N, strict=True):
        logits_K = x_D @ fitted.classifier.weight_DK
        share_K = np.exp(logits_K - logits_K.max())
        pull_DK += np.outer(x_D, np.eye(6)[label] - share_K / share_K.sum())
    assert fitted.settings["weight_decay"] == 1.0
    np.testing.assert_allclose(moved_DK, pull_DK, atol=1e-5 * len(shots.label_N))
    assert np.linalg.norm(moved_DK) > 0.1


def test_the_ball_and_the_penalty_meet():
    shots, _, _, text_KD = shots_and_test(3)
    pulled = pulled_to_text.fit(shots, None, text_KD, SCALE).classifier.weight_DK
    way = np.linalg.norm(pulled - text_KD.T * SCALE) / np.linalg.norm(text_KD * SCALE)
    ball = text_initialised.fit_fixed(shots, text_KD, SCALE, delta=way, bias_delta=0.0)
    assert np.linalg.norm(ball.classifier.weight_DK - pulled) < 1e-3 * np.linalg.norm(pulled)


def test_tip_adapter_is_its_literal_loop():
    shots, _, test, text_KD = shots_and_test(2)
    fitted = tip_adapter.fit(shots, None, text_KD, SCALE)
    expected_NK = SCALE * test.feature_ND @ text_KD.T
    for row, x_D in enumerate(test.feature_ND):
        for f_D, label in zip(shots.feature_ND, shots.label_N, strict=True):
            expected_NK[row, label] += 1.17 * np.exp(-1.0 * (1 - x_D @ f_D))
    np.testing.assert_allclose(fitted.logits(test.feature_ND), expected_NK, atol=1e-12)


def test_tip_adapter_s_blocks_change_nothing(monkeypatch):
    shots, _, test, text_KD = shots_and_test(2)
    whole = tip_adapter.fit(shots, None, text_KD, SCALE).logits(test.feature_ND)
    monkeypatch.setattr(tip_adapter, "_BLOCK_ELEMENTS", 7 * len(shots.label_N))
    parts = tip_adapter.fit(shots, None, text_KD, SCALE).logits(test.feature_ND)
    np.testing.assert_allclose(parts, whole, atol=1e-12)


def test_without_its_cache_tip_adapter_is_zero_shot():
    shots, _, test, text_KD = shots_and_test(2)
    cache = tip_adapter.fit(shots, None, text_KD, SCALE).classifier._replace(share=0.0)
    start = zero_shot.fit(shots, None, text_KD, SCALE)
    assert np.array_equal(cache.logits(test.feature_ND), start.logits(test.feature_ND))


def test_lp_plus_plus_is_its_literal_steps():
    shots, _, test, text_KD = shots_and_test(2)
    shots = shots.rows(np.arange(1, 12))  # one class has one shot
    x_ND, label_N = torch.from_numpy(shots.feature_ND), torch.from_numpy(shots.label_N)
    text_DK = torch.from_numpy(text_KD.T.copy())
    w_DK = torch.stack([x_ND[label_N == k].sum(dim=0) for k in range(6)], dim=1)
    b_K = torch.zeros(6, dtype=torch.float64)
    own = torch.stack([x_ND[n] @ text_DK[:, label] for n, label in enumerate(label_N)])
    of_classes = [own[label_N == k].mean() for k in range(6)]
    assert abs(own.mean() - sum(of_classes) / 6) > 0.01
    a_K = torch.full((6,), 250 * (sum(of_classes) / 6).item(), dtype=torch.float64)
    step = 4 * len(x_ND) / torch.linalg.eigvalsh(x_ND.T @ x_ND)[-1]
    blend_step = len(x_ND) / (4 * ((x_ND @ text_DK) ** 2).sum(dim=0).max())
    velocity = [torch.zeros_like(w_DK), torch.zeros_like(b_K)]
    for number in range(1, 301):
        w_DK, b_K, a_K = (t.detach().requires_grad_() for t in (w_DK, b_K, a_K))
        logits_NK = x_ND @ (w_DK + a_K * text_DK) + b_K
        loss = torch.nn.functional.cross_entropy(logits_NK, label_N)
        gradients = torch.autograd.grad(loss, [w_DK, b_K, a_K])
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients[:2], strict=True)]
        w_DK, b_K = w_DK - step * velocity[0], b_K - step * velocity[1]
        if number % 10 == 0:
            a_K = a_K - blend_step * gradients[2]
    expected = (torch.from_numpy(test.feature_ND) @ (w_DK + a_K * text_DK) + b_K).detach().numpy()
    fitted = lp_plus_plus.fit(shots, None, text_KD, SCALE)
    assert fitted.settings == {"steps": 300, "chosen_by": FIXED}
    np.testing.assert_allclose(fitted.logits(test.feature_ND), expected, atol=1e-9)


@by_method
def test_further_shots_choose_and_are_named(method):
    shots, further, _, text_KD = shots_and_test(4)
    chosen = method.fit(shots, further, text_KD, SCALE)
    assert chosen.settings["chosen_by"] == "accuracy, then cross-entropy on 24 further shots"
    right = accuracy(chosen, further)
    assert chosen.settings["further_shots_right"] == round(24 * right)
    found = mean_cross_entropy(chosen.logits(further.feature_ND), further.label_N)
    assert abs(found - chosen.settings["further_cross_entropy"]) < 1e-9
    fixed = method.fit(shots, None, text_KD, SCALE)
    assert fixed.settings["chosen_by"] == FIXED
    assert right >= accuracy(fixed, further)


def test_what_is_chosen_has_most_right_then_the_lowest_cross_entropy_then_comes_first():
    further = Labelled(np.eye(2), np.array([0, 1]))
    weights = (
        [[0.0, 1.0], [1.0, 0.0]],  # both wrong
        [[1.0, 0.0], [0.0, 1.0]],  # both right
        [[2.0, 0.0], [0.0, 2.0]],  # both right, and surer
        [[2.0, 0.0], [0.0, 2.0]],  # the same
        [[90.0, 0.0], [1.0, 0.0]],  # one right, very sure
    )
    candidates = [
        Fitted(LinearClassifier(np.array(weight), np.zeros(2)), {"number": number})
        for number, weight in enumerate(weights)
    ]
    chosen = best(candidates, further)
    assert chosen.settings["number"] == 2
    assert chosen.settings["further_shots_right"] == 2


@by_method
def test_sixteen_shots_are_better_than_one(method):
    many, further, test, text_KD = shots_and_test(16, spread=2.0, text_error=4.0, classes=12)
    few = many.rows(np.arange(0, len(many.label_N), 16))
    one = accuracy(method.fit(few, None, text_KD, SCALE), test)
    assert accuracy(method.fit(many, further, text_KD, SCALE), test) > one + 0.1


def test_at_one_shot_the_text_keeps_it_where_the_plain_probe_drops():
    shots, further, test, text_KD = shots_and_test(1, spread=3.0, text_error=0.5, classes=12)
    first_of_each = Labelled(*(part[::4] for part in further))
    start = accuracy(zero_shot.fit(shots, None, text_KD, SCALE), test)
    for validation in (None, first_of_each):
        plain = accuracy(from_zero.fit(shots, validation, text_KD, SCALE), test)
        kept = accuracy(text_initialised.fit(shots, validation, text_KD, SCALE), test)
        assert plain < start - 0.05
        assert kept >= start


@by_method
def test_a_class_without_shots_gets_finite_logits(method):
    shots, further, test, text_KD = shots_and_test(2)
    seen = shots.rows(np.flatnonzero(shots.label_N != 4))
    logits_NK = method.fit(seen, further, text_KD, SCALE).logits(test.feature_ND)
    assert logits_NK.shape == (240, 6)
    assert np.isfinite(logits_NK).all()


def test_cross_entropy_is_the_literal_one_at_any_size_of_logits():
    generator = np.random.default_rng(0)
    logits_NK, label_N = generator.normal(size=(9, 5)) * 1000, generator.integers(5, size=9)
    assert cross_entropy(logits_NK, label_N) == pytest.approx(
        mean_cross_entropy(logits_NK, label_N), rel=1e-12
    )


def test_a_bias_has_to_be_better_to_be_taken():
    """Twenty shots of class 0 and one of each other teach a bias that is wrong elsewhere."""
    everything, text_KD = world(classes=4, width=24, per_class=24, spread=1.5, text_error=1.0)
    number_N = np.arange(len(everything.label_N)) % 24
    is_shot_N = (number_N == 0) | ((everything.label_N == 0) & (number_N < 20))
    shots = everything.rows(np.flatnonzero(is_shot_N))
    further = everything.rows(np.flatnonzero(number_N >= 20))
    chosen = text_initialised.fit(shots, further, text_KD, SCALE)
    assert chosen.settings["delta_bias"] == 0.0
    for bias_delta in text_initialised.BIAS_DELTAS:
        biased = text_initialised.fit_fixed(
            shots, text_KD, SCALE, delta=chosen.settings["delta"], bias_delta=bias_delta
        )
        right = accuracy(biased, further)
        found = mean_cross_entropy(biased.logits(further.feature_ND), further.label_N)
        assert right <= chosen.settings["further_shots_right"] / 16
        assert found > chosen.settings["further_cross_entropy"]


def test_grids_begin_at_their_cautious_end():
    assert list(DECAYS) == sorted(DECAYS, reverse=True)
    assert list(text_initialised.DELTAS) == sorted(text_initialised.DELTAS)
