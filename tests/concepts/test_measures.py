import math

import numpy as np
import pytest

from winnow.concepts.measures import (
    BIN_EDGES,
    RECALL_AT,
    Frequencies,
    HeadReport,
    Targets,
    measure_batch,
    report_of,
)
from winnow.config import as_dict, from_dict
from winnow.statistics import wilson_interval

SIZE = 23


def targets_from(concepts):
    """Targets of a list of concepts per picture."""
    entries = [(i, c, 1 / len(row)) for i, row in enumerate(concepts) for c in row]
    pictures, values, masses = zip(*entries, strict=True)
    return Targets(np.array(pictures), np.array(values), np.array(masses))


@pytest.fixture
def case():
    """Logits with ties, concepts, and frequencies with ties."""
    random = np.random.default_rng(3)
    logits_BV = np.round(3 * random.standard_normal((60, SIZE)), 1).astype(np.float32)
    logits_BV[:20] *= 5
    concepts = [
        sorted(random.choice(SIZE, size=random.integers(1, 5), replace=False).tolist())
        for _ in range(60)
    ]
    count_V = random.integers(0, 6, SIZE)
    mass_V = 40 * count_V / count_V.sum()
    return logits_BV, concepts, Frequencies(pairs=40, count_V=count_V, mass_V=mass_V)


def softmax(logits):
    largest = max(logits)
    powers = [math.exp(logit - largest) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def test_recall_equals_the_literal_loop_and_a_tie_is_a_miss(case):
    logits_BV, concepts, frequencies = case
    batch = measure_batch(logits_BV, targets_from(concepts), frequencies)
    ranked = sorted(range(SIZE), key=lambda c: (-frequencies.count_V[c], c))
    ties = 0
    for i, row in enumerate(concepts):
        logits = logits_BV[i].tolist()
        for place, k in enumerate(RECALL_AT):
            found = sum(sum(1 for other in logits if other >= logits[c]) <= k for c in row)
            assert batch.recall_BK[i, place] == pytest.approx(found / len(row), abs=1e-15)
            common = sum(c in ranked[:k] for c in row)
            assert batch.majority_BK[i, place] == pytest.approx(common / len(row), abs=1e-15)
            ties += found != sum(sum(1 for other in logits if other > logits[c]) < k for c in row)
    assert ties > 0


def test_cross_entropies_equal_the_literal_loop(case):
    logits_BV, concepts, frequencies = case
    batch = measure_batch(logits_BV, targets_from(concepts), frequencies)
    smoothed = [(mass + 1 / SIZE) / 41 for mass in frequencies.mass_V]
    for i, row in enumerate(concepts):
        logits = [float(logit) for logit in logits_BV[i]]
        lse = math.log(math.fsum(math.exp(logit) for logit in logits))
        expected = lse - math.fsum(logits[c] for c in row) / len(row)
        assert batch.cross_entropy_B[i] == pytest.approx(expected, rel=1e-12)
        of_frequencies = -math.fsum(math.log(smoothed[c]) for c in row) / len(row)
        assert batch.cross_entropy_of_frequencies_B[i] == pytest.approx(of_frequencies, rel=1e-12)


def test_calibration_equals_the_literal_loop(case):
    logits_BV, concepts, frequencies = case
    targets = targets_from(concepts)
    report = report_of(
        [measure_batch(logits_BV, targets, frequencies)], frequencies, trained=50, held_out=70
    )
    edges = [0.0, *BIN_EDGES.tolist(), math.inf]
    entries = [
        (p, 1 / len(row) if c in row else 0.0)
        for logits, row in zip(logits_BV.tolist(), concepts, strict=True)
        for c, p in enumerate(softmax(logits))
    ]
    error = 0.0
    for low, high, found in zip(edges, edges[1:], report.calibration, strict=False):
        inside = [(p, t) for p, t in entries if low <= p < high]
        assert found.count == len(inside)
        mean_probability = math.fsum(p for p, _ in inside) / max(len(inside), 1)
        mean_target = math.fsum(t for _, t in inside) / max(len(inside), 1)
        assert found.mean_probability == pytest.approx(mean_probability, rel=1e-12)
        assert found.mean_target == pytest.approx(mean_target, rel=1e-12)
        error += abs(mean_probability - mean_target) * len(inside) / len(concepts)
    assert report.calibration_error == pytest.approx(error, rel=1e-12)
    assert sum(found.count for found in report.calibration) == 60 * SIZE
    assert min(found.count for found in report.calibration) > 0


def test_batches_add_up_to_one(case):
    logits_BV, concepts, frequencies = case
    whole = [measure_batch(logits_BV, targets_from(concepts), frequencies)]
    parts = [
        measure_batch(logits_BV[part], targets_from(concepts[part]), frequencies)
        for part in (slice(0, 1), slice(1, 33), slice(33, 60))
    ]
    one, many = (
        as_dict(report_of(batches, frequencies, trained=50, held_out=70))
        for batches in (whole, parts)
    )
    for name in ("cross_entropy", "cross_entropy_of_frequencies", "calibration_error"):
        assert one.pop(name) == pytest.approx(many.pop(name), rel=1e-12)
    for name in ("recall", "calibration"):
        for first, second in zip(one.pop(name), many.pop(name), strict=True):
            assert first == pytest.approx(second, rel=1e-12)
    assert one == many


def test_the_report_is_means_over_pictures_with_their_spread(case):
    logits_BV, concepts, frequencies = case
    batch = measure_batch(logits_BV, targets_from(concepts), frequencies)
    report = report_of([batch], frequencies, trained=50, held_out=70)
    assert (report.size, report.trained, report.trained_with_concept) == (SIZE, 50, 40)
    assert (report.held_out, report.held_out_with_concept) == (70, 60)
    for place, recall in enumerate(report.recall):
        values = batch.recall_BK[:, place].tolist()
        mean = sum(values) / 60
        assert recall.k == (1, 5, 10)[place]
        assert recall.value == pytest.approx(mean, rel=1e-12)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 60)
        assert recall.standard_error == pytest.approx(spread / math.sqrt(60), rel=1e-12)
        assert (recall.low, recall.high) == pytest.approx(wilson_interval(mean, 60))
        assert recall.majority == pytest.approx(batch.majority_BK[:, place].mean())
    assert report.recall[0].value < report.recall[1].value < report.recall[2].value
    assert from_dict(HeadReport, as_dict(report), where="here") == report


