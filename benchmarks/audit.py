"""How well the audit finds swapped captions, and what training without them is worth.

The packaged pictures with 20 and 40 % of the captions swapped, which the truth file knows and
training does not. Each score ranks all pairs, the most doubted first; of a ranking, the average
precision for the swapped ones, and its precision where as many are dropped as were swapped.

    python benchmarks/audit.py [--home DIR] [--seeds 0 1 2] [--steps 300] [--noise 0.2 0.4]
    python benchmarks/audit.py --second-round    trains again without the doubted pairs

Runs that are in --home already are not repeated.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from concept_effect import paired
from harness import Table, write_table
from sklearn.metrics import average_precision_score, precision_recall_curve

from winnow.curation.rules.audit import Audit
from winnow.curation.rules.exclude import Exclude
from winnow.curation.rules.rule import Rule
from winnow.data.audit import AuditTable, aggregate
from winnow.data.audit_segments import read_segment, segments_in
from winnow.data.packaged import NO_NOISE, Packaged, PackagedConfig, build, default_directory
from winnow.data.selection import Selection
from winnow.evaluation.embed import Embedder
from winnow.evaluation.pair_features import embed_pairs
from winnow.models.encoder import load_encoder
from winnow.recipes.data import curate
from winnow.recipes.evaluate import evaluate_model
from winnow.recipes.training import tiny
from winnow.training.recipe import Recipe
from winnow.training.run import train

BATCH, PASSES = 256, 4
"""The random batches that the final model's loss is taken in, and how often of every pair."""
BASELINES = ("final loss", "final cosine", "own probability, last time")
"""What is known without gathering: the usual criteria of a small loss and a CLIP score."""
OURS = "own_probability_late"
LIGHT = 0.2
CONTRASTS = (
    ("audit", "raw"),
    ("audit", "random"),
    ("lighter", "raw"),
    ("lighter", "audit"),
    ("random", "raw"),
    ("sound", "raw"),
)
_RECALLS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Scores = dict[str, np.ndarray]
"""Of every pair of an audit, by name; high is doubted."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The packaged pairs with a share of swapped captions."""

    noise: float
    packaged: Packaged
    curated: Path
    selection: Path
    swapped: frozenset[str]
    """uids"""


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("audit-benchmark"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=tiny().batch_size)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--concepts", type=int, help="train on the first so many concepts only")
    parser.add_argument("--second-round", action="store_true")
    arguments = parser.parse_args()
    for noise in arguments.noise:
        data = prepare(arguments.home, noise, arguments.concepts)
        facts: dict[str, object] = {
            "data": f"{len(Selection.open(data.selection)):,} packaged pairs, {len(data.swapped):,}"
            " with swapped captions",
            "recipe": f"tiny, {arguments.steps} steps of {arguments.batch_size} pairs",
            "seeds": arguments.seeds,
        }
        if arguments.second_round:
            write_table("audit", second_round(arguments, data, facts))
        else:
            write_table("audit", detection(arguments, data, facts))


def prepare(home: Path, noise: float, concepts: int | None) -> Data:
    """The pairs with this share of swapped captions, all of them selected."""
    rates = replace(NO_NOISE, swapped=noise)
    config = PackagedConfig(side=64, noise=rates, max_concepts=concepts)
    packaged = build(default_directory(config), config=config)
    curated = home / f"swapped-{round(100 * noise)}" / "curated"
    kept = curate(str(packaged.train), curated, rules=(), name="raw", workers=1)
    truth = pq.read_table(packaged.truth, columns=["uid", "planted"]).to_pylist()
    swapped = frozenset(row["uid"] for row in truth if row["planted"] == "swapped")
    return Data(
        noise=noise,
        packaged=packaged,
        curated=curated,
        selection=kept.directory,
        swapped=swapped,
    )


def first_run(arguments: argparse.Namespace, data: Data, seed: int) -> Path:
    """A run on all pairs."""
    folder = f"steps-{arguments.steps}-of-{arguments.batch_size}"
    out = data.curated.parent / folder / f"raw-{seed}"
    train(recipe_of(arguments, seed), Selection.open(data.selection), out)
    return out


def recipe_of(arguments: argparse.Namespace, seed: int) -> Recipe:
    """The demo's, on the raw pairs or on fewer."""
    return replace(tiny(), steps=arguments.steps, batch_size=arguments.batch_size, seed=seed)


