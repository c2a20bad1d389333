"""How well audits of the study's runs find swapped captions, and what training without is worth.

    python benchmarks/icons/study.py --size small --data DATA --out STUDY --part why
    python benchmarks/icons/swaps.py --data DATA --study STUDY [--second-round] [--jobs 2]

Part `why` trains where two fifths of the captions are swapped, which the truth file knows and
training does not. Each score ranks all pairs of a run, the most doubted first. The second round
trains again, as the longer CLIP runs, without as many of the most doubted pairs as were swapped,
with these counting less, and without as many at random.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from audit import BASELINES, LIGHT, OURS, curve, quality, scores_of, told, write_list
from concept_effect import paired
from harness import Table, write_table

from winnow.config import load, read_json
from winnow.curation.rule_specs import from_settings
from winnow.curation.rules.audit import Audit
from winnow.curation.rules.exclude import Exclude
from winnow.curation.rules.rule import Rule
from winnow.data.audit import AuditTable
from winnow.data.selection import Selection
from winnow.evaluation.evaluate import FIT_NOTHING
from winnow.recipes.data import curate
from winnow.recipes.evaluate import evaluate_model
from winnow.training.recipe import Recipe
from winnow.training.run import train

NOISE = "noise-40"
SHORT, LONG = "base", "steps-3x"
METHODS = ("clip", "psd", "diht")
TASKS = ("seen", "unseen-sets", "game-icons")
CONTRASTS = (("audit", "all"), ("lighter", "all"), ("random", "all"), ("audit", "random"))


class Cell(NamedTuple):
    """A run of the study, and what it was trained on."""

    run: Path
    selection: Selection
    is_swapped: np.ndarray
    """bool, by row of the audit."""
    audit: AuditTable


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what build.py wrote")
    parser.add_argument("--study", type=Path, required=True, help="what study.py wrote")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--second-round", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    arguments = parser.parse_args()
    truth = pq.read_table(arguments.data / "truth" / f"{NOISE}.parquet").to_pylist()
    swapped = frozenset(row["uid"] for row in truth if row["is_swapped"])
    cells = arguments.study / "why" / "cells"
    if arguments.second_round:
        write_table("icons_small_swaps", second_round(arguments, cells, swapped))
        return
    for length in (SHORT, LONG):
        write_table("icons_small_swaps", detection(cells, length, arguments.seeds, swapped))


def open_cell(run: Path, swapped: frozenset[str]) -> Cell:
    """The cell whose run is in the folder."""
    selection = Selection.open(Path(read_json(run / "data.json")["selection"]))
    audit = AuditTable.open(run / "audit.parquet")
    uids = audit.table["uid"].to_pylist()
    return Cell(run, selection, np.array([uid in swapped for uid in uids]), audit)


def detection(cells: Path, length: str, seeds: Sequence[int], swapped: frozenset[str]) -> Table:
    """How each score of each method's runs finds the swapped captions."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    curves: dict[tuple[str, str], list[list[float]]] = {}
    shares = []
    for method in METHODS:
        for seed in seeds:
            cell = open_cell(cells / f"{length}-{method}-seed{seed}" / "run", swapped)
            shares.append(cell.is_swapped.mean())
            for name, score in scores_of(cell.run, cell.audit, cell.selection).items():
                found.setdefault((method, name), []).append(quality(cell.is_swapped, score))
                curves.setdefault((method, name), []).append(curve(cell.is_swapped, score))
            print(f"{length}-{method}-seed{seed}", flush=True)
    steps = read_json(cells / f"{length}-clip-seed{seeds[0]}" / "cell.json")["steps"]
    rows, records = [], []
    for (method, name), values in found.items():
        precision = [value["average_precision"] for value in values]
        ours = [value["average_precision"] for value in found[method, OURS]]
        difference = paired(ours, precision) if name != OURS else None
        rows.append(
            (
                method,
                name + (" (baseline)" if name in BASELINES else ""),
                f"{np.mean(precision):.3f}",
                f"{min(precision):.3f} to {max(precision):.3f}",
                f"{np.mean([value['precision_at_share'] for value in values]):.3f}",
                "" if difference is None else told(difference),
            )
        )
        curves_by_seed = curves[method, name]
        records.append(
            {
                "method": method,
                "score": name,
                "values": values,
                "precision at recalls": curves_by_seed,
                f"{OURS} less this": difference,
            }
        )
    return Table(
        title=f"Finding swapped captions among icons after {steps} steps",
        columns=(
            "run",
            "score",
            "average precision",
            "of the seeds",
            "precision at the share swapped",
            f"{OURS} less this (95 %)",
        ),
        rows=rows,
        data=records,
        notes={
            "data": f"{len(cell.selection):,} icons, {np.mean(shares):.1%} with swapped captions: "
            "chance is that average precision",
            "seeds": list(seeds),
        },
    )