def test_a_head_that_ignores_pictures_scores_what_ignoring_them_is_worth(case):
    _, concepts, frequencies = case
    targets = targets_from(concepts)
    constant = measure_batch(np.zeros((60, SIZE), dtype=np.float32), targets, frequencies)
    assert constant.recall_BK.max() == 0
    assert constant.cross_entropy_B == pytest.approx(np.full(60, math.log(SIZE)))
    logits_V = np.log(frequencies.mean_target_V())
    frequent = measure_batch(np.tile(logits_V, (60, 1)), targets, frequencies)
    assert frequent.cross_entropy_B == pytest.approx(frequent.cross_entropy_of_frequencies_B)


def test_smoothed_frequencies_are_a_distribution_without_zeros():
    frequencies = Frequencies(
        pairs=3, count_V=np.array([3, 1, 0, 0]), mass_V=np.array([2.5, 0.5, 0, 0])
    )
    assert frequencies.mean_target_V() == pytest.approx([2.75 / 4, 0.75 / 4, 0.0625, 0.0625])


def test_calibration_tells_an_honest_head_from_one_that_is_too_sure():
    # Concepts are drawn from the head's own probabilities, so the head is honest by construction.
    random = np.random.default_rng(0)
    logits_BV = 1.5 * random.standard_normal((20_000, 50))
    concepts = np.argmax(logits_BV + random.gumbel(size=logits_BV.shape), axis=1)
    targets = targets_from([[int(concept)] for concept in concepts])
    frequencies = Frequencies(pairs=20_000, count_V=np.full(50, 400), mass_V=np.full(50, 400.0))

    def report(factor):
        batch = measure_batch(factor * logits_BV, targets, frequencies)
        return report_of([batch], frequencies, trained=20_000, held_out=20_000)

    honest, sure = report(1.0), report(2.5)
    assert honest.calibration_error < 0.02
    assert sure.calibration_error > 0.3
    assert honest.cross_entropy < sure.cross_entropy
    last = sure.calibration[-1]
    assert last.mean_probability > last.mean_target + 0.2
