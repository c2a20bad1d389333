from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import ArrayFeatures, concept_sets, head_labels, planted
from safetensors.torch import load_file, save_file

from winnow.concepts.head_rows import (
    RUN_LENGTH,
    draws,
    frequencies_of,
    held_out,
    repeats,
    targets_of,
    windows,
)
from winnow.concepts.head_training import gradient_of, standardisation, train_heads
from winnow.concepts.heads import Heads, LinearHead, predict, top_k
from winnow.concepts.heads_facts import (
    FACTS_FILE,
    HEADS_FILE,
    HEADS_VERSION,
    HeadsConfig,
    HeadsFacts,
)
from winnow.types import InputError

SIZE = 12
CONFIG = HeadsConfig(
    epochs=12, batch_size=64, learning_rate=0.03, weight_decay=0, held_out=0.2, window_rows=1024
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small take longer on several threads, and much longer beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pairs():
    """Features; labels of objects, and of attributes that are the objects above 3; picture ids."""
    features_NF, concepts = planted()
    attributes = [[c - 4 for c in row if c >= 4] for row in concepts]
    labels = {"objects": head_labels(concepts), "attributes": head_labels(attributes)}
    return features_NF, labels, np.arange(len(concepts), dtype=np.uint64) * 977


SIZES = {"objects": SIZE, "attributes": SIZE - 4}


def trained(pairs, config=CONFIG, sizes=SIZES):
    features_NF, labels, picture_ids = pairs
    labels = {name: labels[name] for name in sizes}
    return train_heads(ArrayFeatures(features_NF), labels, picture_ids, sizes=sizes, config=config)


@pytest.fixture(scope="module")
def result(pairs):
    return trained(pairs)


# Which rows, how often


def test_targets_are_uniform_over_the_captions_concepts_in_the_order_of_rows():
    labels = head_labels([[3, 1], [], [7], [0, 2, 9, 4]])
    targets = targets_of(labels, np.array([3, 0, 2]))
    assert targets.picture_P.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert targets.concept_P.tolist() == [0, 2, 4, 9, 1, 3, 7]
    assert targets.mass_P.tolist() == [0.25] * 4 + [0.5] * 2 + [1.0]


def test_frequencies_count_pairs_and_masses():
    labels = head_labels([[3, 1], [], [3], [0, 1, 3, 4], [2]])
    found = frequencies_of(labels, np.array([0, 1, 2, 3]), size=6, block=2)
    assert found.pairs == 3
    assert found.count_V.tolist() == [1, 2, 0, 3, 1, 0]
    assert found.mass_V.tolist() == [0.25, 0.75, 0, 1.75, 0.25, 0]


def test_a_pair_is_repeated_for_its_rarest_concept():
    labels = head_labels([[0], [0, 1], [1, 2], [2], [3]])
    frequency_V = np.array([0.5, 1e-3, 1e-4, 4e-5])
    found = repeats(targets_of(labels, np.arange(5)), frequency_V, rows=5, threshold=1e-3)
    assert found == pytest.approx([1, 1, 10**0.5, 10**0.5, 5])
    none = repeats(targets_of(labels, np.arange(5)), frequency_V, rows=5, threshold=0.0)
    assert none.tolist() == [1] * 5


def test_draws_have_the_repeats_as_their_mean_and_round_up_or_down():
    rows = np.arange(1000, 1400)
    wanted = np.tile([1.0, 1.25, 2.5, 4.9], 100)
    counts = np.stack(
        [np.bincount(draws(rows, wanted, seed=1, epoch=e), minlength=400) for e in range(400)]
    )
    assert np.array_equal(counts.min(axis=0), np.floor(wanted))
    assert np.array_equal(counts.max(axis=0), np.ceil(wanted))
    means = counts.reshape(400, 100, 4).mean(axis=(0, 1))
    # 40,000 draws of a coin: a standard error of at most 0.0025.
    assert means == pytest.approx([1.0, 1.25, 2.5, 4.9], abs=0.01)
    # Whether one row is rounded up says nothing of the epoch after it, nor of its neighbour.
    up = counts.reshape(400, 100, 4)[:, :, 2] - 2.5
    assert abs(np.mean(up[1:] * up[:-1])) < 0.005
    assert abs(np.mean(up[:, 1:] * up[:, :-1])) < 0.005


def test_draws_are_shuffled_copies_too():
    drawn = draws(np.arange(2000), np.full(2000, 2.0), seed=0, epoch=0)
    assert np.array_equal(np.sort(drawn), np.repeat(np.arange(2000), 2))
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.05
    assert np.sum(drawn[1:] == drawn[:-1]) < 10
    assert not np.array_equal(drawn, draws(np.arange(2000), np.full(2000, 2.0), seed=0, epoch=1))
    assert not np.array_equal(drawn, draws(np.arange(2000), np.full(2000, 2.0), seed=1, epoch=0))


def test_copies_of_a_picture_are_held_out_together():
    ids = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    whole = held_out(ids, share=0.05, seed=3)
    assert abs(whole.mean() - 0.05) < 0.005
    assert np.array_equal(held_out(np.repeat(ids, 3), share=0.05, seed=3), np.repeat(whole, 3))
    both = whole & held_out(ids, share=0.05, seed=4)
    assert abs(both.mean() - 0.0025) < 0.0015
    assert np.all(held_out(ids, share=0.2, seed=3)[whole])


def test_windows_are_every_row_once_in_runs_of_neighbours():
    size = 4 * RUN_LENGTH
    for epoch in (0, 5):
        parts = list(windows(5000, size=size, seed=2, epoch=epoch))
        assert [len(part) for part in parts] == [size] * 4 + [5000 - 4 * size]
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(5000))
        assert all(np.all(np.diff(part) > 0) for part in parts)
        # A last run is shorter, so a window may touch two more runs than it holds.
        assert max(np.sum(np.diff(part) > 1) for part in parts) < 4 + 2 * RUN_LENGTH
    first, second = (
        np.concatenate(list(windows(5000, size=size, seed=2, epoch=epoch))) for epoch in (0, 1)
    )
    assert not np.array_equal(first, second)


