import inspect
import weakref

import numpy as np
import pytest

from winnow.evaluation import linear_probe
from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.linear_probe import (
    HIGHEST,
    LOWEST,
    SEARCHES,
    LinearProbe,
    Standing,
    choose,
    choose_holding_out,
    half_decades,
    hold_out,
    openai,
    standing_of,
    strength_at,
)
from winnow.evaluation.logistic import Regression, fit
from winnow.types import InputError


def planted(n, *, seed, width=10, classes=4, spread=1.5):
    means = np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=n)
    feature = means[label] + spread * rng.normal(size=(n, width))
    return Labelled(feature.astype(np.float32), label)


def visits(search, accuracy):
    steps = []

    class Trials:
        def standing(self, step):
            steps.append(step)
            return accuracy(step)

        def has_fallen(self, standing, best):
            return standing < best

    return search(Trials()), steps


def peak_at(best):
    return lambda step: 1 / (2 + abs(step - best))


def test_openai_visits_the_literal_list_of_strengths():
    best, steps = visits(openai, peak_at(-8.9))
    exponents = [-6, -4, -2, 0, 2, 4, 6, -3, -1, -1.5, -0.5, -1.25, -0.75, -1.125, -0.875]
    # The peak lies by -9 eighths: two decades apart, then 1, 1/2, 1/4 and 1/8.
    assert [step / 8 for step in steps[:9]] == [-6, -4, -2, 0, 2, 4, 6, -3, -1]
    assert [step / 8 for step in steps] == exponents
    assert best / 8 == -1.125
    assert strength_at(best) == pytest.approx(10**-1.125)
    assert [strength_at(step) for step in steps[:7]] == pytest.approx(
        [1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6]
    )


@pytest.mark.parametrize("best", range(LOWEST, HIGHEST + 1))
def test_openai_finds_any_single_peak_of_the_grid(best):
    found, steps = visits(openai, peak_at(best))
    assert found == best
    assert len(steps) == len(set(steps)) <= 15
    assert all(LOWEST <= step <= HIGHEST for step in steps)


def test_half_decades_go_up_until_the_accuracy_has_fallen_for_a_while():
    found, steps = visits(half_decades, peak_at(-8))
    assert found == -8
    assert [step / 8 for step in steps] == [e / 2 for e in range(-12, 2)]  # to three past 1e-1


