"""What `winnow report` takes and does: one page of what the other commands wrote."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from winnow.curation.insight import Insight
from winnow.curation.summary import Summary
from winnow.data.folder import Folder
from winnow.recipes.concept_page import section_or_problem
from winnow.recipes.packaged import PACKAGED
from winnow.recipes.tasks import evaluation_root, resolve
from winnow.reports.page import write_report
from winnow.reports.runs import read_runs
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Report:
    """One self-contained html page of a curation and its runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of runs; the first is what the others are compared with. With --selection alone the
    page is about the curation."""
    selection: Path | None = None
    """A selection's folder, for the curation funnel with its pictures."""
    concepts: Path | None = None
    """A teacher's targets for the selection, as `winnow concepts` names them, for what it and the
    runs with heads see in some pairs; default: the selection's, where there is one teacher's."""
    tasks: tuple[str, ...] = (PACKAGED,)
    """Evaluation sets whose pictures the examples show, as given to `winnow evaluate`."""
    root: Path | None = None
    """The folder of the sets that are named, as for `winnow evaluate`."""
    title: str = "winnow"
    """Headline of the page."""
    out: Path = Path("report.html")
    """The page."""


def run_report(options: Report) -> Path:
    """Write the page; its path. Raises InputError where there is nothing to report."""
    if not options.runs and options.selection is None:
        raise InputError("there is nothing to report: name runs, or a --selection, or both")
    concepts, problem = section_or_problem(
        options.selection, read_runs(options.runs), options.concepts
    )
    places = resolve(options.tasks, options.root or evaluation_root()) if options.runs else {}
    return write_report(
        options.out,
        selection=options.selection,
        insight=None if options.selection is None else insight_of(options.selection),
        concepts=concepts,
        concepts_problem=problem,
        runs=options.runs,
        tasks={name: Path(place) for name, place in places.items()},
        title=options.title,
    )


def insight_of(selection: Path) -> Insight:
    """What lets a page show the numbers behind the rules of the selection in a folder.

    Raises InputError where there is none.
    """
    return Insight(Folder.at(selection.absolute().parent.parent), Summary.read(selection))
