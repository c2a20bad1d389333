import numpy as np
import pytest

from winnow.evaluation.ranking import (
    from_pairs,
    normalised,
    one_each,
    rank,
    rank_both_ways,
    rank_scores,
)

TIE = 1e-6


def literal_ranks(query, candidate, positives):
    """The definition, in float64 and in loops."""
    query, candidate = query.astype(np.float64), candidate.astype(np.float64)
    ranks = []
    for q in range(len(query)):
        right = set(positives.candidates[positives.starts[q] : positives.starts[q + 1]].tolist())
        cosine = []
        for m in range(len(candidate)):
            lengths = np.sqrt((query[q] ** 2).sum()) * np.sqrt((candidate[m] ** 2).sum())
            cosine.append((query[q] * candidate[m]).sum() / lengths)
        best = max(cosine[m] for m in right)
        wrong = [m for m in range(len(candidate)) if m not in right]
        ranks.append(1 + sum(cosine[m] >= best - TIE for m in wrong))
    return ranks


def several_positives(rng, queries, candidates):
    pairs = {(q, int(rng.integers(candidates))) for q in range(queries)}
    pairs |= {(int(rng.integers(queries)), int(rng.integers(candidates))) for _ in range(60)}
    shuffled = rng.permutation(np.array(sorted(pairs)))
    return from_pairs(shuffled[:, 0], shuffled[:, 1], num_queries=queries)


@pytest.mark.parametrize("several", [False, True])
def test_ranks_equal_the_literal_loops(several):
    rng = np.random.default_rng(0)
    query, candidate = rng.normal(size=(40, 6)), rng.normal(size=(31, 6))
    positives = several_positives(rng, 40, 31) if several else one_each(rng.integers(31, size=40))
    ranking = rank(query, candidate, positives)
    assert ranking.rank_Q.tolist() == literal_ranks(query, candidate, positives)


def test_the_top_list_holds_the_nearest_candidates_nearest_first():
    rng = np.random.default_rng(1)
    query, candidate = rng.normal(size=(20, 8)), rng.normal(size=(50, 8))
    ranking = rank(query, candidate, one_each(np.zeros(20)))
    cosine = normalised(query) @ normalised(candidate).T
    for q in range(20):
        nearest = sorted(range(50), key=lambda m: -cosine[q, m])[:5]
        assert ranking.top_QK[q].tolist() == nearest
        np.testing.assert_allclose(ranking.score_QK[q], cosine[q, nearest], atol=1e-6)


@pytest.mark.parametrize("block_elements", [1, 2**22])
def test_equal_cosines_stand_in_the_candidates_order(block_elements):
    # Candidates 1, 4, 6 and 9 are the query itself, 0 is second, the others are opposite.
    candidate = np.array([[1.0, 1.0]] + [[-1.0, 0.0]] * 9)
    candidate[[1, 4, 6, 9]] = [1.0, 0.0]
    ranking = rank(
        np.array([[1.0, 0.0]]), candidate, one_each(np.array([0])), block_elements=block_elements
    )
    assert ranking.top_QK.tolist() == [[1, 4, 6, 9, 0]]


@pytest.mark.parametrize("num_classes", [3, 8])
def test_ranks_of_scores_equal_the_literal_loops(num_classes):
    """Whole numbers from 0 to 3, so that most rows have ties."""
    rng = np.random.default_rng(10)
    score = rng.integers(4, size=(200, num_classes)).astype(np.float32)
    label = rng.integers(num_classes, size=200)
    ranking = rank_scores(score, label)
    for n in range(200):
        wrong = [k for k in range(num_classes) if k != label[n]]
        assert ranking.rank_Q[n] == 1 + sum(score[n, k] >= score[n, label[n]] for k in wrong)
        nearest = sorted(range(num_classes), key=lambda k: (-score[n, k], k))[:5]
        assert ranking.top_QK[n].tolist() == nearest
        assert ranking.score_QK[n].tolist() == score[n, nearest].tolist()
    assert (ranking.rank_Q.dtype, ranking.score_QK.dtype) == (np.int64, np.float32)


def both_ways_with_several_pairs(seed, *, left=90, right=260, width=7):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(left, width)), rng.normal(size=(right, width))
    pairs = {(i % left, i) for i in range(right)} | {(i, (7 * i) % right) for i in range(left)}
    return *features, rng.permutation(np.array(sorted(pairs)))


def test_both_ways_at_once_equal_the_literal_loops():
    left, right, pairs = both_ways_with_several_pairs(5)
    for_left, for_right = rank_both_ways(left, right, pairs, block_elements=3000)
    by_left = from_pairs(pairs[:, 0], pairs[:, 1], num_queries=90)
    by_right = from_pairs(pairs[:, 1], pairs[:, 0], num_queries=260)
    assert for_left.rank_Q.tolist() == literal_ranks(left, right, by_left)
    assert for_right.rank_Q.tolist() == literal_ranks(right, left, by_right)


