import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.corpus import Corpus
from winnow.curation.rules.in_subset import InSubset
from winnow.curation.rules.score import Score
from winnow.curation.rules.top_fraction import TopFraction
from winnow.data.keyed import parse_uids
from winnow.types import InputError

NAN = float("nan")


def scored(*scores, kind=None, number=0, first=0):
    """Rows of the ledger with a column `taste`."""
    kind = pa.float64() if kind is None else kind
    samples = [{"picture": f"picture {first + n}"} for n in range(len(scores))]
    rows = ledger_rows(*samples, number=number)
    return rows.append_column("taste", pa.array(scores, type=kind))


def judged(rule, *batches):
    """The reasons of all rows, which are the whole corpus."""
    corpus = Corpus(lambda: batches)
    return [reason for rows in batches for reason in rule.verdicts(rows, corpus).to_pylist()]


def kept(rule, *batches):
    return [n for n, reason in enumerate(judged(rule, *batches)) if reason is None]


def test_a_score_has_limits_and_both_are_inside():
    rule = Score(column="taste", least=0.25, most=0.75)
    low, high = "score-taste: 0.2 is below 0.25", "score-taste: 0.751 is above 0.75"
    missing = "score-missing: no taste"
    rows = scored(0.2, 0.25, 0.5, 0.75, 0.751, NAN, None, math.inf)
    above = "score-taste: inf is above 0.75"
    assert judged(rule, rows) == [low, None, None, None, high, missing, missing, above]
    assert {reason.partition(":")[0] for reason in judged(rule, rows) if reason} == set(rule.codes)
    assert rule.needs == ("taste",)
    assert judged(rule, scored()) == []


def test_one_limit_or_none_drops_what_has_no_score():
    rows = scored(-1.0, 0.0, 9.0, None)
    assert kept(Score(column="taste", least=0), rows) == [1, 2]
    assert kept(Score(column="taste", most=0), rows) == [0, 1]
    assert kept(Score(column="taste"), rows) == [0, 1, 2]


def test_a_score_is_compared_in_its_own_precision():
    # The float32 next to 0.7 is below the float64 next to it.
    assert float(np.float32(0.7)) < 0.7
    for kind in (pa.float32(), pa.float64()):
        assert kept(Score(column="taste", least=0.7), scored(0.7, 0.6999, kind=kind)) == [0]
    assert kept(Score(column="taste", least=2), scored(1, 2, None, kind=pa.int64())) == [1]


def test_measures_are_the_scores_and_the_limits():
    rows = scored(0.1, None)
    (measure,) = Score(column="taste", least=0.5).measures(rows, Corpus(lambda: [rows]))
    assert (measure.name, measure.least, measure.most) == ("taste", 0.5, None)
    assert measure.values.to_pylist() == [0.1, None]
    rows = scored(0.1, 0.4, 0.3, None)
    (measure,) = TopFraction(column="taste", fraction=0.5).measures(rows, Corpus(lambda: [rows]))
    assert (measure.least, measure.most) == (0.3, None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Score(column="taste", least=2, most=1), "holds no number"),
        (lambda: Score(column="taste", least=NAN), "holds no number"),
        (lambda: Score(column="a:b"), "without ':'"),
        (lambda: TopFraction(column=""), "cannot be about the column ''"),
        (lambda: TopFraction(column="taste", fraction=0.0), "a share is above 0"),
        (lambda: TopFraction(column="taste", fraction=30), "a share is above 0"),
    ],
)
def test_thresholds_that_mean_nothing_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize(
    ("fraction", "count", "expected"),
    # 0.07 * 100 is 7.000000000000001 in binary.
    [(0.3, 10, 3), (0.3, 11, 4), (0.07, 100, 7), (1e-9, 50, 1), (1.0, 50, 50), (0.29, 100, 29)],
)
def test_the_share_is_exact_and_the_best_are_in_it(fraction, count, expected):
    values = np.random.default_rng(count).permutation(count) / 7
    rows = scored(*values)
    found = kept(TopFraction(column="taste", fraction=fraction), rows)
    assert found == sorted(np.argsort(-values)[:expected].tolist())


