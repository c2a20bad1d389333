"""What `winnow compare` takes and does: is the second model better than the first?"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from winnow.config import write_json
from winnow.evaluation.comparing import Comparison, Comparisons, compare, shots_words
from winnow.predictions import split_direction
from winnow.recipes.evaluations import evaluation_folder
from winnow.reports.evaluation_rows import metric_words
from winnow.reports.table import format_p, plain_table, short_p
from winnow.types import InputError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Two models on the same samples: differences, how sure they are, and who wins on how many."""

    first: tyro.conf.Positional[Path]
    """The reference: a run, or a folder that `winnow evaluate` wrote."""
    second: tyro.conf.Positional[Path]
    """What is compared with it."""
    metric: Literal["main", "all"] = "main"
    """The metric by which each task counts, or every one."""
    resamples: int = 5000
    """Draws of the bootstrap; the least p-value that it can give is 2 in that many."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """Also write the numbers into this json file."""

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError(f"resamples is {self.resamples}; an interval needs at least 100")


def run_compare(options: Compare, *, say: Callable[..., None]) -> None:
    """Compare, and say what came out."""
    if options.out is not None:
        _require_place(options.out)
    found = compare(
        evaluation_folder(options.first),
        evaluation_folder(options.second),
        metrics=options.metric,
        resamples=options.resamples,
        seed=options.seed,
    )
    say(comparison_table(found))
    for sentence in _sentences(found):
        say(sentence, markup=False)
    if options.out is not None:
        write_json(options.out, _as_json(options, found))
        say(f"written to {options.out}", markup=False)


def _require_place(out: Path) -> None:
    """Make the file's folder. Raises InputError where the file could not be written in the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        is_possible = not out.is_dir() and os.access(out.parent, os.W_OK)
    except OSError:
        is_possible = False
    if not is_possible:
        raise InputError(f"{out} cannot be written: name another file with --out")


def comparison_table(found: Comparisons) -> "Table":
    """Every comparison for the terminal, 80 columns wide: percent, points and their interval."""
    from rich.text import Text

    table = plain_table("second against first, %", show_edge=False)
    table.add_column("", overflow="fold")
    for name in ("first", "second", "change, 95 %", "p", "Holm", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, of_task in groupby(found.comparisons, key=lambda one: one.measured.task):
        table.add_row(Text(task, style="bold"))
        for probe, comparisons in groupby(of_task, key=_probe):
            if probe:
                table.add_row(Text(f" {probe}"))
            for one in comparisons:
                holm = "" if one.adjusted_p is None else short_p(one.adjusted_p)
                p_words = short_p(one.difference.p_value)
                cells = (_metric(one), *_numbers(one), p_words, holm, f"{one.difference.n:,}")
                table.add_row(*map(Text, cells))
    return table


def _sentences(found: Comparisons) -> Iterator[str]:
    """Who wins on how many tasks, what to keep in mind, and what was not compared."""
    for group, test in found.sign_tests.items():
        if len(_tasks(found, group)) < 2:
            continue
        decided = test.wins + test.losses
        ties = f", {test.ties} equal and left out" if test.ties else ""
        yield (
            f"{group}: second wins {test.wins} of {decided}{ties}; "
            f"sign test {format_p(test.p_value)}"
        )
    notes = (
        f"note on {one.measured.task} ({one.measured.protocol}): {note}"
        for one in found.comparisons
        for note in one.notes
    )
    yield from dict.fromkeys(notes)
    for left_out in found.left_out:
        yield f"left out {left_out.task} ({left_out.protocol}): {left_out.why}"


def _tasks(found: Comparisons, group: str) -> set[str]:
    """Those that the group's sign test is over."""
    of_group = [one for one in found.comparisons if one.is_main and one.measured.group == group]
    return {one.measured.task for one in of_group}


def _as_json(options: Compare, found: Comparisons) -> dict[str, Any]:
    return {
        "first": str(options.first),
        "second": str(options.second),
        "metric": options.metric,
        "resamples": options.resamples,
        "seed": options.seed,
        "comparisons": [
            {
                **one.measured._asdict(),
                "group": one.measured.group,
                "is_main": one.is_main,
                **asdict(one.difference),
                "adjusted_p": one.adjusted_p,
                "notes": list(one.notes),
            }
            for one in found.comparisons
        ],
        "left_out": [asdict(one) for one in found.left_out],
        "sign_tests": {group: asdict(test) for group, test in found.sign_tests.items()},
    }


def _probe(one: Comparison) -> str:
    """The heading under a task; none of zero-shot."""
    measured = one.measured
    if measured.protocol == "few-shot":
        return measured.method
    return "linear probe" if measured.protocol == "linear-probe" else ""


def _metric(one: Comparison) -> str:
    measured = one.measured
    shots = f"{shots_words(measured.shots)} " if measured.protocol == "few-shot" else ""
    return f" {' ' if _probe(one) else ''}{shots}{metric_words(measured.metric)}"


def _numbers(one: Comparison) -> list[str]:
    found = one.difference
    # A rank is no share of anything.
    scale = 1 if split_direction(one.measured.metric)[1] == "median_rank" else 100
    ends = (found.difference, found.low, found.high)
    change, low, high = (f"{scale * value:+z.1f}" for value in ends)
    both = [f"{scale * value:.1f}" for value in (found.first, found.second)]
    return [*both, f"{change} [{low}, {high}]".replace("-", "−")]
