"""A study's tables: as json for the page, as markdown for a document, as text for a terminal."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.config import write_json
from winnow.evaluation.study.answers import Answers, answers_of
from winnow.evaluation.study.reading import read_study
from winnow.evaluation.study.verdicts import Verdict, verdicts
from winnow.evaluation.study.words import WordTable, word_tables

if TYPE_CHECKING:
    from rich.table import Table

_MARKUP = re.compile(r"([\\`*_\[\]|~$#])")


@dataclass(frozen=True, kw_only=True)
class StudyTables:
    """All that a study says."""

    name: str
    """Of its folder."""
    cells: int
    """Done."""
    answers: Answers
    verdicts: list[Verdict]
    words: list[WordTable]
    problems: list[str]
    """What is missing or was left out, in sentences."""


def study_tables(study: Path) -> StudyTables:
    """What the finished cells in the folder `study` say.

    Raises InputError where study.json or a finished cell's files are missing or damaged. What is
    merely not there yet is "not measured".
    """
    read = read_study(study)
    answers = answers_of(read)
    found = verdicts(answers)
    return StudyTables(
        name=study.absolute().name,
        cells=len(read.cells),
        answers=answers,
        verdicts=found,
        words=word_tables(answers, found),
        problems=list(read.problems),
    )


def as_json(tables: StudyTables) -> dict[str, Any]:
    """The same in plain dicts, lists and scalars; all numbers finite."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(tables))
    return plain


def write_study_tables(tables: StudyTables, out: Path) -> Path:
    """Write them as json to `out`, whole or not at all; its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, as_json(tables))
    return out


def markdown(tables: StudyTables) -> str:
    """Every table under a heading, names as plain text."""
    parts = [part for table in tables.words for part in _markdown(table)]
    if tables.problems:
        parts += [
            "### Missing or left out",
            "",
            *(f"- {_cell(one)}" for one in tables.problems),
            "",
        ]
    return "\n".join(parts)


def rich_tables(tables: StudyTables) -> "list[Table]":
    """For a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    found = []
    for words in tables.words:
        table = Table(title=Text(words.title), title_justify="left", box=SIMPLE_HEAD)
        table.caption = Text(words.note)
        table.caption_justify = "left"
        for head in words.head:
            table.add_column(Text(head), overflow="fold")
        for row in words.rows:
            table.add_row(*map(Text, row))
        found.append(table)
    return found


def _markdown(table: WordTable) -> list[str]:
    return [
        f"### {_cell(table.title)}",
        "",
        _line(table.head),
        _line(["---"] * len(table.head), escape=False),
        *(_line(row) for row in table.rows),
        "",
        _cell(table.note),
        "",
    ]


def _line(cells: "tuple[str, ...] | list[str]", *, escape: bool = True) -> str:
    shown = map(_cell, cells) if escape else cells
    return f"| {' | '.join(shown)} |"


def _cell(words: str) -> str:
    """One line in which nothing is markup."""
    line = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", line)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    # An interval without end, as that of a line through two cells.
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