def test_half_decades_bear_a_dip_and_a_plateau():
    # Chance for two decades, up, two worse ones, then the best.
    values = [0.1] * 5 + [0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.59]
    found, steps = visits(half_decades, lambda step: (values + [1.0] * 99)[(step - LOWEST) // 4])
    assert (found - LOWEST) // 4 == 8
    assert len(steps) == 12


def test_half_decades_end_where_the_grid_does():
    _, steps = visits(half_decades, lambda step: (step - LOWEST) / 1000)
    assert len(steps) == 25


def test_a_ripple_at_tiny_strengths_does_not_end_the_search():
    # Directions that tell nothing are 40 times as wide, and the first to be fitted.
    rng = np.random.default_rng(1)
    means, wide = rng.normal(size=(6, 24)) * 0.3, np.where(np.arange(24) < 3, 20.0, 0.5)
    label = np.arange(360) % 6
    feature = (means[label] + wide * rng.normal(size=(360, 24))).astype(np.float32)
    train, validation = (
        Labelled(feature[rows], label[rows]) for rows in (slice(0, 240), slice(240, 360))
    )
    chosen = choose(train, validation, num_classes=6, config=LinearProbe())
    first, *later = [point.validation_accuracy for point in chosen.path]
    assert max(later[:3]) <= first < 0.2
    assert chosen.strength > 1e-4
    assert max(later) > 0.7


def test_less_is_a_fall_if_it_is_clear_and_something_was_learned():
    """50 samples of two classes: 0.8 has an error of 0.057, and log 2 is 0.693."""
    label = np.arange(50) % 2
    trials = linear_probe._Trials(
        Labelled(np.eye(2, dtype=np.float32)[label], label),
        Labelled(np.eye(2, dtype=np.float32)[label], label),
        2,
        LinearProbe(),
        "cpu",
    )
    best = Standing(0.8, -0.5)
    assert trials.has_fallen(Standing(0.74, -0.4), best)
    assert not trials.has_fallen(Standing(0.75, -0.9), best)
    assert not trials.has_fallen(Standing(0.5, -0.7), Standing(0.8, -0.63))
    assert trials.has_fallen(Standing(0.5, -0.7), Standing(0.8, -0.62))


@pytest.mark.parametrize("search", SEARCHES)
def test_of_equals_the_strongest_regularization_is_taken(search):
    found, _ = visits(SEARCHES[search], lambda step: 0.5 if step >= -16 else 0.1)
    assert found == -16
    assert visits(SEARCHES[search], lambda _: 0.3)[0] == LOWEST


@pytest.mark.parametrize("search", SEARCHES)
def test_the_choice_is_that_of_single_cold_fits(search):
    train, validation = planted(300, seed=1), planted(400, seed=2)
    config = LinearProbe(search=search)
    chosen = choose(train, validation, num_classes=4, config=config)
    assert chosen.held_out == linear_probe.OWN_SPLIT
    for point in chosen.path:
        cold = fit(train, num_classes=4, strength=point.strength)
        assert point.converged
        assert point.loss == pytest.approx(cold.loss, rel=1e-4)
        accuracy = np.mean(
            cold.classifier.logits(validation.feature_ND).argmax(axis=1) == validation.label_N
        )
        assert point.validation_accuracy == pytest.approx(accuracy, abs=2.5 / 400)
        own = cold.classifier.logits(validation.feature_ND).astype(np.float64)
        share = np.exp(own) / np.exp(own).sum(axis=1, keepdims=True)
        nats = -np.log(share[np.arange(400), validation.label_N]).mean()
        assert point.validation_cross_entropy == pytest.approx(nats, rel=1e-3)
    best = max(chosen.path, key=lambda p: (p.validation_accuracy, -p.validation_cross_entropy))
    assert chosen.strength == best.strength
    assert best.validation_accuracy > 0.6  # and chance is 0.25


@pytest.mark.parametrize("search", SEARCHES)
def test_of_strengths_as_accurate_the_most_confident_rightly_is_taken(search):
    # Two far classes: every strength has all right, and the smallest knows least about it.
    train = Labelled(
        np.repeat([[-3.0], [3.0]], 10, axis=0).astype(np.float32), np.repeat([0, 1], 10)
    )
    chosen = choose(train, train, num_classes=2, config=LinearProbe(search=search))
    assert {point.validation_accuracy for point in chosen.path} == {1.0}
    assert chosen.strength > 1
    lowest = min(chosen.path, key=lambda point: point.validation_cross_entropy)
    assert chosen.strength == lowest.strength


def test_samples_of_a_class_that_was_not_trained_on_do_not_decide():
    unseen = LinearClassifier(np.zeros((1, 2), np.float32), np.array([0, -1e30], np.float32))
    samples = Labelled(np.zeros((4, 1), np.float32), np.array([0, 0, 0, 1]))
    assert standing_of(unseen, samples) == (0.75, -25.0)


def test_a_tie_is_a_miss_where_a_strength_is_chosen_too():
    constant = LinearClassifier(np.zeros((1, 2), np.float32), np.zeros(2, np.float32))
    samples = Labelled(np.ones((4, 1), np.float32), np.array([0, 0, 0, 1]))
    assert standing_of(constant, samples).accuracy == 0.0


def test_the_probe_is_fitted_to_training_and_validation_samples():
    train, validation = planted(300, seed=1), planted(200, seed=2)
    chosen = choose(train, validation, num_classes=4, config=LinearProbe(tolerance=1e-9))
    both = Labelled(*map(np.concatenate, zip(train, validation, strict=True)))
    expected = fit(both, num_classes=4, strength=chosen.strength, tolerance=1e-9)
    np.testing.assert_allclose(
        chosen.classifier.weight_DK, expected.classifier.weight_DK, atol=1e-3
    )
    test = planted(2000, seed=3)
    alone = fit(train, num_classes=4, strength=chosen.strength).classifier
    assert standing_of(chosen.classifier, test).accuracy > 0.6
    assert np.abs(alone.weight_DK - chosen.classifier.weight_DK).max() > 1e-2


def test_nothing_that_chooses_can_be_given_test_samples():
    for function in (choose, choose_holding_out):
        given = inspect.signature(function).parameters
        assert [name for name in given if "test" in name] == []
    samples = [
        name
        for name, parameter in inspect.signature(choose).parameters.items()
        if parameter.annotation is Labelled
    ]
    assert samples == ["train", "validation"]


def split(label, keys, **changed):
    options = {"fingerprint": "f", "num_classes": 10, "share": 0.2, "seed": 0} | changed
    return hold_out(label, keys, **options)


def test_what_is_held_out_is_told_by_keys_and_not_by_rows():
    rng = np.random.default_rng(0)
    label, keys = rng.integers(10, size=500), [f"key{i}" for i in range(500)]
    rows = split(label, keys)
    again = split(label, keys)
    np.testing.assert_array_equal(rows.validation, again.validation)
    order = rng.permutation(500)
    shuffled = split(label[order], [keys[i] for i in order])
    assert {keys[order[i]] for i in shuffled.validation} == {keys[i] for i in rows.validation}
    for changed in ({"seed": 1}, {"fingerprint": "g"}):
        assert set(split(label, keys, **changed).validation) != set(rows.validation)


def test_a_share_of_every_class_is_held_out_and_never_all_of_one():
    label = np.repeat([0, 1, 2, 3, 5], [100, 10, 3, 2, 1])
    rows = split(label, [str(i) for i in range(116)])
    assert sorted([*rows.training, *rows.validation]) == list(range(116))
    counts = np.bincount(label[rows.validation], minlength=6)
    assert counts.tolist() == [20, 2, 1, 1, 0, 0]
    most = np.bincount(label[split(label, [str(i) for i in range(116)], share=0.9).training])
    assert most.tolist() == [10, 1, 1, 1, 0, 1]


def test_without_a_validation_split_the_result_says_what_chose():
    samples = planted(300, seed=1)
    keys = [f"key{i}" for i in range(300)]
    config = LinearProbe(search="openai")
    chosen = choose_holding_out(samples, keys, fingerprint="f", num_classes=4, config=config)
    number = len(split(samples.label_N, keys, num_classes=4).validation)
    assert chosen.held_out == f"{number} held out of 300 training samples"
    settings = chosen.settings
    assert settings["chosen_by"] == chosen.held_out
    assert (settings["search"], settings["strength"]) == ("openai", chosen.strength)
    assert (settings["converged"], settings["not_converged"]) == (True, [])
    assert settings["path"] == sorted(settings["path"])
    assert len(settings["path"]) == len(chosen.path) <= 15


def test_rows_held_out_choose_as_a_split_of_their_own_does():
    samples, keys = planted(300, seed=1), [f"key{i}" for i in range(300)]
    config = LinearProbe(tolerance=1e-9)
    chosen = choose_holding_out(samples, keys, fingerprint="f", num_classes=4, config=config)
    rows = split(samples.label_N, keys, num_classes=4)
    train, validation = samples.rows(rows.training), samples.rows(rows.validation)
    expected = choose(train, validation, num_classes=4, config=config)
    assert chosen.path == expected.path
    assert chosen.strength == expected.strength
    np.testing.assert_allclose(
        chosen.classifier.weight_DK, expected.classifier.weight_DK, atol=1e-3
    )


class Watched(np.ndarray):
    """Features that note how many rows are read at once."""

    def __new__(cls, feature):
        watched = np.asarray(feature).view(cls)
        watched.reads = []
        return watched

    def __getitem__(self, index):
        rows = np.asarray(self)[index]
        self.reads.append(len(rows))
        return rows

    def __array_function__(self, function, types, arguments, options):
        raise AssertionError(f"{function.__name__} takes all features at once")


@pytest.mark.parametrize("holds_out", [False, True])
def test_features_are_read_in_blocks_and_one_regression_has_a_copy(monkeypatch, holds_out):
    made = []

    class Counted(Regression):
        def __init__(self, *parts, **options):
            assert [other for other in made if other() is not None] == []
            made.append(weakref.ref(self))
            super().__init__(*parts, block_elements=32 * 10, **options)

    monkeypatch.setattr(linear_probe, "Regression", Counted)
    monkeypatch.setattr(linear_probe, "_ROWS_AT_ONCE", 32)
    train, validation = planted(300, seed=1), planted(200, seed=2)
    watched = [Labelled(Watched(one.feature_ND), one.label_N) for one in (train, validation)]
    options = {"num_classes": 4, "config": LinearProbe()}
    if holds_out:
        keys = [f"key{i}" for i in range(300)]
        choose_holding_out(watched[0], keys, fingerprint="f", **options)
    else:
        choose(*watched, **options)
    assert len(made) == 2  # one that chooses and one that is fitted to all
    reads = [number for one in watched for number in one.feature_ND.reads]
    assert max(reads) == 32
    assert sum(watched[0].feature_ND.reads) >= 2 * 300


def test_fits_that_ran_out_of_iterations_are_named():
    train, validation = planted(300, seed=1), planted(100, seed=2)
    config = LinearProbe(max_iterations=1, tolerance=1e-12)
    settings = choose(train, validation, num_classes=4, config=config).settings
    assert not settings["converged"]
    assert settings["not_converged"]


def test_a_class_only_in_validation_is_part_of_the_probe():
    train, validation = planted(300, seed=1), planted(300, seed=2)
    train = train.rows(np.flatnonzero(train.label_N != 3))
    chosen = choose(train, validation, num_classes=4, config=LinearProbe())
    predicted = chosen.classifier.logits(validation.feature_ND).argmax(axis=1)
    assert (predicted == 3).sum() > 20


def test_what_cannot_choose_is_refused():
    samples = planted(10, seed=1)
    with pytest.raises(InputError, match="no validation samples"):
        choose(samples, samples.rows(np.arange(0)), num_classes=4, config=LinearProbe())
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="held_out must be between 0 and 1"):
            LinearProbe(held_out=share)
    with pytest.raises(InputError, match="max_iterations must be at least 1, not 0"):
        LinearProbe(max_iterations=0)
    for tolerance in (0.0, -1e-6, np.nan):
        with pytest.raises(InputError, match=f"tolerance must be above 0, not {tolerance}"):
            LinearProbe(tolerance=tolerance)