def detection(arguments: argparse.Namespace, data: Data, facts: dict[str, object]) -> Table:
    """How each score finds the swapped captions."""
    found: dict[str, list[dict[str, float]]] = {}
    curves: dict[str, list[list[float]]] = {}
    for seed in arguments.seeds:
        began = time.monotonic()
        run = first_run(arguments, data, seed)
        audit = AuditTable.open(aggregate(run))
        is_swapped = np.array([uid in data.swapped for uid in audit.table["uid"].to_pylist()])
        for name, score in scores_of(run, audit, Selection.open(data.selection)).items():
            found.setdefault(name, []).append(quality(is_swapped, score))
            curves.setdefault(name, []).append(curve(is_swapped, score))
        print(
            f"swapped {data.noise:.0%}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True
        )
    rows, records = [], []
    for name, values in found.items():
        precisions = [value["average_precision"] for value in values]
        ours = [value["average_precision"] for value in found[OURS]]
        difference = paired(ours, precisions) if name != OURS else None
        recall = [value["precision_at_share"] for value in values]
        rows.append(
            (
                name + (" (baseline)" if name in BASELINES else ""),
                f"{statistics.mean(precisions):.3f}",
                f"{min(precisions):.3f} to {max(precisions):.3f}",
                f"{statistics.mean(recall):.3f}",
                "" if difference is None else told(difference),
            )
        )
        records.append(
            {
                "score": name,
                "is_baseline": name in BASELINES,
                "seeds": arguments.seeds,
                "values": values,
                "precision_at_recall": {"recall": _RECALLS, "by_seed": curves[name]},
                f"{OURS} less this": difference,
            }
        )
    return Table(
        title=f"Finding swapped captions, {data.noise:.0%} of the pairs",
        columns=(
            "score",
            "average precision",
            "of the seeds",
            "precision at the share swapped",
            f"{OURS} less this (95 %)",
        ),
        rows=rows,
        data=records,
        notes=facts | {"chance": f"average precision {data.noise:.2f}"},
    )


def scores_of(run: Path, audit: AuditTable, selection: Selection) -> Scores:
    """Every way to doubt the pairs of an audit."""
    scores = {name: -audit.column(name) for name in ("own_probability", OURS, "margin")} | {
        "not_first": audit.column("not_first")
    }
    row = {uid: place for place, uid in enumerate(selection.table["uid"].to_pylist())}
    place = np.array([row[uid] for uid in audit.table["uid"].to_pylist()])
    last = last_probabilities(run, len(selection))
    scores["own probability, last time"] = -last[place]
    encoder = load_encoder(str(run))
    embedder = Embedder(encoder=encoder, cache=run / "embeddings", batch_size=BATCH)
    features = embed_pairs(embedder, [selection])
    image_ND = unit(features.image_ND)
    text_ND = unit(features.text_MD)[features.text_N]
    scores["final cosine"] = -np.einsum("nd,nd->n", image_ND, text_ND)[place]
    losses = loss_in_random_batches(image_ND, text_ND, encoder.logit_scale)
    return scores | {"final loss": losses[place]}


def last_probabilities(run: Path, rows: int) -> np.ndarray:
    """The own probability of every row when it was seen last; NaN where it never was."""
    last = np.full(rows, np.nan)
    for segment in segments_in(run):
        table = read_segment(segment)[0]
        # Of several values for one place, numpy assigns the last, and rows stand in step order.
        last[table["row"].to_numpy()] = table["own_probability"].to_numpy()
    return last