# The training


def test_the_gradient_is_that_of_the_literal_loss():
    random = np.random.default_rng(0)
    concepts = [[2], [0, 4], [1, 2, 3, 6], [5]]
    logits_BV = torch.tensor(4 * random.standard_normal((4, 7)), requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    for i, row in enumerate(concepts):
        exponentials = sum(torch.exp(logits_BV[i, c]) for c in range(7))
        total = total + torch.log(exponentials) - sum(logits_BV[i, c] for c in row) / len(row)
    (expected,) = torch.autograd.grad(total, logits_BV)
    found = gradient_of(logits_BV.detach(), targets_of(head_labels(concepts), np.arange(4)))
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    assert found.sum(dim=1).abs().max() < 1e-14


def test_standardisation_is_that_of_all_rows_together(monkeypatch):
    monkeypatch.setattr("winnow.concepts.head_training._AVERAGED_AT_ONCE", 7)
    random = np.random.default_rng(0)
    features_NF = (1000 + random.standard_normal((50, 5))).astype(np.float32)
    features_NF[:, 2], features_NF[:, 3] = 0.1, 0
    rows = np.arange(3, 48, 2)
    found = standardisation(ArrayFeatures(features_NF), rows)
    exact_NF = features_NF[rows].astype(np.float64)
    assert found.mean_F == pytest.approx(exact_NF.mean(axis=0), rel=1e-14)
    live = [0, 1, 4]
    assert found.deviation_F[live] == pytest.approx(exact_NF.std(axis=0)[live], rel=1e-12)
    assert np.isposinf(found.deviation_F[[2, 3]]).all()


def optimum(pairs):
    """The least mean loss on the pairs that are not held out: L-BFGS in float64."""
    features_NF, labels, picture_ids = pairs
    rows = np.flatnonzero(~held_out(picture_ids, share=CONFIG.held_out, seed=CONFIG.seed))
    concepts = concept_sets(labels["objects"])
    rows = np.array([row for row in rows if concepts[row]])
    target_NV = torch.zeros(len(rows), SIZE, dtype=torch.float64)
    for place, row in enumerate(rows):
        target_NV[place, concepts[row]] = 1 / len(concepts[row])
    x_NF = torch.tensor(features_NF[rows], dtype=torch.float64)
    z_NF = (x_NF - x_NF.mean(dim=0)) / x_NF.std(dim=0).clamp(min=1e-3)
    weight_VF = torch.zeros(SIZE, z_NF.shape[1], dtype=torch.float64, requires_grad=True)
    bias_V = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight_VF, bias_V], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def loss():
        return -(target_NV * (z_NF @ weight_VF.T + bias_V).log_softmax(dim=1)).sum(dim=1).mean()

    def closure():
        solver.zero_grad()
        value = loss()
        value.backward()
        return value

    solver.step(closure)
    return float(loss().detach()), features_NF[rows], target_NV.numpy()


