"""What concept distillation changes: one recipe with a teacher's concepts, without, and shuffled.

The demo's data, selection and towers. Arms of one seed have the same weights to begin with, the
same order and the same augmentation. `shuffled` has the targets of `with`, dealt to other pictures:
what it gains is not what the teacher saw. Differences are paired by seed; their 95 % interval is
Student's.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from harness import Table, write_table
from rich import print as say

from winnow.concepts import HEADS
from winnow.concepts.heads_facts import HeadsFacts
from winnow.concepts.measures import RECALL_AT, HeadReport, Recall
from winnow.data.concept_targets import ConceptTargets, SparseTargets, write_targets
from winnow.data.selection import Selection
from winnow.evaluation.results import Result
from winnow.objectives import ConceptDistillation
from winnow.recipes.concepts import Concepts, run_concepts
from winnow.recipes.data import curate
from winnow.recipes.demo import demo_rules
from winnow.recipes.evaluate import evaluate_model
from winnow.recipes.packaged import packaged_data
from winnow.recipes.training import tiny
from winnow.training.metrics import read_metrics
from winnow.training.run import train

ARMS = ("without", "with", "shuffled")
CONTRASTS = (("with", "without"), ("with", "shuffled"))
TEACHER, TEACHER_SIZE = "efficientnet-lite0", 64
"""The packaged pictures are of 64 pixels."""
STUDENT_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
"""Two-sided 95 % quantile by degrees of freedom."""
MAX_SEEDS = max(STUDENT_T_95) + 1
_LAST_ROWS = 5
_SHUFFLE_SEED = 0

Runs = dict[tuple[str, int], tuple[Result, ...]]
"""What was measured by (arm, seed)."""


def measure_effect(home: Path, *, arms: Sequence[str], seeds: Sequence[int], steps: int) -> None:
    """Train and evaluate what is missing in `home`, and write the tables."""
    packaged = packaged_data()
    directory, folder = demo_targets(home)
    selection, targets = Selection.open(directory), ConceptTargets.open(folder)
    write_table("concepts", heads_table(folder))
    of_arm = {
        "without": None,
        "with": targets,
        "shuffled": shuffled(targets, selection, home / "shuffled"),
    }
    folders = {
        arm: run_folder(home, arm, data=own.sha256 if own else selection.fingerprint, steps=steps)
        for arm, own in of_arm.items()
    }
    runs: Runs = {}
    for seed in seeds:
        for arm in arms:
            began = time.monotonic()
            out = folders[arm] / f"seed-{seed}"
            distillation = None if arm == "without" else ConceptDistillation()
            recipe = replace(tiny(), steps=steps, seed=seed, concept_distillation=distillation)
            train(recipe, selection, out, targets=of_arm[arm])
            done = evaluate_model(str(out), packaged.tasks, out=out / "evaluation")
            runs[arm, seed] = done.results
            took = time.monotonic() - began
            print(f"run {len(runs)} of {len(seeds) * len(arms)}: {arm}, seed {seed}, {took:.0f} s")
    facts = {
        "data": f"the demo's selection, {len(selection):,} pairs, teacher at {TEACHER_SIZE} px",
        "recipe": f"tiny, {steps} steps, seeds {', '.join(map(str, seeds))}",
    }
    write_table("concepts", effect_table(runs, arms, seeds, facts))
    distilled = {arm: last_losses(folders[arm], seeds) for arm in arms if arm != "without"}
    if distilled:
        write_table("concepts", students_table(distilled, targets, selection, facts))


def demo_targets(home: Path) -> tuple[Path, Path]:
    """The demo's selection in `home`, and the teacher's targets for it."""
    packaged = packaged_data()
    kept = curate(str(packaged.train), home / "curated", rules=demo_rules(), name="demo")
    options = Concepts(data=str(kept.directory), teacher=TEACHER, image_size=TEACHER_SIZE)
    return kept.directory, run_concepts(options, say=say)


def run_folder(home: Path, arm: str, *, data: str, steps: int) -> Path:
    """The runs of an arm: other data, targets or steps have other folders."""
    return home / f"steps-{steps}" / f"{arm}-{data[:8]}"


def shuffled(targets: ConceptTargets, selection: Selection, folder: Path) -> ConceptTargets:
    """The same targets in `folder`, each dealt to another picture by chance."""
    facts = replace(targets.facts, teacher=f"{targets.facts.teacher}, shuffled {_SHUFFLE_SEED}")
    uids = selection.table["uid"].unique().to_pylist()
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(uids))
    dealt = {
        head: (own.index_BK.numpy(), own.mass_BK.numpy())
        for head, own in targets.of([uids[place] for place in order]).items()
    }
    write_targets(folder, [(uids, dealt)], facts)
    return ConceptTargets.open(folder)


def effect_table(
    runs: Runs, arms: Sequence[str], seeds: Sequence[int], facts: dict[str, object]
) -> Table:
    """Every metric of every task: the arms' means, and differences paired by seed."""
    contrasts = [pair for pair in CONTRASTS if set(pair) <= set(arms)]
    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    kinds: dict[tuple[str, str, str], Result] = {}
    for arm in arms:
        for seed in seeds:
            for result in runs[arm, seed]:
                key = (result.task, result.protocol, result.metric)
                values.setdefault(key, {}).setdefault(arm, []).append(result.value)
                kinds[key] = result
    data, rows = [], []
    for key, by_arm in values.items():
        differences = {f"{a} - {b}": paired(by_arm[a], by_arm[b]) for a, b in contrasts}
        known = {"n": kinds[key].n, "chance": kinds[key].chance, "seeds": list(seeds)}
        names = dict(zip(("task", "protocol", "metric"), key, strict=True))
        data.append(names | known | {"values": by_arm, "differences": differences})
        means = [f"{100 * statistics.mean(by_arm[arm]):.2f}" for arm in arms]
        shown = [_difference_cells(one) for one in differences.values()]
        chance = f"{100 * kinds[key].chance:.2f}"
        rows.append(
            (*key, str(kinds[key].n), chance, *means, *(c for cells in shown for c in cells))
        )
    heads = [name for a, b in contrasts for name in (f"{a} - {b} (95 %)", "verdict")]
    return Table(
        title="What concept distillation changes, in %",
        columns=("task", "protocol", "metric", "n", "chance", *arms, *heads),
        rows=rows,
        data=data,
        notes=facts
        | {
            "arms": "means over the seeds; shuffled has the targets of other pictures",
            "intervals": "Student's t over the seeds, of differences paired by seed",
            "caution": f"{len(rows) * len(contrasts)} differences are shown; where there is none, "
            "1 in 20 intervals leaves out 0 all the same",
        },
    )


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, object]:
    """The mean of first - second over pairs, its 95 % t-interval, and what that decides."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return {"mean": mean, "low": None, "high": None, "verdict": "unresolved"}
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half_width = STUDENT_T_95[len(differences) - 1] * error
    low, high = mean - half_width, mean + half_width
    verdict = "higher" if low > 0 else "lower" if high < 0 else "unresolved"
    if error == 0:
        verdict = "unresolved"  # metrics count samples: equal differences say nothing of the noise
    return {"mean": mean, "low": low, "high": high, "verdict": verdict}


def _difference_cells(difference: dict[str, object]) -> tuple[str, str]:
    shown = [difference[name] for name in ("mean", "low", "high")]
    mean, *ends = [f"{100 * x:+.2f}" if isinstance(x, float) else "?" for x in shown]
    return f"{mean} ({ends[0]} to {ends[1]})", str(difference["verdict"])


def heads_table(folder: Path) -> Table:
    """What the heads on the teacher's features are worth on pairs that they did not learn from."""
    facts = HeadsFacts.of(folder)
    assert facts is not None, "run_concepts wrote them"
    recalls = tuple(f"recall@{k} (95 %; most frequent)" for k in RECALL_AT)
    nats = ("cross-entropy, nats", "of the frequencies")
    return Table(
        title="Heads on the teacher's features, on held-out pairs",
        columns=("head", "concepts", "pairs", *recalls, *nats, "calibration error"),
        rows=[_head_cells(head, facts.report[head]) for head in HEADS],
        data=[{"head": head} | asdict(facts.report[head]) for head in HEADS],
        notes={"teacher": f"{facts.teacher} at {TEACHER_SIZE} px ({facts.teacher_identity})"},
    )


