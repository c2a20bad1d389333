"""What `winnow report` takes and does: one page of what the other commands wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from winnow.curation.insight import Insight
from winnow.curation.summary import Summary
from winnow.data.folder import Folder
from winnow.evaluation.sets import open_set
from winnow.recipes.concept_page import section_or_problem
from winnow.recipes.packaged import PACKAGED
from winnow.recipes.robustness import plots_for
from winnow.recipes.tasks import evaluation_root, resolve
from winnow.reports.examples import EXAMPLES_OF, OpenSet, ShownSet
from winnow.reports.page import write_report
from winnow.reports.runs import Run, read_runs
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Report:
    """One self-contained html page of a curation and its runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Runs, or folders that `winnow evaluate` wrote; the first is what the others are compared
    with. With --selection alone the page is about the curation. What `winnow audit` found out
    about a run is shown too."""
    selection: Path | None = None
    """A selection's folder, for the curation funnel with its pictures."""
    concepts: Path | None = None
    """A teacher's targets for the selection, as `winnow concepts` names them, for what it and the
    runs with heads see in some pairs; default: the selection's, where there is one teacher's."""
    tasks: tuple[str, ...] = (PACKAGED,)
    """Evaluation sets whose pictures the examples show, as given to `winnow evaluate`."""
    root: Path | None = None
    """The folder of the sets that are named, as for `winnow evaluate`."""
    in_distribution: Annotated[str | None, tyro.conf.arg(name="in")] = None
    """The evaluation set without a shift, for the plots of robustness; as for `winnow robustness`,
    like the next two."""
    shift: tuple[str, ...] = ()
    """Sets under a shift; default: ImageNet's, those that were measured."""
    baseline: tuple[Path, ...] = ()
    """Runs or folders of results through whose models the line is fitted, instead of the
    published one."""
    title: str = "winnow"
    """Headline of the page."""
    out: Path = Path("report.html")
    """The page."""


def run_report(options: Report) -> Path:
    """Write the page; its path. Raises InputError where there is nothing to report."""
    if not options.runs and options.selection is None:
        raise InputError("there is nothing to report: name runs, or a --selection, or both")
    runs = read_runs(options.runs)
    concepts, problem = section_or_problem(options.selection, runs, options.concepts)
    places = resolve(options.tasks, options.root or evaluation_root()) if options.runs else {}
    return write_report(
        options.out,
        selection=options.selection,
        insight=None if options.selection is None else insight_of(options.selection),
        concepts=concepts,
        concepts_problem=problem,
        runs=options.runs,
        tasks=shown_sets(places, runs),
        robustness=plots_for(
            runs,
            in_distribution=options.in_distribution,
            shift=options.shift,
            baseline=options.baseline,
        ),
        title=options.title,
    )


def shown_sets(places: Mapping[str, Path | str], runs: Sequence[Run]) -> dict[str, OpenSet]:
    """What opens each evaluation set (name -> place): the split that the runs were measured on."""
    return {name: partial(_open_shown, name, place, runs) for name, place in places.items()}


def _open_shown(name: str, place: Path | str, runs: Sequence[Run]) -> ShownSet:
    measured = [
        (row["split"], run)
        for run in runs
        for row in run.results
        if row["task"] == name and row["protocol"] in EXAMPLES_OF
    ]
    split, run = measured[-1] if measured else ("test", runs[0])
    # What the evaluation found out about the files; without it they are checked again, end to end.
    records = run.evaluation / "embeddings" / "sets"
    found = open_set(place, split=split, name=name, records=records if records.is_dir() else None)
    return ShownSet(classnames=found.classnames, read=found.samples)


def insight_of(selection: Path) -> Insight:
    """What lets a page show the numbers behind the rules of the selection in a folder.

    Raises InputError where there is none.
    """
    return Insight(Folder.at(selection.absolute().parent.parent), Summary.read(selection))
