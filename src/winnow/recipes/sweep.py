"""What `winnow sweep` takes and does: a table of what other thresholds would keep."""

from dataclasses import dataclass

import tyro
from rich.markup import escape
from rich.table import Table

from winnow.curation.rule_specs import from_settings, read_rules
from winnow.curation.rules.rule import Rule
from winnow.curation.select import selection_folder
from winnow.curation.summary import Summary
from winnow.curation.sweep import SweepRow, sweep
from winnow.data.folder import Folder
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a selection would keep at other thresholds of one rule; nothing is written."""

    out: tyro.conf.Positional[str]
    """A folder that `winnow curate` has made, or its URL."""
    setting: tyro.conf.Positional[str]
    """RULE.FIELD=VALUES; values are 0..4, 0.2..0.3:0.02 or 2,4,8: complexity.least=0..4."""
    selection: str | None = None
    """Whose rules; default the only selection there is."""
    rules: tuple[str, ...] = ()
    """Instead of a selection's: as `winnow curate --rules` takes them."""


def run_sweep(options: Sweep) -> Table:
    """The table for the terminal."""
    out = Folder.at(options.out)
    rules = read_rules(options.rules) if options.rules else rules_of(out, options.selection)
    return _table(options.setting, list(sweep(out, rules, options.setting)))


def rules_of(out: Folder, selection: str | None) -> tuple[Rule, ...]:
    """The rules that a selection of `out` was made by; of the only one where none is named.

    Raises InputError where there is no such selection, or several to choose from.
    """
    names = [selection] if selection is not None else (out / "selections").folders()
    if len(names) != 1:
        there = f"several selections ({', '.join(names)})" if names else "no selection"
        raise InputError(f"{out.url} holds {there}: name one with --selection")
    folder = selection_folder(out, names[0])
    summary = Summary.read(folder)
    return tuple(from_settings(rule, where=f"{folder.url}/summary.json") for rule in summary.rules)


def _table(setting: str, rows: list[SweepRow]) -> Table:
    name, _, _ = setting.partition("=")
    table = Table(title=f"{escape(name)}: what would be kept", title_justify="left")
    table.add_column(escape(name.partition(".")[2]))
    for title in ("kept", "share", "dropped by it", "dropped by others", "unknown"):
        table.add_column(title, justify="right")
    for row in rows:
        seen = row.kept + row.dropped + row.other + row.unknown
        counts = (row.dropped, row.other, row.unknown)
        share = f"{row.kept / max(1, seen):.1%}"
        numbers = (f"{row.kept:,}", share, *(f"{count:,}" for count in counts))
        table.add_row(escape(row.value), *numbers)
    if any(row.unknown for row in rows):
        table.caption = (
            "unknown: rows that this threshold lets through and that were never annotated; "
            "`winnow curate SHARDS --out DIR` with it looks at just those"
        )
    return table
