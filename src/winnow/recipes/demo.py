"""The demo: the whole road on packaged real pictures, in minutes on a laptop.

Two models of the same architecture, seed, order and number of samples: plain CLIP on the raw
shards, and PSD on the curated selection. That changes two things at once, and the output says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.curation.rules.rule import Rule
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.selections import clean, none
from winnow.curation.truth import against_truth
from winnow.data.packaged import Packaged
from winnow.data.selection import Selection
from winnow.objectives import ProgressiveSelfDistillation
from winnow.recipes.data import curate, funnel, planted_table
from winnow.recipes.evaluate import evaluate_model
from winnow.recipes.packaged import packaged_data
from winnow.recipes.report import insight_of
from winnow.recipes.training import tiny
from winnow.reports.page import write_report
from winnow.reports.table import headline, render
from winnow.training.recipe import Recipe
from winnow.training.run import train

Say = Callable[..., None]

TWO_CHANGES = (
    "The two models differ in two things at once: the data (raw or curated) and the objective "
    "(InfoNCE or PSD). The table says what both do together, not what either does alone."
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Curate, train two models, evaluate both and report, on packaged real pictures."""

    out: Path = Path("winnow-demo")
    """Where everything is written; the same command goes on where it was."""
    steps: int = tiny().steps
    """Updates of each model, of 256 pairs."""
    seed: int = 0
    """Seeds weights, order, augmentation and the objective's choices."""


def demo_rules() -> tuple[Rule, ...]:
    """What suits captions that are names: all of `clean`, and the T of CAT.

    Not its C and A, which ask for sentences: "red apple" has no action.
    """
    return (*clean(), TextSpotting())


def run_demo(options: Demo, *, say: Say) -> Path:
    """The demo; the path of the page."""
    say("[bold]1/4 data[/]: emoji and icons of several vendors, from installed packages")
    packaged = packaged_data()
    say("[bold]2/4 curation[/]: a reason for every drop")
    curated = options.out / "curated"
    raw = curate(str(packaged.train), curated, rules=none(), name="none")
    kept = curate(str(packaged.train), curated, rules=demo_rules(), name="demo")
    say(funnel(kept.summary))
    truth = against_truth(kept.directory, packaged.truth)
    say(planted_table(truth))
    say("[bold]3/4 training[/] and evaluation: the same towers twice")
    recipe = replace(tiny(), steps=options.steps, seed=options.seed)
    runs = {
        "clip-raw": (recipe, raw.directory),
        "psd-curated": (replace(recipe, objective=ProgressiveSelfDistillation()), kept.directory),
    }
    for name, (variant, directory) in runs.items():
        say(f"{name}: {type(variant.objective).__name__} on the selection {directory.name!r}")
        _train_and_evaluate(variant, directory, options.out / name, packaged)
    say("[bold]4/4 report[/]")
    folders = [options.out / name for name in runs]
    say(render(headline(folders)), TWO_CHANGES, sep="\n")
    return write_report(
        options.out / "report.html",
        selection=kept.directory,
        insight=insight_of(kept.directory),
        runs=folders,
        tasks=packaged.tasks,
        title="winnow demo",
        notes=[TWO_CHANGES],
        truth=truth,
    )


def _train_and_evaluate(recipe: Recipe, selection: Path, out: Path, packaged: Packaged) -> None:
    train(recipe, Selection.open(selection), out)
    evaluate_model(str(out), packaged.tasks, out=out / "evaluation")