def test_training_reaches_the_optimum_that_another_solver_finds(pairs):
    least, features_NF, target_NV = optimum(pairs)
    config = replace(CONFIG, epochs=150, batch_size=512, upsampling_threshold=0)
    heads, _ = trained(pairs, config, sizes={"objects": SIZE})
    probability_NV = heads.probabilities(features_NF)["objects"].astype(np.float64)
    loss = float(-(target_NV * np.log(probability_NV)).sum(axis=1).mean())
    assert least - 1e-5 < loss < least + 1e-3
    start = -(target_NV * np.log(target_NV.mean(axis=0))).sum(axis=1).mean()
    assert least < start - 0.5


def test_a_head_finds_what_is_there_and_nothing_in_shuffled_labels(pairs, result):
    features_NF, labels, picture_ids = pairs
    _, report = result
    for name in SIZES:
        first = report[name].recall[0]
        assert first.low > first.majority + 0.1
        assert report[name].cross_entropy < report[name].cross_entropy_of_frequencies - 0.5
        assert report[name].calibration_error < 0.25
    order = np.random.default_rng(1).permutation(len(features_NF))
    config = replace(CONFIG, weight_decay=30_000)
    _, shuffled = trained((features_NF[order], labels, picture_ids), config)
    for name in SIZES:
        first = shuffled[name].recall[0]
        assert first.low <= first.majority
        of_frequencies = shuffled[name].cross_entropy_of_frequencies
        assert abs(shuffled[name].cross_entropy - of_frequencies) < 0.05


def test_the_report_counts_what_there_is(pairs, result):
    _, labels, picture_ids = pairs
    out = held_out(picture_ids, share=0.2, seed=0)
    _, report = result
    for name, size in SIZES.items():
        has = np.diff(labels[name].offsets_N1) > 0
        found = report[name]
        assert found.size == size
        assert (found.trained, found.held_out) == (np.sum(~out), np.sum(out))
        assert found.trained_with_concept == np.sum(has & ~out)
        assert found.held_out_with_concept == np.sum(has & out)


def weights(heads):
    return {
        f"{name}.{part}": tensor
        for name, head in heads.linear.items()
        for part, tensor in head._asdict().items()
    }


