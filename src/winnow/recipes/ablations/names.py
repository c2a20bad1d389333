"""Names of methods, axes and levels: they are parts of file names and of cells' names."""

import re
from collections.abc import Iterable

from winnow.types import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


def refuse_odd_name(what: str, name: str) -> None:
    """Raise InputError for a name that could not be part of a file's."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a {what} cannot be called {name!r}: use up to 40 letters, digits, '_', '-', '.', '+'"
        )


def refuse_twice(what: str, names: Iterable[object]) -> None:
    """Raise InputError where something is named two times, or nothing is."""
    listed = list(names)
    if not listed:
        raise InputError(f"a study needs at least one {what}")
    for name in listed:
        if listed.count(name) > 1:
            raise InputError(f"the study names the {what} {name!r} twice: name it once")
