"""Which column holds the picture and which the caption: found by its usual names, or told."""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.types import InputError

CAPTION_NAMES = (
    *("caption", "text", "title", "txt", "alt_text", "alttext", "alt", "description"),
    *("sentence", "prompt"),
)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What to read where detection would not find it or would choose another; None detects."""

    image: str | None = None
    """Column of the picture (its bytes, or its path); in a tar, the extension of its member."""
    caption: str | None = None
    """Column of the caption; in a tar, the field of the sample's json."""
    delimiter: str | None = None
    """What separates the columns of a csv file: one character."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise InputError(
                f"Columns(delimiter={self.delimiter!r}): a delimiter is one character; a tab is "
                "written '\\t' in Python and $'\\t' in a shell"
            )


DETECT = Columns()


def choose_column(
    told: str | None, usual: Sequence[str], *, found: Sequence[str], field: str, where: str
) -> str:
    """The column of `found` that was told, or else the first of the `usual` names, in any case.

    Raises InputError that lists the columns found and says where the `field` of Columns is given.
    """
    wanted = usual if told is None else (told,)
    present = {name.lower(): name for name in reversed(found)}
    for name in wanted:
        if name in found:
            return name
        if name.lower() in present:
            return present[name.lower()]
    searched = f"none of {', '.join(usual)}" if told is None else f"no column {told!r}"
    raise InputError(
        f"{where} has {searched}; its columns are {', '.join(map(repr, found)) or 'none'}: "
        f"rename the one that holds the {field}, or name it where pairs are read "
        f"(`winnow curate --columns.{field} NAME`, in Python Columns({field}=...))"
    )