def test_the_reason_says_where_the_share_begins():
    rule = TopFraction(column="taste", fraction=0.5)
    below, missing = "top-taste: 0.125, the highest 50 % begin at 0.5", "score-missing: no taste"
    reasons = judged(rule, scored(0.125, 0.5, 0.75, None))
    assert reasons == [below, None, None, missing]
    assert {reason.partition(":")[0] for reason in reasons if reason} == set(rule.codes)
    assert rule.asks_corpus


def test_rows_without_a_score_count_but_never_pass():
    half = TopFraction(column="taste", fraction=0.5)
    assert kept(half, scored(None, 1.0, NAN, 2.0, 3.0, None)) == [1, 3, 4]
    assert kept(half, scored(None, NAN, None, 0.0)) == [3]
    assert kept(half, scored(None, NAN)) == []
    assert kept(half, scored()) == []


def test_ties_are_broken_by_the_uid_whatever_the_order_of_the_rows():
    scores = [1.0] * 3 + [0.5] * 40 + [0.25] * 7
    rule = TopFraction(column="taste", fraction=0.4)
    rows = scored(*scores)
    best = {rows["uid"][n].as_py() for n in kept(rule, rows)}
    assert len(best) == 20
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(scores))
        moved = pa.RecordBatch.from_arrays(
            [
                rows["place"] if n == "place" else rows[n].take(pa.array(order))
                for n in rows.schema.names
            ],
            schema=rows.schema,
        )
        parts = [moved.slice(0, 13), moved.slice(13, 0), moved.slice(13)]
        found = kept(rule, *parts)
        assert {moved["uid"][n].as_py() for n in found} == best
    # Not the first of equal ones: a hash decides.
    assert kept(rule, rows) != list(range(20))


def test_equal_scores_of_equal_uids_are_cut_at_the_place():
    rows = ledger_rows(*[{"picture": "one"}] * 10)
    rows = rows.append_column("taste", pa.array([0.5] * 10))
    assert kept(TopFraction(column="taste", fraction=0.3), rows) == [0, 1, 2]


def test_rows_that_an_earlier_rule_drops_do_not_count():
    rows = scored(9.0, 8.0, 7.0, 6.0, 5.0, 4.0)
    survivors = Corpus(lambda: [rows.slice(2)])
    rule = TopFraction(column="taste", fraction=0.5)
    reasons = rule.verdicts(rows, survivors).to_pylist()
    assert [reason is None for reason in reasons] == [True, True, True, True, False, False]


def test_the_corpus_is_gone_through_once_or_twice_however_many_batches_ask():
    passes = []

    def survivors():
        passes.append(1)
        return [scored(0.5, 0.5, 0.25, 0.125)]

    corpus, (rows,) = Corpus(survivors), survivors()
    for fraction, expected in ((0.5, 1), (0.25, 2)):  # 0.25 cuts between equal scores
        rule = TopFraction(column="taste", fraction=fraction)
        passes.clear()
        for _ in range(5):
            rule.verdicts(rows, corpus)
        assert len(passes) == expected
        assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301


def test_a_published_subset_selects_its_pairs(tmp_path):
    rows = scored(*[0.0] * 6)
    uids = parse_uids(rows["uid"], where="here")
    np.save(tmp_path / "subset.npy", np.sort(uids[[1, 4]]))
    rule = InSubset(path=tmp_path / "subset.npy")
    assert judged(rule, rows) == [
        "not-in-subset",
        None,
        *["not-in-subset"] * 2,
        None,
        "not-in-subset",
    ]
    assert judged(rule, scored()) == []
    assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301
    # Another file under the same name is another subset.
    np.save(tmp_path / "subset.npy", np.sort(uids[[0, 1, 4]]))
    assert kept(rule, rows) == [0, 1, 4]
    (tmp_path / "subset.npy").unlink()
    with pytest.raises(InputError, match=r"subset\.npy cannot be read"):
        judged(rule, rows)