class Arm(NamedTuple):
    """One run of the second round."""

    name: str
    seed: int
    first: Path
    """The run that doubts."""
    rules: tuple[Rule, ...]
    out: Path
    shards: str
    curated: Path
    tasks: dict[str, Path]


def second_round(arguments: argparse.Namespace, cells: Path, swapped: frozenset[str]) -> Table:
    """Zero-shot accuracy after training on all pairs and on what is left of them."""
    arms = [arm for seed in arguments.seeds for arm in _arms(arguments, cells, seed, swapped)]
    accuracy: dict[tuple[str, str], dict[int, float]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for arm, values in zip(arms, pool.map(_measured, arms), strict=True):
            for task, value in values.items():
                accuracy.setdefault((task, arm.name), {})[arm.seed] = value
            print(f"{arm.name}, seed {arm.seed}: {values}", flush=True)
    names = ("all", "audit", "lighter", "random")
    rows, records = [], []
    for task in TASKS:
        by_arm = {name: [accuracy[task, name][s] for s in arguments.seeds] for name in names}
        differences = {f"{a} less {b}": paired(by_arm[a], by_arm[b]) for a, b in CONTRASTS}
        means = [f"{100 * np.mean(by_arm[name]):.2f}" for name in names]
        rows.append((task, *means, *(told(one, 100) for one in differences.values())))
        records.append({"task": task, "values": by_arm, "differences": differences})
    return Table(
        title="A second round of training on icons, zero-shot top-1 in %",
        columns=("task", *names, *(f"{a} less {b} (95 %)" for a, b in CONTRASTS)),
        rows=rows,
        data=records,
        notes={
            "audit, random": "each drops as many pairs as were swapped, which is known here and is "
            "not elsewhere",
            "lighter": f"the pairs that audit drops count {LIGHT:g} instead",
            "seeds": arguments.seeds,
            "steps": "the same number in every arm",
        },
    )


def _arms(
    arguments: argparse.Namespace, cells: Path, seed: int, swapped: frozenset[str]
) -> list[Arm]:
    first = open_cell(cells / f"{LONG}-clip-seed{seed}" / "run", swapped)
    uids = sorted(first.selection.table["uid"].unique().to_pylist())
    count = len(swapped.intersection(uids))
    doubted = {"file": first.audit.path.resolve(), "drop": round(count / len(uids), 6)}
    home = arguments.study / "second-round"
    home.mkdir(exist_ok=True)
    some = np.random.default_rng(seed).permutation(uids)[:count].tolist()
    subset = read_json(first.selection.directory / "summary.json")["rules"]
    rules: dict[str, tuple[Rule, ...]] = {
        "all": (),
        "audit": (Audit(**doubted),),
        "lighter": (Audit(**doubted, weight=LIGHT),),
        "random": (Exclude(path=write_list(home / f"random-{seed}.txt", some)),),
    }
    return [
        Arm(
            name=name,
            seed=seed,
            first=first.run,
            rules=(*(from_settings(one, where="summary.json") for one in subset), *more),
            out=first.run if name == "all" else home / f"{name}-{seed}",
            shards=str(arguments.data / NOISE),
            curated=home / f"curated-{name}-{seed}",
            tasks={task: arguments.data / "evaluation" / task for task in TASKS},
        )
        for name, more in rules.items()
    ]


def _measured(arm: Arm) -> dict[str, float]:
    """Top-1 by task, after training where it is not done."""
    torch.set_num_threads(1)
    if arm.name != "all":
        kept = curate(arm.shards, arm.curated, rules=arm.rules, name=arm.name, workers=1)
        recipe = load(Recipe, arm.first / "recipe.json")
        train(recipe, Selection.open(kept.directory), arm.out)
    done = evaluate_model(
        str(arm.out), arm.tasks, out=arm.out / "evaluation", protocols=FIT_NOTHING
    )
    return {
        one.task: one.value
        for one in done.results
        if (one.protocol, one.metric) == ("zero-shot", "top1") and one.task in arm.tasks
    }


if __name__ == "__main__":
    main()