def _head_cells(head: str, report: HeadReport) -> tuple[str, ...]:
    def recall(one: Recall) -> str:
        return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f}; {one.majority:.3f})"

    nats = (report.cross_entropy, report.cross_entropy_of_frequencies, report.calibration_error)
    return (
        head,
        str(report.size),
        str(report.held_out_with_concept),
        *(recall(one) for one in report.recall),
        *(f"{number:.3f}" for number in nats),
    )


def last_losses(folder: Path, seeds: Sequence[int]) -> dict[str, float]:
    """The students' cross-entropy by head: of the last logged batches, mean over seeds."""
    runs = [read_metrics(folder / f"seed-{seed}") for seed in seeds]
    rows = [row for rows in runs for row in rows[-_LAST_ROWS:]]
    return {head: statistics.mean(row[f"loss_{head}"] for row in rows) for head in HEADS}


def students_table(
    losses: dict[str, dict[str, float]],
    targets: ConceptTargets,
    selection: Selection,
    facts: dict[str, object],
) -> Table:
    """How near the students' heads came to the targets in training."""
    of_pairs = targets.of(selection.table["uid"].to_pylist())
    sizes = targets.facts.sizes
    bounds = {head: entropies(own, sizes[head]) for head, own in of_pairs.items()}
    data = [
        {"arm": arm, "head": head, "nats": nats, "least": bounds[head][0], "blind": bounds[head][1]}
        for arm, by_head in losses.items()
        for head, nats in by_head.items()
    ]
    return Table(
        title="The students' heads at the end of training",
        columns=("arm", "head", "cross-entropy, nats", "least possible", "without the picture"),
        rows=[
            (str(row["arm"]), str(row["head"]), *(f"{row[name]:.3f}" for name in _NATS))
            for row in data
        ],
        data=data,
        notes=facts
        | {
            "cross-entropy": f"of the last {_LAST_ROWS} logged batches of every seed",
            "least possible": "the targets' own mean entropy",
            "without the picture": "the entropy of the mean target, the best constant answer",
        },
    )


_NATS = ("nats", "least", "blind")


def entropies(own: SparseTargets, size: int) -> tuple[float, float]:
    """Nats: the mean entropy of the targets, and the entropy of their mean."""
    mass_BK = own.mass_BK.double()
    mean_V = torch.zeros(size, dtype=torch.float64)
    mean_V.index_add_(0, own.index_BK.flatten(), mass_BK.flatten() / len(mass_BK))
    least = -torch.xlogy(mass_BK, mass_BK).sum(dim=1).mean()
    return least.item(), -torch.xlogy(mean_V, mean_V).sum().item()
