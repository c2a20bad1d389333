import itertools

import numpy as np
import pytest

from winnow.evaluation.ranking import Positives, Ranking, from_pairs, one_each
from winnow.evaluation.retrieval import (
    Direction,
    Retrieval,
    median_rank,
    recall_chance,
    retrieval,
    retrieval_measures,
)
from winnow.statistics import wilson_interval


def values(image, caption, pairs):
    measures = retrieval_measures(retrieval(image, caption, np.array(pairs)))
    return {measure.metric: measure for measure in measures}


def diagonal(n):
    return [(i, i) for i in range(n)]


def test_a_perfect_model_finds_everything_and_the_two_ways_are_counted_apart():
    points = np.eye(12)
    # Three pictures share caption 0: it is one query with three right answers.
    pairs = [(0, 0), (1, 0), (2, 0)] + [(i, i - 2) for i in range(3, 12)]
    image = points[[0, 0, 0, *range(1, 10)]]
    result = values(image, points[:10], pairs)
    for k in (1, 5):
        assert result[f"image_to_text_recall@{k}"].value == 1.0
        assert result[f"text_to_image_recall@{k}"].value == 1.0
    assert result["image_to_text_recall@1"].n == 12
    assert result["text_to_image_recall@1"].n == 10


def test_a_planted_shift_is_found_exactly_where_it_was_planted():
    points = np.eye(20)
    image = points[[(i + 1) % 20 if i < 4 else i for i in range(20)]]
    # Captions 1..3 have a wrong picture at their point; caption 4 has both a right and a wrong one.
    result = values(image, points, diagonal(20))
    assert result["image_to_text_recall@1"].value == pytest.approx(16 / 20)
    assert result["text_to_image_recall@1"].value == pytest.approx(15 / 20)


def test_recall_equals_the_literal_loops_with_several_captions_a_picture():
    rng = np.random.default_rng(0)
    image, caption = rng.normal(size=(30, 5)), rng.normal(size=(75, 5))
    pairs = sorted({(i, c) for i in range(30) for c in rng.integers(75, size=3).tolist()})
    pairs += [(int(rng.integers(30)), c) for c in set(range(75)) - {c for _, c in pairs}]
    result = values(image, caption, pairs)
    cosine = (image @ caption.T) / np.linalg.norm(image, axis=1)[:, None]
    cosine = cosine / np.linalg.norm(caption, axis=1)
    own = set(pairs)
    for k in (1, 5, 10):
        hits = [
            any((i, c) in own for c in sorted(range(75), key=lambda c, i=i: -cosine[i, c])[:k])
            for i in range(30)
        ]
        assert result[f"image_to_text_recall@{k}"].value == pytest.approx(np.mean(hits))
        hits = [
            any((i, c) in own for i in sorted(range(30), key=lambda i, c=c: -cosine[i, c])[:k])
            for c in range(75)
        ]
        assert result[f"text_to_image_recall@{k}"].value == pytest.approx(np.mean(hits))


def test_chance_equals_the_share_of_all_orders_that_hit():
    positives = from_pairs(np.array([0, 0, 1]), np.array([0, 3, 2]), num_queries=2)
    orders = list(itertools.permutations(range(5)))
    for k in (1, 2, 4):
        two = np.mean([bool({0, 3} & set(order[:k])) for order in orders])
        one = np.mean([2 in order[:k] for order in orders])
        assert recall_chance(positives, k, num_candidates=5) == pytest.approx((two + one) / 2)


def test_chance_is_certainty_where_the_right_answers_fill_the_rest():
    positives = Positives(np.array([0, 3]), np.array([0, 1, 2]))
    assert recall_chance(positives, 3, num_candidates=5) == 1.0


def test_a_random_model_scores_chance():
    rng = np.random.default_rng(1)
    image, caption = rng.normal(size=(3000, 48)), rng.normal(size=(100, 48))
    pairs = [(i, i % 100) for i in range(3000)]
    result = values(image, caption, pairs)["image_to_text_recall@10"]
    assert abs(result.value - 0.1) < 4 * result.standard_error


