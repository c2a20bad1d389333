"""The page's part on training: curves of every number that people look at, and health findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from winnow.reports.charts import Line, line_chart
from winnow.reports.colours import NUM_COLOURS
from winnow.reports.pictures import shorten
from winnow.reports.runs import Run
from winnow.reports.training import (
    LOSS,
    RunFacts,
    concept_curve,
    curve,
    learns_concepts,
    lines_of,
    run_facts,
)

_SMOOTH_OVER = 0.1
_FINDINGS = 30
"""Shown of a run."""
_SIMILARITIES = ["image_similarity", "text_similarity"]


class Panel(NamedTuple):
    """A chart of one number, one line per run."""

    title: str
    hint: str
    chart: Markup


class SourceChart(NamedTuple):
    """The loss of one run on each of its sources."""

    run: str
    names: list[str]
    """In the order of the colours; those with most samples."""
    left_out: int
    chart: Markup


class HealthFindings(NamedTuple):
    """What the health rules said of one run."""

    name: str
    run: int
    """Its place among all runs, which is its colour."""
    rows: list[dict[str, Any]]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """All that the template needs."""

    facts: list[RunFacts]
    loss: Markup | None
    validated: list[str]
    """Runs with a validation loss, drawn dashed beside the loss."""
    scale: Markup | None
    concepts: Markup | None
    panels: list[Panel]
    sources: list[SourceChart]
    findings: list[HealthFindings]
    with_concepts: list[str]
    """Runs whose loss is drawn without the concepts' part."""
    missing: list[str]
    """Runs without metrics."""


def training_section(runs: Sequence[Run]) -> TrainingSection:
    """The section of `runs`; a chart whose numbers no run logged is left out."""
    logged = [run for run in runs if run.metrics]
    return TrainingSection(
        facts=[run_facts(run, index) for index, run in enumerate(runs) if run.metrics],
        loss=_losses(runs),
        validated=[run.name for run in logged if lines_of(run, 0, ["validation_loss"])],
        scale=curve(runs, "scale"),
        concepts=concept_curve(runs, smooth_over=_SMOOTH_OVER),
        panels=_panels(runs),
        sources=[chart for run in logged if (chart := _source_chart(run)) is not None],
        findings=[
            HealthFindings(run.name, index, run.health[:_FINDINGS], len(run.health[_FINDINGS:]))
            for index, run in enumerate(runs)
            if run.health
        ],
        with_concepts=[run.name for run in logged if learns_concepts(run)],
        missing=[run.name for run in runs if not run.metrics],
    )


def _losses(runs: Sequence[Run]) -> Markup | None:
    lines = [
        line
        for index, run in enumerate(runs)
        for line in (
            *lines_of(run, index, LOSS),
            *(
                validated._replace(name=f"{run.name} validation", style="dashed")
                for validated in lines_of(run, index, ["validation_loss"])
            ),
        )
    ]
    return line_chart(lines, x_label="step", smooth_over=_SMOOTH_OVER) if lines else None


def _panels(runs: Sequence[Run]) -> list[Panel]:
    shown = (
        ("Gradient norm", "before clipping", ["gradient_norm"]),
        ("Update norm", "how far a step moved the weights", ["update_norm"]),
        ("Samples per second", "", ["samples_per_second"]),
        ("Waiting for data", "share of the time", ["data_wait_share"]),
        ("Model FLOPs utilization", "share of the devices' peak", ["mfu"]),
        ("Memory", "GB", ["memory_gb"]),
        ("Likeness", "solid: pictures, dashed: captions; 1 is collapsed", _SIMILARITIES),
    )
    found = []
    for title, hint, columns in shown:
        lines = [
            line._replace(style="dashed" if number else "solid")
            for index, run in enumerate(runs)
            for number, column in enumerate(columns)
            for line in lines_of(run, index, [column])
        ]
        if lines:
            chart = line_chart(lines, x_label="step", smooth_over=_SMOOTH_OVER, height=180)
            found.append(Panel(title, hint, chart))
    return found


def _source_chart(run: Run) -> SourceChart | None:
    samples: dict[str, float] = {}
    for row in run.metrics:
        for column in row:
            name = column.removeprefix("source/").removesuffix("/loss")
            if f"source/{name}/loss" == column:
                samples[name] = row.get(f"source/{name}/samples") or samples.get(name, 0.0)
    largest = sorted(samples, key=lambda name: (-samples[name], name))[:NUM_COLOURS]
    lines: list[Line] = []
    for name in largest:
        found = lines_of(run, len(lines), [f"source/{name}/loss"])
        lines += [line._replace(name=shorten(name)) for line in found]
    if not lines:
        return None
    chart = line_chart(lines, x_label="step", smooth_over=_SMOOTH_OVER, height=180)
    return SourceChart(run.name, [line.name for line in lines], len(samples) - len(lines), chart)
