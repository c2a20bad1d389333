"""Fields of a recipe by their dotted names, as saved recipes have them: `optimizer.learning_rate`.

What a level, a method or a trial changes is written this way, so that it can be saved as json and
read again beside the numbers that came of it.
"""

from collections.abc import Mapping
from typing import Any

from winnow.config import as_dict, from_dict
from winnow.training.recipe import Recipe
from winnow.types import InputError

Fields = Mapping[str, Any]
"""Values by dotted name, as json has them: numbers, words, lists, objects, None."""


def with_fields(recipe: Recipe, fields: Fields, *, where: str) -> Recipe:
    """`recipe` with these fields changed, all at once; `where` names their origin in errors.

    Raises InputError for a name that the recipe does not have and for a value of another type.
    """
    if not fields:
        return recipe
    values = as_dict(recipe)
    for name, value in fields.items():
        _set(values, name, value, where=where)
    return from_dict(Recipe, values, where=where)


def _set(values: dict[str, Any], name: str, value: Any, *, where: str) -> None:
    *parents, last = name.split(".")
    inner: Any = values
    for parent in parents:
        inner = inner.get(parent) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner:
        known = ", ".join(inner) if isinstance(inner, dict) else "none there"
        raise InputError(f"{where}: the recipe has no field {name!r}; there are {known}")
    inner[last] = value