def loss_in_random_batches(image_ND: np.ndarray, text_ND: np.ndarray, scale: float) -> np.ndarray:
    """InfoNCE of every pair, the mean over PASSES random divisions into batches."""
    random, losses = np.random.default_rng(0), np.zeros(len(image_ND))
    for _ in range(PASSES):
        for own in np.array_split(random.permutation(len(image_ND)), len(image_ND) // BATCH):
            logits = scale * image_ND[own] @ text_ND[own].T
            both = [np.logaddexp.reduce(way, axis=1) for way in (logits, logits.T)]
            losses[own] += (sum(both) / 2 - np.diag(logits)) / PASSES
    return losses


def unit(features: np.ndarray) -> np.ndarray:
    """Unit-norm rows, float64."""
    wide = np.asarray(features, dtype=np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def quality(is_swapped: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Average precision, and precision among as many as were swapped; unknown is least doubted."""
    score = np.nan_to_num(score, nan=np.nanmin(score))
    first = np.argsort(-score, kind="stable")[: is_swapped.sum()]
    return {
        "average_precision": float(average_precision_score(is_swapped, score)),
        "precision_at_share": float(is_swapped[first].mean()),
    }


def curve(is_swapped: np.ndarray, score: np.ndarray) -> list[float]:
    """The best precision with at least each of _RECALLS."""
    score = np.nan_to_num(score, nan=np.nanmin(score))
    precision, recall, _ = precision_recall_curve(is_swapped, score)
    return [float(precision[recall >= least].max()) for least in _RECALLS]


def second_round(arguments: argparse.Namespace, data: Data, facts: dict[str, object]) -> Table:
    """Accuracy after training on all pairs, on fewer, and on all, the doubted counting less."""
    accuracy: dict[str, dict[str, list[float]]] = {}
    for seed in arguments.seeds:
        first = first_run(arguments, data, seed)
        aggregate(first)
        folders = {"raw": first}
        for arm, rules in arms(arguments, data, first, seed).items():
            name = f"{arm}-{first.parent.name}-{seed}"
            kept = curate(str(data.packaged.train), data.curated, rules=rules, name=name, workers=1)
            folders[arm] = first.with_name(f"{arm}-{seed}")
            train(recipe_of(arguments, seed), Selection.open(kept.directory), folders[arm])
        for arm, out in folders.items():
            done = evaluate_model(str(out), data.packaged.tasks, out=out / "evaluation")
            for one in done.results:
                if (one.protocol, one.metric) == ("zero-shot", "top1"):
                    accuracy.setdefault(one.task, {}).setdefault(arm, []).append(one.value)
            print(f"swapped {data.noise:.0%}, seed {seed}, {arm} is done", flush=True)
    rows, records = [], []
    for task, by_arm in accuracy.items():
        differences = {
            f"{arm} less {other}": paired(by_arm[arm], by_arm[other]) for arm, other in CONTRASTS
        }
        means = [f"{100 * statistics.mean(values):.2f}" for values in by_arm.values()]
        rows.append((task, *means, *(told(one, 100) for one in differences.values())))
        records.append({"task": task, "values": by_arm, "differences": differences})
    names = list(next(iter(accuracy.values())))
    return Table(
        title=f"A second round of training, {data.noise:.0%} swapped captions, zero-shot in %",
        columns=("task", *names, *(f"{name} (95 %)" for name in differences)),
        rows=rows,
        data=records,
        notes=facts
        | {
            "audit, random": "each drops as many pairs as were swapped, which is known here and "
            "is not elsewhere",
            "lighter": f"the pairs that audit drops count {LIGHT:g} instead",
            "sound": "without the pairs that were swapped, as nobody could know",
            "steps": "the same number in every arm",
        },
    )


def arms(
    arguments: argparse.Namespace, data: Data, first: Path, seed: int
) -> dict[str, tuple[Rule, ...]]:
    """The rules of every arm but the first."""
    uids = Selection.open(data.selection).table["uid"].unique().to_pylist()
    some = np.random.default_rng(seed).permutation(sorted(uids))[: len(data.swapped)]
    share = len(data.swapped) / len(uids)
    doubted = Audit(file=(first / "audit.parquet").resolve(), drop=share)
    return {
        "audit": (doubted,),
        "lighter": (replace(doubted, weight=LIGHT),),
        "random": (Exclude(path=write_list(first.with_name(f"random-{seed}.txt"), some.tolist())),),
        "sound": (
            Exclude(path=write_list(first.with_name(f"sound-{seed}.txt"), sorted(data.swapped))),
        ),
    }


def write_list(path: Path, uids: Sequence[str]) -> Path:
    """A list of uids for the rule `exclude`."""
    path.write_text("\n".join(uids) + "\n")
    return path.resolve()


def told(difference: dict[str, object], factor: float = 1.0) -> str:
    """Mean, interval and verdict of a paired difference."""
    shown = [difference[name] for name in ("mean", "low", "high")]
    mean, low, high = (f"{factor * x:+.3f}" if isinstance(x, float) else "?" for x in shown)
    return f"{mean} ({low} to {high}), {difference['verdict']}"


if __name__ == "__main__":
    main()
