"""What `winnow robustness` takes and does: models under distribution shift, against a line."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from winnow.evaluation.results import Result, read_results
from winnow.evaluation.robustness import (
    IMAGENET,
    PUBLISHED,
    Accuracy,
    Line,
    RobustnessRow,
    Shift,
    accuracy_pairs,
    fitted_shift,
    robustness_rows,
    same_set,
)
from winnow.recipes.evaluations import evaluation_folder
from winnow.reports.robustness_plot import (
    FittedLine,
    RobustnessPlot,
    RobustnessPoint,
    write_robustness_svg,
)
from winnow.reports.runs import Run
from winnow.reports.table import plain_table
from winnow.statistics import wilson_interval
from winnow.types import InputError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Effective robustness of models, against published lines or one through other models."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders that `winnow evaluate` wrote."""
    in_distribution: Annotated[str | None, tyro.conf.arg(name="in")] = None
    """The evaluation set without a shift; default imagenet1k."""
    shift: tuple[str, ...] = ()
    """Sets under a shift; default: ImageNet's, those that were measured."""
    baseline: tuple[Path, ...] = ()
    """Runs or folders of results through whose models the line is fitted, instead of the
    published one. At least two models; three or more say how well the line fits."""
    out: Path | None = None
    """Also draw it, into this svg file; one for each set where there are several."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("there is no model: name runs or folders of results")
        if self.out is not None and self.out.suffix != ".svg":
            raise InputError(f"{self.out} is no .svg file, and that is what --out draws")


def run_robustness(options: Robustness, *, say: Callable[..., None]) -> None:
    """Say what each model reaches beyond the line, and draw it where that is asked for."""
    results = [row for run in options.runs for row in read_results(evaluation_folder(run))]
    shifts, baselines = lines_for(
        in_distribution=options.in_distribution, shift=options.shift, baseline=options.baseline
    )
    rows = robustness_rows(results, shifts)
    measured = [shift for shift in shifts if any(row.shift is shift for row in rows)]
    if not rows:
        wanted = "; or ".join(f"{shift.axis} and {shift.name}" for shift in shifts)
        raise InputError(
            f"no model was measured both with and without a shift: run `winnow evaluate` with "
            f"tasks for {wanted}"
        )
    say(robustness_table(rows))
    for shift in measured:
        say(f"{shift.name}: {line_words(shift.line)}", markup=False)
        if shift.note:
            say(f"{shift.name}: {shift.note}", markup=False)
    if options.out is not None:
        for plot in robustness_plots(rows, baselines):
            say(f"plot: {write_robustness_svg(plot, _svg(options.out, plot, measured))}")


def plots_for(
    runs: Sequence[Run],
    *,
    in_distribution: str | None = None,
    shift: tuple[str, ...] = (),
    baseline: tuple[Path, ...] = (),
) -> list[RobustnessPlot]:
    """The plots of what runs were measured on, each run under its name in the report.

    The options mean what those of Robustness do; without any, it is the published lines. None
    where no run was measured both with and without a shift.
    """
    shifts, baselines = lines_for(in_distribution=in_distribution, shift=shift, baseline=baseline)
    # A run that was not evaluated has no file to read.
    results = [(run.name, read_results(run.evaluation)) for run in runs if run.results]
    rows = [
        replace(found[-1], model=name)
        for one in shifts
        for name, of_run in results
        if (found := robustness_rows(of_run, [one]))
    ]
    return robustness_plots(rows, baselines)


def lines_for(
    *, in_distribution: str | None, shift: tuple[str, ...], baseline: tuple[Path, ...]
) -> tuple[list[Shift], list[Result]]:
    """The lines that options ask for, each from where they say, and the baselines' results.

    Raises InputError where no such line is published, or the baselines do not make one.
    """
    if in_distribution is not None and not shift:
        raise InputError("--in says what is not shifted: name what is with --shift")
    baselines = [row for run in baseline for row in read_results(evaluation_folder(run))]
    if not shift:
        return _refitted(baselines) if baseline else list(PUBLISHED), baselines
    without = in_distribution or IMAGENET
    for name in shift:
        if same_set(name, without):
            raise InputError(
                f"{name} is the set without a shift: name another one with --shift, or with --in"
            )
    if baseline:
        return [fitted_shift(without, name, baselines) for name in shift], baselines
    return [_published(without, name) for name in shift], baselines


def robustness_table(rows: Sequence[RobustnessRow]) -> "Table":
    """Every model under every shift, for the terminal: percent and points."""
    from rich.text import Text

    table = plain_table(
        "effective robustness: accuracy without and under each shift, % ± half of the 95 % interval"
    )
    table.add_column("", overflow="fold")
    for name in ("without", "under", "expected", "beyond"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for shift, of_shift in groupby(rows, key=lambda row: row.shift):
        table.add_row(Text(shift.name, style="bold"))
        for row in of_shift:
            found = row.robustness
            percent = (row.accuracy_in.value, row.accuracy_shift.value, found.expected)
            table.add_row(
                Text(f" {row.model}"),
                *(f"{100 * share:.1f}" for share in percent),
                f"{100 * found.value:+z.1f}{_plus_minus(found.half_width)}".replace("-", "−"),
                "extrapolated" if found.extrapolated else "",
            )
    return table


def _plus_minus(half_width: float) -> str:
    return f" ± {100 * half_width:.1f}" if math.isfinite(half_width) else ""


def robustness_plots(
    rows: Sequence[RobustnessRow], baselines: Iterable[Result] = ()
) -> list[RobustnessPlot]:
    """One plot for each shift of `rows`, with the models that its line was fitted on."""
    points_on = list(baselines)
    shifts = list({id(row.shift): row.shift for row in rows}.values())
    return [
        RobustnessPlot(
            shift=shift.name,
            in_distribution=shift.axis,
            points=[
                *(
                    _point(label, *pair, line=shift.line, kind="baseline")
                    for label, *pair in accuracy_pairs(
                        points_on, shift.in_distribution, shift.name, on_subset=shift.on_subset
                    )
                ),
                *(
                    _point(
                        row.model, row.accuracy_in, row.accuracy_shift, line=shift.line, kind="run"
                    )
                    for row in rows
                    if row.shift is shift
                ),
            ],
            line=FittedLine(
                slope=shift.line.slope,
                intercept=shift.line.intercept,
                low=shift.line.low,
                high=shift.line.high,
                words=line_words(shift.line),
            ),
            note=shift.note,
        )
        for shift in shifts
    ]


def line_words(line: Line) -> str:
    """What a line was fitted on and how well it fits, in one sentence."""
    scatter = "" if line.scatter is None else f", scatter {100 * line.scatter:.1f} points"
    return (
        f"logit y = {line.slope:.4f} logit x {line.intercept:+.4f} ({line.source}; n = {line.n}, "
        f"r² = {line.r_squared:.3f}{scatter}, x {100 * line.low:.1f} to {100 * line.high:.1f} %)"
    )


def _published(in_distribution: str, name: str) -> Shift:
    for shift in PUBLISHED:
        if same_set(shift.in_distribution, in_distribution) and same_set(shift.name, name):
            return shift
    known = ", ".join(f"{shift.in_distribution} to {shift.name}" for shift in PUBLISHED)
    raise InputError(
        f"no line is published from {in_distribution} to {name} (there are {known}): fit one on "
        "models of your own with --baseline"
    )


def _refitted(baselines: Sequence[Result]) -> list[Shift]:
    """ImageNet's shifts that the baseline models were measured on."""
    found = [
        fitted_shift(shift.in_distribution, shift.name, baselines)
        for shift in PUBLISHED
        if accuracy_pairs(baselines, shift.in_distribution, shift.name, on_subset=shift.on_subset)
    ]
    if not found:
        raise InputError(
            "no baseline model was measured on ImageNet and one of its shifts: say with --in and "
            "--shift which sets to compare"
        )
    return found


def _point(
    label: str,
    accuracy_in: Accuracy,
    accuracy_shift: Accuracy,
    *,
    line: Line,
    kind: Literal["run", "baseline"],
) -> RobustnessPoint:
    x_low, x_high = wilson_interval(*accuracy_in)
    y_low, y_high = wilson_interval(*accuracy_shift)
    return RobustnessPoint(
        label=label,
        x=accuracy_in.value,
        y=accuracy_shift.value,
        x_low=x_low,
        x_high=x_high,
        y_low=y_low,
        y_high=y_high,
        kind=kind,
        expected=line.expected(accuracy_in),
        extrapolated=line.is_extrapolated(accuracy_in),
    )


def _svg(out: Path, plot: RobustnessPlot, shifts: Sequence[Shift]) -> Path:
    if len(shifts) == 1:
        return out
    return out.with_name(f"{out.stem}-{plot.shift.replace('/', '_')}{out.suffix}")
