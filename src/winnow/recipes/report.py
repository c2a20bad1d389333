"""What `winnow report` takes and does: one page of what the other commands wrote."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from winnow.recipes.evaluate import PACKAGED, named_tasks
from winnow.reports.page import write_report


@dataclass(frozen=True, kw_only=True)
class Report:
    """One self-contained html page of a curation and its runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs; the first is what the others are compared with."""
    selection: Path | None = None
    """A selection's folder, for the curation funnel with its pictures."""
    tasks: tuple[str, ...] = (PACKAGED,)
    """Evaluation sets whose pictures the examples show, as given to `winnow evaluate`."""
    title: str = "winnow"
    """Headline of the page."""
    out: Path = Path("report.html")
    """The page."""


def run_report(options: Report) -> Path:
    """Write the page; its path."""
    return write_report(
        options.out,
        selection=options.selection,
        runs=options.runs,
        tasks=named_tasks(options.tasks),
        title=options.title,
    )
