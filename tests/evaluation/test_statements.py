import numpy as np
import pytest

from winnow.evaluation.statements import (
    Statements,
    answer,
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


def test_winoground_s_chance_is_what_random_features_score():
    rng = np.random.default_rng(3)
    result = winoground_measures(rng.normal(size=(6000, 2, 64)), rng.normal(size=(6000, 2, 64)))
    assert [measure.chance for measure in result] == [1 / 4, 1 / 4, 1 / 6]
    for measure in result:
        assert abs(measure.value - measure.chance) < 4 * measure.standard_error
