"""What a layout's reader hands over: the split of a set as its files say it, not yet read.

A reader knows its files and what is wrong with them; what holds for every layout (unique keys,
pictures with bytes, captions for all or none) is checked in one place, `reading.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from winnow.types import InputError

LabelKind = Literal["none", "single", "multi"]
VALIDATION = ("val", "validation", "valid", "dev")
SPLIT_NAMES = ("test", *VALIDATION, "train")
"""What splits are called that models are measured on or fitted to; the former first."""


class MissingSetError(InputError):
    """There is no evaluation set at the given place, or no such split of it."""


class Sample(NamedTuple):
    """One picture of a set, with all that is said of it."""

    key: str
    """Unique in its split."""
    image: bytes
    """Encoded, as it stands in its file."""
    labels: tuple[int, ...] = ()
    """One in a single-label set, any number in a multi-label one."""
    captions: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    """Candidates of which one is true of this picture."""
    answer: int | None = None
    """Which statement is true."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A split that was found."""

    folder: Path
    files: tuple[str, ...] | None
    """Every file it is read from, class names and prompts too; None where only reading says."""
    read: Callable[[], Iterator[Sample]]
    """Every picture in order; raises InputError that names file and key."""
    num_samples: int | None = None
    """None where only reading says."""
    label_kind: LabelKind = "none"
    classnames: tuple[str, ...] = ()
    """In label order."""
    templates: tuple[str, ...] = ()


Splits = dict[str, Callable[[], Contents]]
"""What finds each split of a set, by name; empty for a folder that is not in the layout."""