@pytest.mark.parametrize(
    ("block_elements", "left", "right"),
    [(1, 15, 40), (100, 90, 260), (5000, 90, 260), (2**16, 700, 1100), (2**22, 700, 1100)],
)
def test_both_ways_at_once_equal_each_way_by_itself(block_elements, left, right):
    left, right, pairs = both_ways_with_several_pairs(6, left=left, right=right, width=24)
    by_left = from_pairs(pairs[:, 0], pairs[:, 1], num_queries=len(left))
    by_right = from_pairs(pairs[:, 1], pairs[:, 0], num_queries=len(right))
    both = rank_both_ways(left, right, pairs, block_elements=block_elements)
    alone = rank(left, right, by_left), rank(right, left, by_right)
    for one, other in zip(both, alone, strict=True):
        np.testing.assert_array_equal(one.rank_Q, other.rank_Q)
        np.testing.assert_array_equal(one.top_QK, other.top_QK)
        np.testing.assert_allclose(one.score_QK, other.score_QK, atol=1e-6)


def test_the_top_lists_of_large_tiles_hold_the_nearest_both_ways():
    # Large enough for groups of candidates, and no multiple of a group.
    left, right, pairs = both_ways_with_several_pairs(7, left=1003, right=1501, width=16)
    cosine = normalised(left) @ normalised(right).T
    for_left, for_right = rank_both_ways(left, right, pairs)
    nearest = np.argsort(-cosine, axis=1)[:, :5], np.argsort(-cosine.T, axis=1)[:, :5]
    np.testing.assert_array_equal(for_left.top_QK, nearest[0])
    np.testing.assert_array_equal(for_right.top_QK, nearest[1])


def test_a_tie_is_a_miss_both_ways_and_at_any_block():
    point = np.random.default_rng(8).normal(size=(1, 77))
    pairs = np.stack([np.arange(40), np.arange(40)], axis=1)
    for block_elements in (50, 1000, 2**22):
        both = rank_both_ways(
            point.repeat(40, 0), point.repeat(40, 0), pairs, block_elements=block_elements
        )
        assert [set(ranking.rank_Q) for ranking in both] == [{40}, {40}]


def test_memory_mapped_features_of_half_precision_are_ranked_as_they_are(tmp_path):
    left, right, pairs = both_ways_with_several_pairs(9)
    np.save(tmp_path / "left.npy", left.astype(np.float16))
    mapped = np.load(tmp_path / "left.npy", mmap_mode="r")
    one = rank_both_ways(mapped, right, pairs, block_elements=500)[1]
    other = rank_both_ways(left.astype(np.float16).astype(np.float64), right, pairs)[1]
    np.testing.assert_array_equal(one.rank_Q, other.rank_Q)


@pytest.mark.parametrize("block_elements", [1, 100, 1234])
def test_blocks_change_nothing(block_elements):
    rng = np.random.default_rng(2)
    query, candidate = rng.normal(size=(150, 16)), rng.normal(size=(50, 16))
    positives = several_positives(rng, 150, 50)
    whole = rank(query, candidate, positives)
    blocked = rank(query, candidate, positives, block_elements=block_elements)
    np.testing.assert_array_equal(whole.rank_Q, blocked.rank_Q)
    np.testing.assert_array_equal(whole.top_QK, blocked.top_QK)
    np.testing.assert_allclose(whole.score_QK, blocked.score_QK, atol=1e-6)


@pytest.mark.parametrize("num_candidates", [2, 7, 1003])
def test_a_model_that_maps_everything_to_one_point_ranks_the_right_answer_last(num_candidates):
    point = np.random.default_rng(3).normal(size=33)
    query, candidate = np.tile(point, (50, 1)), np.tile(point, (num_candidates, 1))
    ranking = rank(query, candidate, one_each(np.arange(50) % num_candidates))
    assert (ranking.rank_Q == num_candidates).all()


def test_a_model_of_zeros_ranks_the_right_answer_last():
    ranking = rank(np.zeros((3, 4)), np.zeros((9, 4)), one_each(np.arange(3)))
    assert ranking.rank_Q.tolist() == [9, 9, 9]


def test_right_candidates_do_not_count_against_each_other():
    query, candidate = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    both = from_pairs(np.array([0, 0]), np.array([0, 1]), num_queries=1)
    assert rank(query, candidate, both).rank_Q.tolist() == [1]
    assert rank(query, candidate, one_each(np.array([0]))).rank_Q.tolist() == [2]


def test_the_length_of_a_feature_does_not_matter():
    rng = np.random.default_rng(4)
    query, candidate = rng.normal(size=(30, 5)), rng.normal(size=(12, 5))
    label = rng.integers(12, size=30)
    scaled = candidate * rng.uniform(0.01, 100, size=(12, 1))
    a, b = rank(query, candidate, one_each(label)), rank(7 * query, scaled, one_each(label))
    np.testing.assert_array_equal(a.rank_Q, b.rank_Q)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_rather_than_ranked_first(bad):
    query = np.full((2, 3), bad)
    with pytest.raises(ValueError, match="not finite"):
        rank(query, np.eye(3), one_each(np.array([0, 1])))


def test_a_query_without_a_right_answer_is_refused():
    with pytest.raises(ValueError, match="query 1"):
        from_pairs(np.array([0, 2]), np.array([0, 0]), num_queries=3)
