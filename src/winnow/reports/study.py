"""The page of a study: verdicts on papers' claims, and the tables and charts they rest on.

It takes the study's tables as json, which `evaluation/study/tables.py` makes of finished cells.
Names of methods, levels and sets are somebody's words and are escaped like all others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from winnow.config import read_json
from winnow.reports.shell import Part, render, write_page
from winnow.reports.study_charts import (
    axis_figures,
    base_forests,
    few_shot_figures,
    level_forests,
    robustness_figures,
)
from winnow.types import InputError

_FOLDED = 24
"""Rows beyond which a table is folded."""
_NEEDED = ("name", "cells", "answers", "words", "problems")
_TITLES = {
    "study-verdicts": ("Verdicts", ("verdicts",)),
    "study-base": ("All methods", ("macro", "tasks")),
    "study-axes": ("Along the axes", ("levels", "growth")),
    "study-robustness": ("Robustness", ("robustness",)),
    "study-few-shot": ("Few-shot", ("few-shot",)),
    "study-cost": ("Cost", ("cost",)),
}
"""Anchor: title, and the tables of a part."""


class ShownTable(NamedTuple):
    """A table as the page has it, without columns that say nothing."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    is_folded: bool


def read_study_tables(path: Path) -> dict[str, Any]:
    """What `write_study_tables` wrote. Raises InputError where it is missing or something else."""
    tables = read_json(path)
    if not isinstance(tables, dict) or any(name not in tables for name in _NEEDED):
        raise InputError(f"{path} holds no tables of a study: write them again from its folder")
    return tables


def study_page(tables: Mapping[str, Any], out: Path) -> Path:
    """Write the page to `out`, whole or not at all; its path."""
    facts = tables["answers"]["facts"]
    others = [name for name in facts["methods"] if name != facts["baseline"]]
    lead = (
        f"{', '.join(others) or 'No other method'} against {facts['baseline']} · "
        f"{tables['cells']:,} cell{'' if tables['cells'] == 1 else 's'} done"
    )
    title = f"Study {tables['name']}"
    return write_page(out, title=title, lead=lead, parts=lambda _: study_parts(tables))


def study_parts(tables: Mapping[str, Any]) -> list[Part]:
    """The parts of the page that have something to say, to stand in another page too."""
    answers = tables["answers"]
    facts = answers["facts"]
    charts: dict[str, dict[str, Any]] = {
        "study-base": {"forests": base_forests(answers)},
        "study-axes": {"figures": axis_figures(answers), "forests": level_forests(answers)},
        "study-robustness": {"figures": robustness_figures(answers)},
        "study-few-shot": {"figures": few_shot_figures(answers)},
    }
    by_key = {table["key"]: _shown(table) for table in tables["words"]}
    parts = []
    for anchor, (title, keys) in _TITLES.items():
        shown = [by_key[key] for key in keys if key in by_key]
        if not shown:
            continue
        drawn = {"forests": [], "figures": []} | charts.get(anchor, {})
        body = render("study.html.j2", tables=shown, methods=facts["methods"], **drawn)
        parts.append(Part(anchor, title, body))
    if tables["problems"]:
        body = render("study_problems.html.j2", problems=tables["problems"])
        parts.append(Part("study-problems", "Missing or left out", body))
    return parts


def _shown(table: Mapping[str, Any]) -> ShownTable:
    rows = table["rows"]
    kept = [n for n, name in enumerate(table["head"]) if name != "note" or any(r[n] for r in rows)]
    return ShownTable(
        table["title"],
        [table["head"][n] for n in kept],
        [[row[n] for n in kept] for row in rows],
        table["note"],
        len(rows) > _FOLDED,
    )
