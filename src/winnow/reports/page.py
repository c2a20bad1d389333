"""The report: one html file that shows what was dropped, trained and measured.

It loads nothing: pictures are data URIs, charts are SVG, the style is inside, and a content
security policy forbids the browser to fetch anything and to run any script but the one that
searches in the pairs, known by its hash. Captions are hostile: the template engine escapes every
value, and the script only ever puts them in as text. A part whose files are missing is left out
with a line that says why.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.colours import DARK, LIGHT, NUM_COLOURS
from winnow.reports.concepts import LISTED, TOP, ConceptSection, arrange, clip
from winnow.reports.curation import Curation, Truth, read_curation
from winnow.reports.evaluation import evaluation_section
from winnow.reports.examples import OpenSet, TaskExamples, read_examples
from winnow.reports.insight import Insight
from winnow.reports.pictures import shorten
from winnow.reports.robustness_plot import RobustnessPlot
from winnow.reports.runs import Run, read_runs
from winnow.reports.table import format_p, format_points, headline_of
from winnow.reports.training import (
    LOSS,
    concept_curve,
    curve,
    learns_concepts,
    recipe_differences,
    run_facts,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_HEADLINE_ROWS = 40
"""Beyond that the table is folded, and the page begins with the plot of all sets."""

NO_CONCEPTS = "No concepts were given, so nothing is known of what a teacher sees in the pictures."


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
    environment = _environment()
    script = _script(environment) if curation else None
    page = environment.get_template("page.html.j2").render(
        title=title,
        script=script,
        policy=_policy(script),
        notes=notes,
        runs=read,
        rows=headline_of(read),
        evaluation=evaluation_section(read, robustness),
        curation=curation,
        curation_problem=curation_problem,
        truth=truth,
        concepts=concepts and arrange(concepts, [run.name for run in read]),
        concepts_problem=concepts_problem,
        training=_training(read),
        examples=examples,
        example_problems=example_problems,
        differences=recipe_differences([run for run in read if run.recipe]),
        provenance=_provenance(read),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(out)
    return out


@dataclass(frozen=True, kw_only=True)
class _Training:
    facts: list[Any]
    loss: "Markup | None"
    scale: "Markup | None"
    concepts: "Markup | None"
    with_concepts: list[str]
    """Runs whose loss is drawn without the concepts' part."""
    missing: list[str]
    """Runs without metrics."""


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("winnow.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f}"
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["points"] = format_points
    environment.filters["change"] = lambda share: f"{100 * share:+.2f}".replace("-", "−")
    environment.filters["p_value"] = format_p
    environment.filters |= {"clip": clip, "shorten": shorten}
    environment.globals |= {"num_colours": NUM_COLOURS, "top": TOP, "listed": LISTED}
    environment.globals |= {"light": LIGHT, "dark": DARK, "headline_rows": _HEADLINE_ROWS}
    # Captions of any script stay as they are, at a third to half of the size.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment


def _script(environment: "Environment") -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, "search.js")[0]


def _policy(script: str | None) -> str:
    """The content security policy of a page with this script alone, or none."""
    rules = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]
    if script is not None:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        rules.append(f"script-src 'sha256-{digest}'")
    return "; ".join(rules)


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


def _training(runs: Sequence[Run]) -> _Training:
    logged = [run for run in runs if run.metrics]
    return _Training(
        facts=[run_facts(run, index) for index, run in enumerate(runs) if run.metrics],
        loss=curve(runs, *LOSS, smooth_over=0.1),
        scale=curve(runs, "scale"),
        concepts=concept_curve(runs, smooth_over=0.1),
        with_concepts=[run.name for run in logged if learns_concepts(run)],
        missing=[run.name for run in runs if not run.metrics],
    )


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
