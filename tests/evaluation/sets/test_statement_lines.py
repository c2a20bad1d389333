import json

import pytest
from set_makers import NAMES, emoji, statement_rows, write_statements

from winnow.evaluation.sets import open_set, splits_of
from winnow.types import InputError


def test_a_line_is_a_picture_with_its_candidates(statements):
    write_statements(statements, statement_rows()[:4], split="val")
    assert splits_of(statements) == ("test", "val")
    found = open_set(statements)
    assert (found.num_samples, found.has_statements, found.has_captions) == (12, True, False)
    assert (found.label_kind, found.classnames, found.templates) == ("none", (), ())
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.image for s in samples] == [one.png for one in emoji()]
        assert [len(s.statements) for s in samples] == [2, 3, 4, 5] * 3
        true = [f"This is a {NAMES[one.label]}." for one in emoji()]
        assert [s.statements[s.answer] for s in samples] == true
    assert [s.key for s in samples[:4]] == ["000001", "q1", "000003", "q3"]


def test_many_lines_may_ask_about_one_picture(tmp_path):
    rows = [row | {"image": "pictures/twemoji-1f34c.png"} for row in statement_rows()]
    found = open_set(write_statements(tmp_path, rows))
    assert {s.image for s in found.samples()} == {emoji()[0].png}
    assert found.num_samples == 12


def test_the_fingerprint_changes_with_statement_and_answer(tmp_path):
    rows = statement_rows()
    found = {open_set(write_statements(tmp_path, rows)).fingerprint}
    rows[3]["answer"] -= 1
    found.add(open_set(write_statements(tmp_path, rows)).fingerprint)
    rows[3]["statements"][0] += " Or not."
    found.add(open_set(write_statements(tmp_path, rows)).fingerprint)
    assert len(found) == 3


def test_the_file_itself_may_be_named(statements):
    folder = open_set(statements)
    found = open_set(statements / "test.jsonl")
    assert (found.name, found.fingerprint) == ("test", folder.fingerprint)
    (statements / "test.jsonl").rename(statements / "questions.jsonl")
    assert splits_of(statements / "questions.jsonl") == ("test",)
    (statements / "questions.jsonl").rename(statements / "val.jsonl")
    assert splits_of(statements / "val.jsonl") == ("val",)


def test_blank_lines_are_passed_over_at_the_start_too(statements):
    whole = open_set(statements)
    file = statements / "test.jsonl"
    file.write_text(f"\n \n{file.read_text()}")
    assert open_set(statements).fingerprint == whole.fingerprint


def test_a_file_of_other_lines_says_what_to_rename(statements):
    (statements / "test.jsonl").write_text('{"image": "pictures/twemoji-1f34c.png", "answer": 0}')
    with pytest.raises(InputError, match=r"columns are 'image', 'answer': rename the one that"):
        open_set(statements / "test.jsonl")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"answer": 4}, r"line 3 has the \"answer\" 4: .* the 4 statements"),
        ({"answer": -1}, r"line 3 has the \"answer\" -1"),
        ({"answer": True}, r"line 3 has the \"answer\" True"),
        ({"answer": "1"}, r"line 3 has the \"answer\" '1'"),
        ({"statements": ["one"]}, r"line 3 needs \"statements\", a list of at least two"),
        ({"statements": ["one", " "]}, r"line 3 needs \"statements\""),
        ({"statements": "one two"}, r"line 3 needs \"statements\""),
        ({"statements": ["a", "b ", "b"]}, "line 3 has the same statement twice"),
        ({"image": None}, r"line 3 is no object with an \"image\""),
        ({"image": "../../etc/passwd"}, "line 3 .* is no path inside the set"),
        ({"image": "pictures/gone.png"}, r"line 3 .*pictures/gone\.png, which cannot be read"),
        ({"id": "q1"}, "sample q1 occurs twice"),
    ],
)
def test_a_line_that_is_not_whole_is_named(tmp_path, values, problem):
    rows = statement_rows()
    rows[2] |= values
    with pytest.raises(InputError, match=problem):
        open_set(write_statements(tmp_path, rows))


@pytest.mark.parametrize("line", ["{", "[1]", '{"image": "a\\q"}', b"\xff".decode("latin-1")])
def test_broken_json_names_its_line(statements, line):
    file = statements / "test.jsonl"
    lines = file.read_text().splitlines()
    lines.insert(2, line)
    file.write_bytes("\n\n".join(lines).encode("latin-1"))
    with pytest.raises(InputError, match=r"test\.jsonl line 5 is no (json|object)"):
        open_set(statements)


def test_the_first_line_must_not_be_the_only_one_that_is_whole(statements):
    with (statements / "test.jsonl").open("a") as file:
        file.write(json.dumps({"image": "pictures/twemoji-1f34c.png"}))
    with pytest.raises(InputError, match="line 13 needs"):
        open_set(statements)
