"""Rules in words: what the command line and json files say, as rules and back.

A word is the name of a selection (`cat`), a json file, or a rule with its thresholds:
`complexity`, `caption-length:min_words=3,min_characters=6`. A json file is a list of words or of
objects `{"rule": "complexity", "least": 2}`; the `summary.json` of a selection is one too.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from winnow.config import from_dict, read_json
from winnow.curation.rules.catalog import RULES
from winnow.curation.rules.rule import Rule
from winnow.curation.selections import SELECTIONS
from winnow.types import InputError

_CLASSES: dict[str, type[Rule]] = {kind.name(): kind for kind in RULES}


def read_rules(words: Sequence[str], *, settings: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules that `words` name, in their order, with `settings` (`complexity.least=2`) applied.

    Raises InputError where a name, a field or a value is wrong.
    """
    rules = [rule for word in words for rule in _of_word(word)]
    for setting in settings:
        name, field, value = split_setting(setting)
        rules = change(rules, name, field, value)
    return tuple(rules)


def change(rules: Sequence[Rule], name: str, field: str, value: str) -> list[Rule]:
    """`rules` with one field of every rule called `name` set to what `value` says.

    Raises InputError where there is no such rule or field, or where the value does not fit.
    """
    kind = _class(name)
    if not any(isinstance(rule, kind) for rule in rules):
        present = ", ".join(dict.fromkeys(rule.name() for rule in rules)) or "none"
        raise InputError(f"{name}.{field}: the rule {name!r} is not among the rules ({present})")
    changed = {field: _value(value)}
    return [
        _make(kind, {**_without_name(rule), **changed}, where=f"{name}.{field}={value}")
        if type(rule) is kind
        else rule
        for rule in rules
    ]


def split_setting(setting: str) -> tuple[str, str, str]:
    """`RULE.FIELD=VALUE` in its parts."""
    found = re.fullmatch(r"([\w-]+)\.(\w+)=(.*)", setting)
    if found is None:
        raise InputError(
            f"{setting!r} sets nothing: write RULE.FIELD=VALUE, complexity.least=2 say"
        )
    return found[1], found[2], found[3]


def name_of(words: Sequence[str]) -> str:
    """What a selection by these words is called where nothing else is said: `clean-cat`."""
    stems = [
        Path(word).stem if word.endswith(".json") else word.partition(":")[0] for word in words
    ]
    return re.sub(r"[^\w.-]+", "-", "-".join(stems))[:80].strip("-.") or "none"


def from_settings(settings: Mapping[str, Any], *, where: str) -> Rule:
    """The rule whose `settings()` these are."""
    values = dict(settings)
    name = values.pop("rule", None)
    if not isinstance(name, str):
        raise InputError(f'{where} has a rule without a name: give it "rule": "complexity", say')
    return _make(_class(name), values, where=where)


def _of_word(word: str, within: tuple[Path, ...] = ()) -> tuple[Rule, ...]:
    """The rules of a word, which stands in the files `within`."""
    if word in SELECTIONS:
        return SELECTIONS[word]()
    if word.endswith(".json"):
        return _of_file(Path(word), within)
    name, _, listed = word.partition(":")
    kind = _class(name)
    # A comma parts two fields only where a name and an equals sign follow: values may hold commas.
    parts = re.split(r",(?=\w+=)", listed) if listed else []
    values: dict[str, str] = {}
    for part in parts:
        field, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{word!r}: write {name}:FIELD=VALUE,FIELD=VALUE")
        values[field] = value
    return (_make(kind, {field: _value(value) for field, value in values.items()}, where=word),)


def _of_file(path: Path, within: tuple[Path, ...]) -> tuple[Rule, ...]:
    if path.resolve() in within:
        raise InputError(
            f"{path} names itself, or a file that names it: write the rules meant in its place"
        )
    listed = read_json(path)
    if isinstance(listed, dict):
        listed = listed.get("rules")
    if not isinstance(listed, list):
        raise InputError(
            f'{path} holds no list of rules: write ["clean", {{"rule": "complexity"}}]'
        )
    rules: list[Rule] = []
    for entry in listed:
        if isinstance(entry, str):
            rules += _of_word(entry, (*within, path.resolve()))
        elif isinstance(entry, dict):
            rules.append(from_settings(entry, where=str(path)))
        else:
            raise InputError(f"{path}: {json.dumps(entry)} is neither a word nor a rule")
    return tuple(rules)


def _class(name: str) -> type[Rule]:
    if name in _CLASSES:
        return _CLASSES[name]
    near = get_close_matches(name, [*_CLASSES, *SELECTIONS], 1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"there is no rule or selection {name!r}{hint} Selections: {', '.join(SELECTIONS)}. "
        f"Rules: {', '.join(_CLASSES)}"
    )


def _make(kind: type[Rule], values: Mapping[str, Any], *, where: str) -> Rule:
    types = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for field, value in values.items():
        if field not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(f"{where}: {kind.name()!r} has no field {field!r}; it has {listed}")
        _check_kind(field, value, types[field], where=f"{where}: {kind.name()!r}")
    return from_dict(kind, dict(values), where=where)


def _check_kind(field: str, value: Any, kind: Any, *, where: str) -> None:
    """Raise InputError for values that would pass for something else."""
    if isinstance(value, str) and get_origin(kind) is tuple:
        raise InputError(
            f"{where} has a list in {field!r}, and {value!r} is none: write "
            f"{field}={json.dumps([value])}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} cannot have {field}={value}: give a number")


def _without_name(rule: Rule) -> dict[str, Any]:
    return {field: value for field, value in rule.settings().items() if field != "rule"}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
