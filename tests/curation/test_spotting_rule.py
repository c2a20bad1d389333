"""The rule over spotted text: what it drops, what it says, what it measures."""

import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.annotators.spotting import SPOTTED
from winnow.curation.corpus import Corpus
from winnow.curation.rules.text_spotting import TextSpotting


def rows_of(*pairs):
    """Rows of (caption, [(text, confidence), ...])."""
    rows = ledger_rows(*({"caption": caption} for caption, _ in pairs))
    spotted = [
        [{"text": text, "confidence": sure, "box": [0] * 8} for text, sure in lines]
        for _, lines in pairs
    ]
    return rows.append_column("spotted", pa.array(spotted, SPOTTED))


def verdicts(rule, *pairs):
    rows = rows_of(*pairs)
    return rule.verdicts(rows, Corpus(lambda: [rows])).to_pylist()


def test_the_reason_says_which_run_and_how_sure():
    assert verdicts(
        TextSpotting(),
        ("Big SUMMER sale!", [("50%", 0.99), ("Summer  Sale", 0.97)]),
        ("a red apple", [("Summer Sale", 0.97)]),
        ("a red apple", []),
        ("a red apple", [("AN APPLE", 0.9)]),
    ) == ['text-in-caption: "summer sale" (0.97)', None, None, 'text-in-caption: "apple" (0.90)']


@pytest.mark.parametrize(("confidence", "drops"), [(0.79, False), (0.8, True), (0.81, True)])
def test_confidence_is_inclusive(confidence, drops):
    (verdict,) = verdicts(TextSpotting(), ("a red apple", [("apple", confidence)]))
    assert (verdict is not None) == drops


def test_confidence_is_compared_as_it_is_stored():
    """0.9 in float32 is less than 0.9."""
    (verdict,) = verdicts(TextSpotting(confidence=0.9), ("a red apple", [("apple", 0.9)]))
    assert verdict == 'text-in-caption: "apple" (0.90)'


def test_the_confidence_named_is_that_of_the_line_with_the_run():
    lines = [("faint", 0.3), ("nothing", 0.95), ("apple pie", 0.85)]
    assert verdicts(TextSpotting(), ("apple pie", lines)) == ['text-in-caption: "apple pie" (0.85)']


@pytest.mark.parametrize("least_run", [2, 3, 4, 5, 6, 9, 10])
def test_what_is_dropped_is_what_is_measured_past_the_threshold(least_run):
    rule = TextSpotting(least_run=least_run)
    rows = rows_of(
        ("summer sale", [("summer sale", 0.99)]),
        ("an apple", [("apple", 0.99)]),
        ("an apple", [("apples", 0.99)]),
        ("a cat", [("cat", 0.99)]),
        ("for the", [("for the", 0.99)]),
        ("a cat", [("dog", 0.99)]),
        ("a cat", [("cat", 0.5)]),
        ("a cat", []),
    )
    corpus = Corpus(lambda: [rows])
    (measure,) = rule.measures(rows, corpus)
    dropped = rule.verdicts(rows, corpus).is_valid().to_pylist()
    assert measure.least is None
    assert [value > measure.most for value in measure.values.to_pylist()] == dropped
    if least_run == 5:
        assert measure.values.to_pylist() == [10, 5, 5, 3, 0, 0, 0, 0]


def test_near_matches_are_of_rows_that_are_kept():
    rows = rows_of(
        ("in summer", [("SUNMER", 0.9)]),
        ("in summer", [("SUNMER", 0.9), ("summer", 0.9)]),
        ("in summer", [("SUNMER", 0.7)]),
        ("in winter", [("SUNMER", 0.9)]),
        ("in winter", []),
    )
    near = '"summer" seen as "sunmer"'
    assert TextSpotting().near_matches(rows).to_pylist() == [near, None, None, None, None]


def test_a_batch_without_rows():
    rows = rows_of(("summer sale", []))[:0]
    rule = TextSpotting()
    assert rule.verdicts(rows, Corpus(list)).to_pylist() == []
    assert rule.near_matches(rows).to_pylist() == []


def test_it_asks_for_spotted_text_and_no_other_row():
    rule = TextSpotting()
    assert rule.needs == ("spotted",)
    assert not rule.asks_corpus
