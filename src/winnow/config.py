"""Configurations are frozen keyword-only dataclasses; this file turns them into json and back.

A field whose type is a union of dataclasses (the objective of a recipe, say) is written with the
name of its class under `"kind"`, so that the saved recipe of a run can be loaded back exactly.
"""

import dataclasses
import json
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cattrs import Converter
from cattrs.errors import BaseValidationError
from cattrs.strategies import configure_tagged_union
from cattrs.v import transform_error

from winnow.types import InputError

Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """The configuration as indented json, stable under key order."""
    return json.dumps(as_dict(config), indent=2, sort_keys=True) + "\n"


def as_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dicts, lists and scalars."""
    return _converter(type(config)).unstructure(config)  # type: ignore[arg-type]


def from_dict(kind: type[Config], values: Any, *, where: str) -> Config:
    """The configuration of class `kind` held by `values`; `where` names their origin in errors.

    Raises InputError for a missing, unknown or ill-typed field.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} does not describe a {kind.__name__}: it is no json object")
    try:
        return _converter(kind).structure(values, kind)  # type: ignore[arg-type]
    except BaseValidationError as error:
        sentences = _input_errors(error)
        if sentences:
            raise InputError(f"{where}: {'; '.join(sentences)}") from error
        problems = "; ".join(transform_error(error, path=kind.__name__))
        raise InputError(f"{where} does not describe a {kind.__name__}: {problems}") from error


def load(kind: type[Config], path: Path) -> Config:
    """The configuration of class `kind` in the json file at `path`."""
    return from_dict(kind, read_json(path), where=str(path))


def read_json(path: Path) -> Any:
    """What is in the json file at `path`. Raises InputError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as json: {error}; restore it, or delete it and run again the "
            "command that writes it"
        ) from error


def write_json(path: Path, values: Any) -> None:
    """Write `values` as json so that the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    partial.replace(path)


def differences(old: Any, new: Any) -> list[str]:
    """One line `field: old -> new` for every leaf in which two configurations differ."""
    old_leaves, new_leaves = _leaves(as_dict(old)), _leaves(as_dict(new))
    return [
        f"{name}: {old_leaves.get(name, 'absent')!r} -> {new_leaves.get(name, 'absent')!r}"
        for name in sorted(old_leaves.keys() | new_leaves.keys())
        if old_leaves.get(name, "absent") != new_leaves.get(name, "absent")
    ]


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix.rstrip("."): values}
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}{name}.")
    return leaves


@cache
def _converter(kind: type) -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    # What cattrs would do is to turn 2.9 into 2, "nan" into a number and 1 into true.
    for number in (int, float, bool):
        converter.register_structure_hook(number, _as_it_is)
    for union in _dataclass_unions(kind):
        configure_tagged_union(union, converter, tag_name="kind")
    return converter


def _as_it_is(value: Any, kind: type) -> Any:
    """`value`, which is of `kind` already, or a whole number for a float."""
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return kind(value)


def _input_errors(error: BaseException) -> list[str]:
    """What classes said themselves of their fields, in one sentence each."""
    if isinstance(error, BaseExceptionGroup):
        return [sentence for one in error.exceptions for sentence in _input_errors(one)]
    return [str(error)] if isinstance(error, InputError) else []


def _dataclass_unions(kind: type) -> list[Any]:
    """Every field type below `kind` that is a union of several dataclasses."""
    found: list[Any] = []
    for annotation in typing.get_type_hints(kind).values():
        members = [annotation]
        if isinstance(annotation, types.UnionType):
            members = [m for m in typing.get_args(annotation) if dataclasses.is_dataclass(m)]
            if len(members) > 1:
                found.append(annotation)
        for member in members:
            if dataclasses.is_dataclass(member):
                found += _dataclass_unions(typing.cast(type, member))
    return found
