"""The annotator: graphs as columns, and what makes them stale."""

import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.annotators import parse
from winnow.curation.annotators.annotator import ERROR
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.parse import installed_pipeline
from winnow.types import InputError


@pytest.fixture(scope="module")
def annotate():
    return ParseCaptions().open()


def test_a_graph_becomes_columns(annotate):
    rows = ledger_rows(
        {"caption": "A black cat is chasing a bird on a branch"},
        {"caption": "Кошка на окне"},
        {"caption": None},
    )
    found = annotate(rows, [])
    assert found.schema == ParseCaptions().schema.append(ERROR)
    english, russian, nothing = found.to_pylist()
    assert [item["text"] for item in english["objects"]] == ["cat", "bird", "branch"]
    assert english["objects"][0] == {
        "text": "cat",
        "lemma": "cat",
        "attributes": ["black"],
        "start": 8,
        "end": 11,
    }
    assert english["actions"] == [
        {"verb": "chase", "subject": 0, "object": 1, "start": 15, "end": 22}
    ]
    assert english["complexity"] == 2
    assert english["foreign"] is english["error"] is None
    empty = {"objects": [], "actions": [], "relations": [], "complexity": 0, "error": None}
    assert russian == {**empty, "foreign": "CYRILLIC"}
    assert nothing == {**empty, "foreign": None}


def test_relations_carry_their_place(annotate):
    (row,) = annotate(ledger_rows({"caption": "a cup on a table"}), []).to_pylist()
    assert row["relations"] == [{"word": "on", "subject": 0, "object": 1, "start": 6, "end": 8}]


def test_no_rows_have_no_columns_missing(annotate):
    rows = ledger_rows({"caption": "a cup"}).slice(0, 0)
    assert annotate(rows, []).schema == ParseCaptions().schema.append(ERROR)


def test_identity_names_rules_pipeline_and_files(monkeypatch):
    name = installed_pipeline(None)
    identity = ParseCaptions().identity()
    assert identity == ParseCaptions(pipeline=name).identity()
    assert name in identity and f"rules {parse.RULES_VERSION}," in identity
    monkeypatch.setattr(parse, "RULES_VERSION", parse.RULES_VERSION + 1)
    assert ParseCaptions().identity() != identity


def test_identity_changes_with_the_files(monkeypatch, tmp_path):
    package = tmp_path / "a_pipeline"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "meta.json").write_text('{"version": "1.2.3"}')
    (package / "weights").write_bytes(b"0")
    monkeypatch.syspath_prepend(tmp_path)
    before = ParseCaptions(pipeline="a_pipeline").identity()
    (package / "weights").write_bytes(b"1")
    after = ParseCaptions(pipeline="a_pipeline").identity()
    assert "a_pipeline 1.2.3" in before and "a_pipeline 1.2.3" in after
    assert before != after


def test_a_missing_pipeline_is_named():
    with pytest.raises(InputError, match="en_core_web_xx"):
        ParseCaptions(pipeline="en_core_web_xx").identity()


def test_columns_may_all_be_null():
    assert all(field.nullable for field in ParseCaptions().schema)
    assert ParseCaptions().schema.field("complexity").type == pa.int32()