def test_a_constant_model_finds_nothing():
    result = values(np.ones((50, 4)), np.ones((50, 4)), diagonal(50))
    assert {measure.value for name, measure in result.items() if "recall" in name} == {0.0}
    assert result["image_to_text_median_rank"].value == 50
    assert result["text_to_image_median_rank"].value == 50


def test_a_recall_that_cannot_fail_is_left_out():
    result = values(np.eye(5), np.eye(5), diagonal(5))
    assert {name for name in result if "recall" in name} == {
        "image_to_text_recall@1",
        "text_to_image_recall@1",
    }


def direction(rank_q, *, num_candidates=1000):
    ranking = Ranking(np.array(rank_q), np.zeros((len(rank_q), 1)), np.zeros((len(rank_q), 1)))
    positives = one_each(np.zeros(len(rank_q)))
    return Direction(ranking, positives, num_candidates, np.arange(len(rank_q)))


@pytest.mark.parametrize(("ranks", "median"), [([3, 1, 9], 3), ([8, 1, 2, 30], 2), ([7], 7)])
def test_half_of_the_queries_reach_the_median_rank(ranks, median):
    assert median_rank(direction(ranks), metric="m").value == median


def test_the_median_s_interval_is_that_of_drawn_queries():
    rng = np.random.default_rng(2)
    ranks = rng.geometric(0.05, size=301)
    drawn = np.median(rng.choice(ranks, size=(20000, 301)), axis=1)
    measure = median_rank(direction(ranks), metric="m")
    assert measure.interval == "bootstrap"
    assert measure.standard_error == pytest.approx(drawn.std(), rel=0.1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert abs(measure.low - low) <= 1
    assert abs(measure.high - high) <= 1


def test_the_median_of_three_is_drawn_as_often_as_of_all_27_resamples():
    """Of ranks 1, 1, 2 it is 2 in 7 of 27."""
    drawn = [np.median(ranks) for ranks in itertools.product([1, 1, 2], repeat=3)]
    assert sum(drawn) == 20 * 1 + 7 * 2
    measure = median_rank(direction([1, 2, 1]), metric="m")
    assert measure.standard_error == pytest.approx(np.std(drawn), rel=0.06)


def test_a_median_rank_that_exactly_half_of_all_orders_reach_is_chance():
    found = direction([1, 1, 1], num_candidates=6)
    assert recall_chance(found.positives, 3, num_candidates=6) == 0.5
    assert median_rank(found, metric="m").chance == 3


def test_the_median_s_chance_is_the_rank_that_half_of_all_orders_reach():
    positives = from_pairs(np.array([0, 0, 1]), np.array([0, 3, 2]), num_queries=2)
    ranks = [
        min(order.index(c) for c in own) + 1
        for order in itertools.permutations(range(6))
        for own in ([0, 3], [2])
    ]
    ranking = Ranking(np.array([1, 1]), np.zeros((2, 1)), np.zeros((2, 1)))
    chance = median_rank(Direction(ranking, positives, 6, np.arange(2)), metric="m").chance
    assert np.mean(np.array(ranks) <= chance) >= 0.5 > np.mean(np.array(ranks) < chance)


def test_captions_are_drawn_with_their_picture_and_pictures_alone():
    """A caption of several pictures is with its first; one caption a picture has Wilson's."""
    points = np.eye(20)
    pairs = [(i, c) for i in range(20) for c in (i, 20 + i)]
    second = np.concatenate([points[:10], np.roll(points, 1, axis=0)[10:]])
    several = values(points, np.concatenate([points, second]), pairs)
    assert several["text_to_image_recall@1"].interval == "bootstrap over pictures"
    assert several["text_to_image_median_rank"].interval == "bootstrap over pictures"
    assert several["image_to_text_recall@1"].interval == "wilson"
    assert several["image_to_text_median_rank"].interval == "bootstrap"
    one = values(points, points, diagonal(20))
    assert one["text_to_image_recall@1"].interval == "wilson"
    assert one["text_to_image_median_rank"].interval == "bootstrap"
    shared = retrieval(points, points[:10], np.array([(i, i % 10) for i in reversed(range(20))]))
    assert shared.text_to_image.picture_Q.tolist() == list(range(10))
    assert shared.image_to_text.picture_Q.tolist() == list(range(20))


def of_pictures(hit_ck):
    """Captions of C pictures, k each, that find theirs first or second."""
    hit_q = np.asarray(hit_ck).ravel()
    picture_q = np.repeat(np.arange(len(hit_ck)), len(hit_ck[0]))
    return direction(np.where(hit_q, 1, 2))._replace(picture_Q=picture_q)


def recall_of(found):
    both = Retrieval(image_to_text=direction([1]), text_to_image=found)
    return {measure.metric: measure for measure in retrieval_measures(both)}[
        "text_to_image_recall@1"
    ]


@pytest.mark.slow
def test_intervals_hold_the_truth_where_captions_of_a_picture_go_together():
    """Recall 0.5, each picture easy or hard: 200 times over. Wilson's takes captions as so many
    votes, and is far too sure.
    """
    rng = np.random.default_rng(3)
    covered = by_wilson = 0
    for _ in range(200):
        hit = rng.random((120, 5)) < rng.choice([0.1, 0.9], (120, 1))
        measure = recall_of(of_pictures(hit))
        covered += measure.low <= 0.5 <= measure.high
        low, high = wilson_interval(hit.mean(), hit.size)
        by_wilson += low <= 0.5 <= high
    assert measure.value == pytest.approx(hit.mean())
    assert measure.n == 600
    assert 0.92 <= covered / 200 <= 0.985
    assert by_wilson / 200 < 0.8


def test_the_error_of_recall_is_that_of_drawn_pictures():
    """Numbers of captions differ; literal draws of pictures with all their captions."""
    rng = np.random.default_rng(5)
    picture = np.repeat(np.arange(80), rng.integers(1, 7, 80))
    rank = rng.geometric(np.where(rng.random(80) < 0.5, 0.1, 0.6)[picture])
    found = direction(rank)._replace(picture_Q=picture)
    recall, median = recall_of(found), median_rank(found, metric="m")
    recalls, medians = [], []
    for _ in range(4000):
        drawn = np.concatenate([rank[picture == one] for one in rng.integers(80, size=80)])
        recalls.append((drawn == 1).mean())
        medians.append(np.quantile(drawn, 0.5, method="inverted_cdf"))
    for measure, literal in ((recall, recalls), (median, medians)):
        assert measure.standard_error == pytest.approx(np.std(literal), rel=0.12)
        ends = np.quantile(literal, [0.025, 0.975])
        assert (measure.low, measure.high) == pytest.approx(ends, abs=0.3 * np.std(literal) + 0.01)
    assert median.value == np.quantile(rank, 0.5, method="inverted_cdf")


@pytest.mark.parametrize("hit", [True, False])
def test_a_recall_of_all_or_none_has_wilson_s_interval_over_pictures(hit):
    measure = recall_of(of_pictures(np.full((40, 5), hit)))
    assert measure.interval == "wilson over pictures"
    assert (measure.low, measure.high) == wilson_interval(float(hit), 40)
    alike = recall_of(of_pictures(np.tile([True, False], (40, 1))))
    assert (alike.value, alike.low) == (0.5, wilson_interval(0.5, 40)[0])


def test_chance_of_many_candidates_keeps_its_digits():
    positives = one_each(np.zeros(4))
    assert recall_chance(positives, 1, num_candidates=10**6) == pytest.approx(1e-6, rel=1e-9)
    assert recall_chance(positives, 10**5, num_candidates=10**6) == pytest.approx(0.1, rel=1e-9)
