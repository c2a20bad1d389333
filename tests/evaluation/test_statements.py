import numpy as np
import pytest

from winnow.evaluation.statements import (
    Statements,
    answer,
    come_in_pairs,
    statements_measure,
    winoground_measures,
)


def random_statements(rng, *, pictures=80, texts=30):
    counts = rng.integers(2, 6, size=pictures)
    text = np.concatenate([rng.choice(texts, size=count, replace=False) for count in counts])
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Statements(starts, text, rng.integers(counts))


@pytest.mark.parametrize("block_elements", [1, 300, 2**22])
def test_ranks_and_scores_equal_the_literal_loops(block_elements):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(80, 6)), rng.normal(size=(30, 6))
    statements = random_statements(rng)
    answers = answer(image, text, statements, block_elements=block_elements)
    for n in range(80):
        own = slice(statements.starts[n], statements.starts[n + 1])
        cosine = [
            image[n] @ text[t] / np.linalg.norm(image[n]) / np.linalg.norm(text[t])
            for t in statements.text_S[own]
        ]
        true = cosine.pop(statements.answer_N[n])
        assert answers.rank_N[n] == 1 + sum(wrong >= true - 1e-6 for wrong in cosine)
        assert answers.score_S[own][statements.answer_N[n]] == pytest.approx(true, abs=1e-6)


def test_chance_is_the_mean_over_pictures_and_a_random_model_has_it():
    rng = np.random.default_rng(1)
    statements = random_statements(rng, pictures=3000)
    answers = answer(rng.normal(size=(3000, 40)), rng.normal(size=(30, 40)), statements)
    measure = statements_measure(answers, statements)
    assert measure.chance == pytest.approx((1 / np.diff(statements.starts)).mean())
    assert abs(measure.value - measure.chance) < 4 * measure.standard_error
    assert (measure.metric, measure.n, measure.interval) == ("top1", 3000, "wilson")


def test_a_constant_model_answers_nothing():
    statements = random_statements(np.random.default_rng(2))
    answers = answer(np.ones((80, 33)), np.ones((30, 33)), statements)
    np.testing.assert_array_equal(answers.rank_N, np.diff(statements.starts))
    assert statements_measure(answers, statements).value == 0


@pytest.mark.parametrize(("behind", "rank"), [(5e-7, 2), (2e-6, 1)])
def test_a_wrong_statement_that_is_behind_by_less_than_the_tie_counts(behind, rank):
    text = [[c, np.sqrt(1 - c**2)] for c in (0.6, 0.6 - behind, 0.2)]
    statements = Statements(np.array([0, 3]), np.array([2, 1, 0]), np.array([2]))
    assert answer(np.array([[1.0, 0.0]]), np.array(text), statements).rank_N.tolist() == [rank]


@pytest.mark.parametrize(
    ("texts", "answers", "expected"),
    [
        ([[0, 1], [0, 1]], [0, 1], True),
        ([[0, 1], [1, 0]], [1, 1], True),  # the second names them in the other order
        ([[0, 1], [1, 0], [2, 3], [2, 3]], [0, 0, 1, 0], True),
        ([[0, 1], [0, 1]], [1, 1], False),  # one is true of both
        ([[0, 1], [1, 0]], [0, 1], False),
        ([[0, 1], [0, 1], [2, 3], [2, 3]], [0, 1, 1, 1], False),
        ([[0, 1], [0, 2]], [0, 1], False),  # other statements
        ([[0, 1], [2, 3], [0, 1], [2, 3]], [0, 0, 1, 1], False),  # not side by side
        ([[0, 1], [0, 1], [0, 1]], [0, 1, 0], False),  # one is over
        ([[0, 1, 2], [0, 1, 2]], [0, 1], False),
        ([[0], [0]], [0, 0], False),
    ],
)
def test_pairs_have_the_same_two_statements_each_true_of_one(texts, answers, expected):
    starts = np.concatenate([[0], np.cumsum([len(own) for own in texts])])
    packed = Statements(starts, np.concatenate(texts), np.array(answers))
    assert come_in_pairs(packed) is expected


def scores(image, caption):
    return {m.metric: m for m in winoground_measures(np.array(image), np.array(caption))}


def test_winoground_s_three_scores_fail_one_by_one():
    right, up, own = [1.0, 0.0], [0.0, 1.0], [[1.0, 0.0], [0.0, 1.0]]
    both = scores([own], [own])
    assert [both[m].value for m in ("text_score", "image_score", "group_score")] == [1, 1, 1]
    # Cosines 0.5 and 0.6 in one row, 0.4 and 0.7 in the other: highest of its column, not its row.
    rows = [[0.5, 0.6, 0.39**0.5], [0.4, 0.7, 0.35**0.5]]
    basis = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    text_only, image_only = scores([basis], [rows]), scores([rows], [basis])
    assert [text_only[m].value for m in ("text_score", "image_score", "group_score")] == [1, 0, 0]
    assert [image_only[m].value for m in ("text_score", "image_score", "group_score")] == [0, 1, 0]
    same = scores([[right, right]], [[right, up]])
    assert {measure.value for measure in same.values()} == {0.0}


@pytest.mark.parametrize(("behind", "value"), [(5e-7, 0), (2e-6, 1)])
def test_winoground_s_ties_count_against_the_model(behind, value):
    basis = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    # 0.5 of the first's own and so much less of the wrong one; the second's own, 0.6, is ahead.
    rows = [
        [first, second, np.sqrt(1 - first**2 - second**2)]
        for first, second in [(0.5, 0.3), (0.5 - behind, 0.6)]
    ]
    assert scores([basis], [rows])["text_score"].value == value
    assert scores([rows], [basis])["image_score"].value == value


def test_winoground_s_chance_is_what_random_features_score():
    rng = np.random.default_rng(3)
    result = winoground_measures(rng.normal(size=(6000, 2, 64)), rng.normal(size=(6000, 2, 64)))
    assert [measure.chance for measure in result] == [1 / 4, 1 / 4, 1 / 6]
    for measure in result:
        assert abs(measure.value - measure.chance) < 4 * measure.standard_error
