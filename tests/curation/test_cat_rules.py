"""The rules over what the parser found: a table of rows, no parser."""

import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.corpus import Corpus
from winnow.curation.rules.action import HasAction
from winnow.curation.rules.caption_english import CaptionEnglish
from winnow.curation.rules.complexity import Complexity


def parsed(*found):
    """Ledger rows with the columns of the parser."""
    rows = ledger_rows(*({} for _ in found))
    schema = ParseCaptions().schema
    empty = {"objects": [], "actions": [], "relations": [], "complexity": 0, "foreign": None}
    columns = pa.RecordBatch.from_pylist([{**empty, **row} for row in found], schema=schema)
    for field, column in zip(schema, columns.columns, strict=True):
        rows = rows.append_column(field, column)
    return rows


def verdicts(rule, rows):
    return rule.verdicts(rows, Corpus(lambda: [rows])).to_pylist()


def measured(rule, rows):
    (measure,) = rule.measures(rows, Corpus(lambda: [rows]))
    return measure.name, measure.values.to_pylist(), measure.least, measure.most


def verb(start, subject=None, target=None):
    return {"verb": "run", "subject": subject, "object": target, "start": start, "end": start + 3}


@pytest.mark.parametrize("rule", [CaptionEnglish(), Complexity(), HasAction()])
def test_they_need_columns_of_the_parser_and_nothing_else(rule):
    assert rule.needs and set(rule.needs) <= set(ParseCaptions().schema.names)
    assert not rule.asks_corpus


def test_english_names_what_it_drops():
    rows = parsed({"foreign": None}, {"foreign": "German"}, {"foreign": "CYRILLIC"})
    assert verdicts(CaptionEnglish(), rows) == [
        None,
        "caption-not-english: German",
        "caption-not-english: CYRILLIC",
    ]
    assert CaptionEnglish().measures(rows, Corpus(lambda: [rows])) == ()


def test_complexity_names_the_count():
    rows = parsed({"complexity": 0}, {"complexity": 1}, {"complexity": 2})
    assert verdicts(Complexity(), rows) == ["caption-not-complex: 0", None, None]
    assert verdicts(Complexity(least=2), rows) == [
        "caption-not-complex: 0",
        "caption-not-complex: 1",
        None,
    ]
    assert measured(Complexity(least=2), rows) == ("complexity", [0, 1, 2], 2, None)


def test_an_action_counts_once_whoever_does_it():
    rows = parsed(
        {"actions": []},
        {"actions": [verb(4)]},
        {"actions": [verb(4, 0), verb(4, 1)]},
        {"actions": [verb(4, 0), verb(9, 0)]},
        {"actions": []},
        # The same offset in the next row is another verb.
        {"actions": [verb(9)]},
        {"actions": [verb(9)]},
    )
    dropped = "caption-without-action"
    assert measured(HasAction(), rows) == ("actions", [0, 1, 1, 2, 0, 1, 1], 1, None)
    assert verdicts(HasAction(), rows) == [dropped, None, None, None, dropped, None, None]
    assert verdicts(HasAction(least=2), rows) == [
        dropped,
        dropped,
        dropped,
        None,
        dropped,
        dropped,
        dropped,
    ]


@pytest.mark.parametrize("part", [slice(2, 4), slice(0, 0)])
def test_slices_are_judged_alike(part):
    rows = parsed({"actions": [verb(1), verb(2)]}, {}, {"actions": [verb(1)]}, {})
    piece = rows.slice(part.start, part.stop - part.start)
    assert verdicts(HasAction(), piece) == verdicts(HasAction(), rows)[part]
    assert verdicts(Complexity(), piece) == verdicts(Complexity(), rows)[part]
    assert verdicts(CaptionEnglish(), piece) == verdicts(CaptionEnglish(), rows)[part]


def test_every_reason_begins_with_a_code_of_the_rule():
    rows = parsed({"foreign": "German"}, {})
    for rule in (CaptionEnglish(), Complexity(), HasAction()):
        reasons = [reason for reason in verdicts(rule, rows) if reason]
        assert reasons
        assert all(reason.split(":")[0] in rule.codes for reason in reasons)
