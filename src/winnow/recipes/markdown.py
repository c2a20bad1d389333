"""Markdown of what others wrote: names, captions and settings that must not act as markup.

What comes in may be scraped; a model card is shown by whoever opens it, html, links and all.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 200
_MARKUP = re.compile(r"([\\`*_\[\]|~$#])")
_AUTOLINKS = re.compile(
    r"(?i)(?<=http)s?(?=:)|(?<=www)(?=\.)|(?<=ftp)(?=:)|(?<=mailto)(?=:)|(?<=@)"
)
"""Where a space of no width keeps an address from becoming a link."""


def plain(text: object) -> str:
    """One line of plain text that shows as it is, cut after 200 characters."""
    words = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in str(text)).split()
    line = " ".join(words)
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    # Ampersands first, for the entities that replace angle brackets have some.
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _MARKUP.sub(r"\\\1", line)
    return _AUTOLINKS.sub(lambda found: f"{found[0]}&#8203;", line)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of cells, each plain text; numbers stand right."""
    shown = [[plain(cell) for cell in row] for row in rows]
    numbers = [all(_is_number(row[column]) for row in shown) for column in range(len(head))]
    rule = ["---:" if is_number and shown else "---" for is_number in numbers]
    return [_line(head), _line(rule), *map(_line, shown)]


def without_folders(value: Any) -> Any:
    """The value with every path cut to its last name: a card says nothing of its writer's disk."""
    if isinstance(value, dict):
        return {name: without_folders(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    if not isinstance(value, str) or value.startswith("hf-hub:"):
        return value
    kind, colon, rest = value.partition(":")
    if colon and kind in ("local-dir", "openai", "diht"):
        return f"{kind}:{_last(rest)}"
    return _last(value)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-−+]?[\d,]*\.?\d*%?", cell) is not None