def same(first, second):
    one, other = weights(first), weights(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_held_out_teaches_nothing(pairs, result):
    features_NF, labels, picture_ids = pairs
    out = held_out(picture_ids, share=0.2, seed=0)
    random = np.random.default_rng(0)
    other_NF = np.where(out[:, None], random.standard_normal(features_NF.shape), features_NF)
    concepts = [
        [5] if is_out else row
        for row, is_out in zip(concept_sets(labels["objects"]), out, strict=True)
    ]
    changed = {**labels, "objects": head_labels(concepts)}
    heads, report = trained((other_NF.astype(np.float32), changed, picture_ids))
    assert same(heads, result[0])
    assert report["objects"].recall[0].value < result[1]["objects"].recall[0].value - 0.2


def test_the_seed_alone_decides(pairs, result):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    heads, report = trained(pairs)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(heads, result[0]) and report == result[1]
    other, _ = trained(pairs, replace(CONFIG, seed=1))
    assert not same(other, result[0])


def test_a_head_learns_the_same_beside_another_and_alone(pairs, result):
    for name, size in SIZES.items():
        alone, _ = trained(pairs, sizes={name: size})
        for part in ("weight_VF", "bias_V"):
            assert torch.equal(
                getattr(alone.linear[name], part), getattr(result[0].linear[name], part)
            )


def test_a_head_is_linear_in_the_feature_whatever_its_scale(pairs, result):
    features_NF, labels, picture_ids = pairs
    scale_F = 2.0 ** np.arange(features_NF.shape[1]) / 64  # exact in floating point
    heads, _ = trained(((features_NF * scale_F).astype(np.float32), labels, picture_ids))
    for name in SIZES:
        expected = result[0].probabilities(features_NF)[name]
        found = heads.probabilities(features_NF * scale_F)[name]
        assert np.abs(found - expected).max() < 1e-4
    assert heads.linear["objects"].weight_VF[:, -1].abs().max() == 0  # a constant teaches nothing


def test_float16_features_train_like_the_float32_they_stand_for(pairs):
    features_NF, labels, picture_ids = pairs
    half_NF = features_NF.astype(np.float16)
    half, _ = trained((half_NF, labels, picture_ids))
    full, _ = trained((half_NF.astype(np.float32), labels, picture_ids))
    assert same(half, full)


def test_no_more_than_a_window_of_features_is_asked_for_at_once(pairs, monkeypatch):
    monkeypatch.setattr("winnow.concepts.head_training._AVERAGED_AT_ONCE", 300)
    monkeypatch.setattr("winnow.concepts.head_training._MEASURED_AT_ONCE", 300)
    features_NF, labels, picture_ids = pairs
    features = ArrayFeatures(features_NF)
    config = replace(CONFIG, epochs=2, window_rows=512)
    train_heads(features, labels, picture_ids, sizes=SIZES, config=config)
    assert 300 < max(len(rows) for rows in features.asked) <= 512
    assert all(np.all(np.diff(rows) > 0) for rows in features.asked)
    # Both heads learn from one reading: once to standardise, twice to train, once to measure.
    out = held_out(picture_ids, share=0.2, seed=0)
    asked = np.bincount(np.concatenate(features.asked), minlength=3000)
    assert np.array_equal(asked, np.where(out, 1, 3))


def test_upsampling_makes_rare_concepts_more_probable(pairs):
    features_NF = pairs[0]
    means = [
        trained(pairs, replace(CONFIG, upsampling_threshold=threshold))[0]
        .probabilities(features_NF)["objects"]
        .mean(axis=0)
        for threshold in (0.0, 0.3)
    ]
    counts = np.bincount(pairs[1]["objects"].values, minlength=SIZE)
    rare = counts < 0.05 * len(features_NF)
    assert rare.sum() >= 2
    assert np.all(means[1][rare] > 1.2 * means[0][rare])
    assert means[1][0] < means[0][0]


def test_decay_holds_a_head_back(pairs):
    norms = [
        float(trained(pairs, replace(CONFIG, weight_decay=decay))[0].linear["objects"][0].norm())
        for decay in (0.0, 3e3, 3e4, 1e9)
    ]
    assert norms == sorted(norms, reverse=True)
    assert norms[2] < 0.5 * norms[0]
    assert np.isfinite(norms).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("window_rows", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("weight_decay", float("inf")),
        ("upsampling_threshold", -0.1),
        ("upsampling_threshold", 1.1),
        ("held_out", 0.0),
        ("held_out", 1.0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=field):
        HeadsConfig(**{field: value})


def test_a_head_without_pairs_is_refused(pairs):
    features_NF, labels, picture_ids = pairs
    out = held_out(picture_ids, share=0.2, seed=0)
    concepts = concept_sets(labels["attributes"])
    for keep, message in ((out, "training pairs names"), (~out, "pairs held out")):
        rows = [row if kept else [] for row, kept in zip(concepts, keep, strict=True)]
        changed = {**labels, "attributes": head_labels(rows)}
        with pytest.raises(InputError, match=message):
            trained((features_NF, changed, picture_ids))


def test_features_that_are_not_finite_are_refused(pairs):
    features_NF, labels, picture_ids = pairs
    broken_NF = features_NF.copy()
    broken_NF[np.flatnonzero(~held_out(picture_ids, share=0.2, seed=0))[7], 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        trained((broken_NF, labels, picture_ids))


# On disk


@pytest.fixture(scope="module")
def facts(result):
    return HeadsFacts(
        vocabulary="aa",
        labels="dd",
        selection="bb",
        pictures="ee",
        teacher="made-up",
        teacher_identity="cc",
        version=HEADS_VERSION,
        config=CONFIG,
        report=result[1],
    )


def test_saved_heads_come_back_bit_for_bit_with_their_facts(result, facts, tmp_path):
    folder = tmp_path / "teacher"
    assert HeadsFacts.of(folder) is None
    result[0].save(folder, facts)
    assert sorted(path.name for path in folder.iterdir()) == [FACTS_FILE, HEADS_FILE]
    heads = Heads.open(folder)
    assert same(heads, result[0])
    assert heads.fingerprint() == result[0].fingerprint()
    assert heads.width == 16
    assert HeadsFacts.of(folder) == facts


def test_heads_that_are_not_whole_are_refused(result, facts, tmp_path):
    with pytest.raises(InputError, match="no complete concept heads"):
        Heads.open(tmp_path)
    result[0].save(tmp_path, facts)
    whole = (tmp_path / HEADS_FILE).read_bytes()
    (tmp_path / HEADS_FILE).write_bytes(whole[:-10])
    with pytest.raises(InputError, match="damaged"):
        Heads.open(tmp_path)
    tensors = load_file_from(whole, tmp_path)
    tensors["objects.bias"][0] += 1
    save_file(tensors, tmp_path / HEADS_FILE)
    with pytest.raises(InputError, match="not the weights"):
        Heads.open(tmp_path)
    save_file({"objects.weight": torch.zeros(2, 2)}, tmp_path / HEADS_FILE)
    with pytest.raises(InputError, match=r"damaged .*objects\.bias"):
        Heads.open(tmp_path)
    (tmp_path / HEADS_FILE).unlink()
    with pytest.raises(InputError, match="damaged"):
        Heads.open(tmp_path)
    (tmp_path / FACTS_FILE).write_text("{}")
    for read in (Heads.open, HeadsFacts.of):
        with pytest.raises(InputError, match="make them again"):
            read(tmp_path)


def load_file_from(data, folder):
    (folder / "other").write_bytes(data)
    tensors = load_file(folder / "other")
    (folder / "other").unlink()
    return tensors


def test_heads_count_as_written_only_at_the_end(result, facts, tmp_path, monkeypatch):
    result[0].save(tmp_path, facts)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("winnow.concepts.heads.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        result[0].save(tmp_path, facts)
    assert HeadsFacts.of(tmp_path) is None


# Their answers


def test_top_k_equals_a_sort_of_the_renormalised_probabilities():
    random = np.random.default_rng(0)
    logits_NV = np.round(2 * random.standard_normal((300, 40)), 1).astype(np.float32)  # with ties
    logits_NV[0] = 1.0
    found = top_k(logits_NV, 5)
    assert found.index_NK.dtype == np.int64 and found.mass_NK.dtype == np.float64
    for logits, indexes, masses in zip(logits_NV, found.index_NK, found.mass_NK, strict=True):
        expected = sorted(range(40), key=lambda c: (-logits[c], c))[:5]
        assert indexes.tolist() == expected
        powers = np.exp(logits.astype(np.float64))
        assert masses == pytest.approx(powers[expected] / powers[expected].sum(), rel=1e-12)
    assert np.abs(found.mass_NK.sum(axis=1) - 1).max() < 1e-15


def test_top_k_stands_logits_that_overflow_an_exponential():
    logits_NV = np.array([[1e4, 0.0, -1e4, 9990.0, -2e4]], dtype=np.float32)
    found = top_k(logits_NV, 4)
    assert found.index_NK.tolist() == [[0, 3, 1, 2]]
    assert found.mass_NK[0] == pytest.approx([1 / (1 + np.exp(-10)), 1 / (1 + np.exp(10)), 0, 0])


def test_a_head_smaller_than_k_gives_all_it_has(pairs, result, monkeypatch):
    monkeypatch.setattr("winnow.concepts.heads._BLOCK", 700)
    features_NF, _, _ = pairs
    heads, _ = result
    parts = list(predict(heads, ArrayFeatures(features_NF), 10, rows=np.arange(len(features_NF))))
    assert [len(rows) for rows, _ in parts] == [700] * 4 + [200]
    assert np.array_equal(np.concatenate([rows for rows, _ in parts]), np.arange(3000))
    probabilities = heads.probabilities(features_NF)
    for name, kept in (("objects", 10), ("attributes", 8)):
        index_NK = np.concatenate([found[name].index_NK for _, found in parts])
        mass_NK = np.concatenate([found[name].mass_NK for _, found in parts])
        assert index_NK.shape == mass_NK.shape == (3000, kept)
        expected_NK = np.take_along_axis(probabilities[name], index_NK, axis=1)
        expected_NK /= expected_NK.sum(axis=1, keepdims=True)
        assert np.abs(mass_NK - expected_NK).max() < 1e-5
        assert np.all(np.diff(mass_NK, axis=1) <= 0)
    assert np.abs(mass_NK - np.sort(probabilities["attributes"], axis=1)[:, ::-1]).max() < 1e-5


def test_probabilities_are_those_of_the_linear_map():
    weight_VF = torch.tensor([[1.0, 0.0], [0.0, -1.0], [2.0, 1.0]])
    heads = Heads({"objects": LinearHead(weight_VF, torch.tensor([0.0, 0.5, -1.0]))})
    found = heads.probabilities(np.array([[1.0, 2.0]], dtype=np.float16))["objects"]
    powers = np.exp([1.0, -1.5, 3.0])
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(powers / powers.sum(), rel=1e-6)


def test_another_teachers_features_and_no_k_are_refused(result):
    features = ArrayFeatures(np.zeros((4, 9), dtype=np.float32))
    with pytest.raises(InputError, match="width 16, and these have 9"):
        next(predict(result[0], features, 5, rows=np.arange(4)))
    with pytest.raises(InputError, match="k is 0"):
        next(predict(result[0], ArrayFeatures(np.zeros((4, 16), np.float32)), 0, rows=np.arange(4)))
