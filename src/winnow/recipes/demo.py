"""The demo: the whole road on packaged real pictures, in minutes on a laptop.

Two models of the same architecture, seed, order and number of samples: plain CLIP on the raw
shards, and PSD with a teacher's concepts on the curated selection. That changes three things at
once, and the output says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.curation.rules.rule import Rule
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.selections import clean, none
from winnow.curation.truth import against_truth
from winnow.data.concept_targets import ConceptTargets
from winnow.data.selection import Selection
from winnow.evaluation.evaluate import Protocols
from winnow.objectives import ConceptDistillation, ProgressiveSelfDistillation
from winnow.recipes.concept_page import concept_section
from winnow.recipes.concepts import Concepts, run_concepts
from winnow.recipes.data import curate, funnel, planted_table
from winnow.recipes.evaluate import evaluate_model
from winnow.recipes.packaged import packaged_data
from winnow.recipes.report import insight_of, shown_sets
from winnow.recipes.training import tiny
from winnow.reports.page import write_report
from winnow.reports.runs import read_runs
from winnow.reports.table import headline, render
from winnow.training.run import train

Say = Callable[..., None]

THREE_CHANGES = (
    "The two models differ in three things at once: the data (raw or curated), the objective "
    "(InfoNCE or PSD), and concept heads (none, or a teacher's concepts). The table says what all "
    "do together, not what each does alone."
)

CONCEPTS = ConceptDistillation(object_weight=0.1, attribute_weight=0.1)
"""A light touch: at weight 1 a student this small loses by it (docs/log.md, 2026-11-22)."""

PROBES = Protocols(names=("linear-probe", "few-shot"))
"""Fitted to half of an unseen vendor's pictures, by kind: the only sets with a training split."""

TEACHER_SIZE = 64
"""Pixels at which the teacher sees pictures, which are drawn at this size."""


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
    say("[bold]1/5 data[/]: emoji and icons of several vendors, from installed packages")
    packaged = packaged_data()
    say("[bold]2/5 curation[/]: a reason for every drop")
    curated = options.out / "curated"
    raw = curate(str(packaged.train), curated, rules=none(), name="none")
    kept = curate(str(packaged.train), curated, rules=demo_rules(), name="demo")
    say(funnel(kept.summary))
    truth = against_truth(kept.directory, packaged.truth)
    say(planted_table(truth))
    say("[bold]3/5 concepts[/]: what a small pretrained model sees in the kept pictures")
    seen = run_concepts(Concepts(data=str(kept.directory), image_size=TEACHER_SIZE), say=say)
    say("[bold]4/5 training[/] and evaluation: the same towers twice")
    clip = replace(tiny(), steps=options.steps, seed=options.seed)
    psd = replace(
        clip,
        objective=ProgressiveSelfDistillation(),
        concept_distillation=CONCEPTS,
    )
    probed = {name: place for name, place in packaged.tasks.items() if "kinds" in name}
    runs = {"clip-raw": (clip, raw.directory), "psd-concepts-curated": (psd, kept.directory)}
    for name, (recipe, directory) in runs.items():
        say(f"{name}: {type(recipe.objective).__name__} on the selection {directory.name!r}")
        targets = ConceptTargets.open(seen) if recipe.concept_distillation else None
        out = options.out / name
        train(recipe, Selection.open(directory), out, targets=targets)
        evaluate_model(str(out), packaged.tasks, out=out / "evaluation")
        evaluate_model(str(out), probed, out=out / "evaluation", protocols=PROBES)
    say("[bold]5/5 report[/]")
    folders = [options.out / name for name in runs]
    read = read_runs(folders)
    say(render(headline(folders)), THREE_CHANGES, sep="\n")
    return write_report(
        options.out / "report.html",
        selection=kept.directory,
        insight=insight_of(kept.directory),
        runs=folders,
        tasks=shown_sets(packaged.tasks, read),
        title="winnow demo",
        notes=[THREE_CHANGES],
        truth=truth,
        concepts=concept_section(kept.directory, read, seen),
    )
