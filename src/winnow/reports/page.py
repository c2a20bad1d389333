"""The report: one page of what was dropped, trained and measured, of one run or several compared.

A part whose files are missing is left out with a line that says why. What a page is, its safety
and its size are those of its shell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from winnow.reports.audit import CLUSTERS_SHOWN, DOUBTS_SHOWN, Audit, audit_parts, read_audit
from winnow.reports.concepts import LISTED, TOP, ConceptSection, arrange
from winnow.reports.curation import Curation, Truth, read_curation
from winnow.reports.evaluation import evaluation_section
from winnow.reports.examples import OpenSet, TaskExamples, read_examples
from winnow.reports.hostile import visible
from winnow.reports.insight import Insight
from winnow.reports.robustness_plot import RobustnessPlot
from winnow.reports.runs import Run, read_runs
from winnow.reports.shell import Allowance, Part, render, write_page
from winnow.reports.table import headline_of
from winnow.reports.training import recipe_differences
from winnow.reports.training_section import training_section

_HEADLINE_ROWS = 40
"""Beyond that the table is folded, and the page begins with the plot of all sets."""

_MEASURED_ROWS = 2_000
"""Of the table of every number."""

NO_CONCEPTS = "No concepts were given, so nothing is known of what a teacher sees in the pictures."

_PARTS = {
    "results": "Results",
    "evaluation": "Evaluation",
    "curation": "Curation",
    "concepts": "Concepts",
    "training": "Training",
    "examples": "What the models see",
    "provenance": "Provenance",
}
"""Anchor, which is the template's name, and title."""


def write_report(
    out: Path,
    *,
    selection: Path | None,
    runs: Sequence[Path],
    tasks: Mapping[str, OpenSet],
    title: str,
    notes: Sequence[str] = (),
    truth: Truth | None = None,
    insight: Insight | None = None,
    concepts: ConceptSection | None = None,
    concepts_problem: str = NO_CONCEPTS,
    robustness: Sequence[RobustnessPlot] = (),
) -> Path:
    """Write the page to `out` and return it.

    `tasks` (name -> what opens the set) are where pictures for the examples come from; `notes`
    stand at the top; `truth` is what is known of planted noise; `insight` puts the selection's
    rules to a sample of its pairs again; `concepts` is what a teacher and the runs see in some
    pairs, and without it `concepts_problem` says why it is missing; `robustness` are accuracies
    under shifts, each with the line to compare with. Raises InputError for a run or a selection
    that is not there, or whose files are damaged.
    """
    read = read_runs(runs)
    curation, curation_problem = _curation(selection, insight)
    examples, example_problems = _examples(read, tasks)
    audits = {run.name: audit for run in read if (audit := read_audit(run.folder)) is not None}
    values = {
        "runs": read,
        "rows": headline_of(read),
        "headline_rows": _HEADLINE_ROWS,
        "measured": [(r, row) for r in read for row in r.results if row["subset"] is None],
        "measured_rows": _MEASURED_ROWS,
        "evaluation": evaluation_section(read, robustness),
        "curation": curation,
        "curation_problem": curation_problem,
        "truth": truth,
        "concepts": concepts and arrange(concepts, [run.name for run in read]),
        "concepts_problem": concepts_problem,
        "training": training_section(read),
        "examples": examples,
        "example_problems": example_problems,
        "differences": recipe_differences([run for run in read if run.recipe]),
        "provenance": _provenance(read),
        "top": TOP,
        "listed": LISTED,
    }

    def parts(allowance: Allowance) -> list[Part]:
        found = [
            Part(name, words, render(f"{name}.html.j2", allowance=allowance, **values))
            for name, words in _PARTS.items()
        ]
        before_provenance = len(found) - 1
        found[before_provenance:before_provenance] = _audit_parts(audits, allowance)
        return found

    names = " · ".join(run.name for run in read) or "no runs"
    about = f" · selection “{curation.name}”" if curation else ""
    return write_page(out, title=title, lead=names + about, parts=parts, notes=notes)


def _audit_parts(audits: Mapping[str, Audit], allowance: Allowance) -> list[Part]:
    """What each run that was audited says of its own pairs."""
    found = []
    share = max(1, len(audits))
    for number, (name, whole) in enumerate(audits.items()):
        audit = replace(
            whole,
            doubts=whole.doubts[: max(10, DOUBTS_SHOWN // share)],
            clusters=whole.clusters[: max(4, CLUSTERS_SHOWN // share)],
        )
        problems = [
            Markup('<p class="missing" dir="auto">{}</p>').format(visible(p))
            for p in audit.problems
        ]
        inner = [
            Markup("<h3>{}</h3>\n{}").format(part.title, part.body)
            for part in audit_parts(audit, allowance)
        ]
        title = "Audit" if len(audits) == 1 else f"Audit of {visible(name, longest=40)}"
        found.append(Part(f"audit-{number}", title, Markup("\n").join([*problems, *inner])))
    return found


def _curation(selection: Path | None, insight: Insight | None) -> tuple[Curation | None, str]:
    if selection is None:
        return None, "No selection was given, so nothing is known of what was dropped."
    return read_curation(selection, insight), ""


def _examples(
    runs: Sequence[Run], tasks: Mapping[str, OpenSet]
) -> tuple[list[TaskExamples], list[str]]:
    if not runs or not tasks:
        return [], ["No runs or no tasks were given, so there are no examples."]
    return read_examples(runs, tasks)


def _provenance(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """What was measured, when and by what: one row per run, one per task."""
    models = [
        {
            "run": run.name,
            "folder": str(run.folder),
            "model": run.results[-1]["model_fingerprint"],
            "precision": run.results[-1]["precision"],
            "version": run.results[-1]["version"],
            "date": run.results[-1]["date"],
        }
        for run in runs
        if run.results
    ]
    tasks = {
        (row["task"], row["dataset_fingerprint"]): {
            "task": row["task"],
            "fingerprint": row["dataset_fingerprint"],
        }
        for run in runs
        for row in run.results
    }
    return {"models": models, "tasks": list(tasks.values())}
