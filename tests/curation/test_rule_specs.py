"""Rules in words: read, changed, saved and read again."""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from curation_samples import ledger_rows

from winnow.curation.corpus import Corpus
from winnow.curation.rule_specs import change, from_settings, name_of, read_rules
from winnow.curation.rules.action import HasAction
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.caption_placeholder import CaptionPlaceholder
from winnow.curation.rules.catalog import RULES
from winnow.curation.rules.complexity import Complexity
from winnow.curation.rules.exclude import Exclude
from winnow.curation.rules.score import Score
from winnow.curation.selections import SELECTIONS, cat, clean
from winnow.types import InputError


def test_words_are_selections_and_rules_in_order():
    rules = read_rules(["clean", "score:column=nsfw,most=0.5", "cat", "complexity:least=2"])
    assert rules == (*clean(), Score(column="nsfw", most=0.5), *cat(), Complexity(least=2))


def test_settings_change_every_rule_of_the_name():
    rules = read_rules(["caption-length", "clean"], settings=["caption-length.min_words=4"])
    assert [rule.min_words for rule in rules if isinstance(rule, CaptionLength)] == [4, 4]
    assert change([Complexity()], "complexity", "least", "3") == [Complexity(least=3)]


def test_a_list_and_its_commas_are_one_value():
    (rule,) = read_rules(['caption-placeholder:phrases=["a photo, untitled", "logo"]'])
    assert rule == CaptionPlaceholder(phrases=("a photo, untitled", "logo"))


def test_a_json_file_holds_words_and_rules_and_a_summary_is_one(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(["has-action", {"rule": "complexity", "least": 2}]))
    assert read_rules([str(path)]) == (HasAction(), Complexity(least=2))
    path.write_text(json.dumps({"seen": 3, "rules": [rule.settings() for rule in clean()]}))
    assert read_rules([str(path)]) == clean()


@pytest.mark.parametrize("name", SELECTIONS)
def test_built_in_selections_survive_being_saved(name):
    for rule in SELECTIONS[name]():
        saved = json.loads(json.dumps(rule.settings()))
        assert from_settings(saved, where="here") == rule


def test_every_rule_has_a_name_of_its_own_codes_and_documented_fields():
    names = [kind.name() for kind in RULES]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and " " not in name for name in names)
    for kind in RULES:
        assert kind.__doc__ and not kind.__doc__.startswith(kind.__name__ + "(")
        assert all(field.kw_only for field in fields(kind))


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_rules_that_judge_a_row_by_itself_ask_no_corpus(kind):
    """A gate is made of them: one that asked would see no other shard."""
    needed = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if needed or kind().needs:
        pytest.skip("is tried with its files or its annotator")

    def survivors():
        raise LookupError("asked")

    rows = ledger_rows({"caption": "a red apple"}, {"caption": "a red apple"})
    if kind.asks_corpus:
        with pytest.raises(LookupError, match="asked"):
            kind().verdicts(rows, Corpus(survivors))
    else:
        assert len(kind().verdicts(rows, Corpus(survivors))) == 2


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["complexty"], [], r"no rule or selection 'complexty', did you mean 'complexity'\?"),
        (["complexity:most=2"], [], "'complexity' has no field 'most'; it has least"),
        (["complexity:least=many"], [], "complexity:least=many does not describe a Complexity"),
        (["complexity:2"], [], "write complexity:FIELD=VALUE"),
        (["clean"], ["complexity.least=2"], "'complexity' is not among the rules"),
        (["cat"], ["complexity=2"], "'complexity=2' sets nothing"),
        (["score"], [], "does not describe a Score"),
        (["missing.json"], [], "missing.json cannot be read"),
        (["caption-placeholder:phrases=photo"], [], r'write phrases=\["photo"\]'),
        (["cat"], ["complexity.least=2.9"], "expected int @ Complexity.least"),
        (["cat"], ["complexity.least=true"], "expected int @ Complexity.least"),
        (["cat"], ["complexity.least=-1"], r"^complexity.least=-1: .*: give 0 or more$"),
        (["score:column=nsfw,most=NaN"], [], "'score' cannot have most=nan"),
        (["score:column=nsfw,most=-Infinity"], [], "'score' cannot have most=-inf"),
        (["score:column=nsfw,most=inf"], [], "expected float"),
        (["score:column=nsfw,least=2,most=1"], [], r"^score:.*holds no number, so every pair"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(words, settings, message):
    with pytest.raises(InputError, match=message):
        read_rules(words, settings=settings)


def test_names_of_selections_come_from_their_words():
    assert name_of(["clean", "cat"]) == "clean-cat"
    assert name_of(["folder/my rules.json", "complexity:least=2"]) == "my-rules-complexity"


def test_a_whole_number_does_for_a_fraction_and_null_for_no_limit():
    (score,) = read_rules(["score:column=nsfw,least=0,most=null"])
    assert score == Score(column="nsfw", least=0.0)
    (length,) = read_rules(["caption-length:max_words=null"])
    assert length == CaptionLength(max_words=None)


def test_a_file_that_names_itself_is_refused_and_one_named_twice_is_not(tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps([str(two)]))
    two.write_text(json.dumps(["complexity", str(tmp_path / "." / "one.json")]))
    with pytest.raises(InputError, match=r"one\.json names itself, or a file that names it"):
        read_rules([str(one)])
    two.write_text(json.dumps(["complexity"]))
    assert read_rules([str(one), str(two)]) == (Complexity(), Complexity())


def test_saved_rules_find_their_files_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = Exclude(path=Path("lists/../out.txt")).settings()
    assert saved == {"rule": "exclude", "path": str(tmp_path / "out.txt")}
