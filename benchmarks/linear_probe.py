"""The linear probe's path of strengths: winnow's L-BFGS against scikit-learn's, warm-started both.

For each search (`half-decades`, `openai`) the strengths that it tries on these features are found
first, and those up to `--highest` taken. Then both peers fit all of them, from strong to weak
regularization, each fit beginning where the last ended: winnow by `Regression`, its preparation
counted, scikit-learn by `LogisticRegression(warm_start=True)` on the same float32 features. They
take turns; only ratios count. scikit-learn's tolerance is 1e-6: at its default of 1e-4, fits at
large strengths end before their first step. A second table says what both came to: the loss by the
formula in float64, and the accuracy on samples that neither has seen.

The features stand in for those of a CLIP tower: a common mean as long as the rest, class means and
noise whose deviations fall like a power of their direction. `--features FILE` takes real ones, an
`.npz` with `feature_ND` and `label_N`, its last tenth to measure accuracy on. At the full size
scikit-learn takes minutes a round, most of them at the largest strengths: `--highest` bounds it.

    python benchmarks/linear_probe.py
    python benchmarks/linear_probe.py --size small
"""

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
import torch
from harness import (
    RATIO_COLUMNS,
    RESULTS,
    Table,
    alternate,
    median_interval,
    ratio_of,
    ratio_rows,
    write_table,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.linear_probe import LinearProbe, choose, standing_of
from winnow.evaluation.logistic import TOLERANCE, Regression

SIZES = {"full": (50_000, 512, 100), "small": (4_000, 128, 20)}
"""Samples, width, classes."""
OURS, THEIRS, AIM = "winnow", "scikit-learn", 10.0
MAX_ITERATIONS = 1000

Fits = dict[float, LinearClassifier]


def main() -> None:
    """Measure and write."""
    arguments = parse()
    train, held = samples(arguments)
    num_classes = int(max(train.label_N.max(), held.label_N.max())) + 1
    notes = facts(arguments, train, num_classes)
    ratios, outcomes, data = [], [], []
    for search in arguments.searches:
        strengths = tried(train, held, num_classes, search, arguments.highest)
        print(f"{search}: {', '.join(f'{c:.3g}' for c in strengths)}", flush=True)
        ours, theirs = {}, {}
        peers = {
            OURS: partial(fit_ours, train, num_classes, strengths, ours),
            THEIRS: partial(fit_theirs, train, strengths, arguments.tolerance, theirs),
        }
        times = alternate(peers, rounds=arguments.rounds)
        claim = f"{len(strengths)} strengths of {search}"
        ratios.append(ratio_of(times, claim=claim, ours=OURS, theirs=THEIRS, aim=AIM))
        for strength in strengths:
            data.append(outcome(search, strength, ours, theirs, train, held))
            outcomes.append(cells(data[-1]))
        notes |= {
            f"median seconds of {search}, {name}": f"{np.median(seconds):.3g}"
            for name, seconds in times.items()
        }
        write_table("linear_probe", speed_table(ratios, notes))
        write_table("linear_probe", outcome_table(outcomes, data, notes))
    print((RESULTS / "linear_probe.md").read_text())


def parse() -> argparse.Namespace:
    """The command line; what cannot be measured is refused before any time is spent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--features", type=Path)
    parser.add_argument(
        "--searches",
        nargs="+",
        choices=["half-decades", "openai"],
        default=["half-decades", "openai"],
    )
    parser.add_argument("--highest", type=float, default=10.0, help="strength")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="scikit-learn's tol")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    try:
        median_interval(arguments.rounds)
    except ValueError as error:
        parser.error(f"--rounds: {error}")
    return arguments


def samples(arguments: argparse.Namespace) -> tuple[Labelled, Labelled]:
    """To fit to, and to measure accuracy on."""
    if arguments.features:
        with np.load(arguments.features, allow_pickle=False) as file:
            every = Labelled(file["feature_ND"].astype(np.float32), file["label_N"])
        size = len(every.label_N) * 9 // 10
    else:
        size, width, classes = SIZES[arguments.size]
        every = clip_like(size + size // 10, width, classes)
    return every.rows(np.arange(size)), every.rows(np.arange(size, len(every.label_N)))


def clip_like(size: int, width: int, classes: int) -> Labelled:
    """Features of length about 10: half of it is a common mean, class means, low-rank noise."""
    rng = np.random.default_rng(0)
    rotation_DD, _ = np.linalg.qr(rng.normal(size=(width, width)))
    deviation_D = np.arange(1, width + 1) ** -0.5
    label_N = rng.integers(classes, size=size)
    class_KD = rng.normal(size=(classes, width)) * deviation_D
    noise_ND = 2.5 * rng.normal(size=(size, width)) * deviation_D**0.8
    feature_ND = (class_KD[label_N] + noise_ND) @ rotation_DD
    feature_ND *= 7 / np.sqrt(np.square(feature_ND).sum(axis=1).mean())
    mean_D = rng.normal(size=width)
    feature_ND += 7 * mean_D / np.linalg.norm(mean_D)
    return Labelled(feature_ND.astype(np.float32), label_N)


def tried(
    train: Labelled, held: Labelled, num_classes: int, search: str, highest: float
) -> list[float]:
    """The strengths of a search, ascending."""
    chosen = choose(train, held, num_classes=num_classes, config=LinearProbe(search=search))
    return sorted(point.strength for point in chosen.path if point.strength <= highest * 1.001)


def fit_ours(train: Labelled, num_classes: int, strengths: Sequence[float], fits: Fits) -> None:
    """All strengths, into `fits`."""
    regression, start = Regression(train, num_classes=num_classes), None
    for strength in strengths:
        start = regression.fit(strength, start=start).classifier
        fits[strength] = start


def fit_theirs(train: Labelled, strengths: Sequence[float], tolerance: float, fits: Fits) -> None:
    """All strengths, into `fits`."""
    model = LogisticRegression(warm_start=True, tol=tolerance, max_iter=MAX_ITERATIONS)
    for strength in strengths:
        model.C = strength
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train.feature_ND, train.label_N)
        fits[strength] = LinearClassifier(model.coef_.T.copy(), model.intercept_.copy())


def outcome(
    search: str, strength: float, ours: Fits, theirs: Fits, train: Labelled, held: Labelled
) -> dict[str, object]:
    """What both came to at one strength."""
    return {
        "search": search,
        "strength": strength,
        "loss_ours": objective(ours[strength], train, strength),
        "loss_theirs": objective(theirs[strength], train, strength),
        "accuracy_ours": standing_of(ours[strength], held).accuracy,
        "accuracy_theirs": standing_of(theirs[strength], held).accuracy,
    }


def objective(classifier: LinearClassifier, train: Labelled, strength: float) -> float:
    """The formula in float64, in blocks of rows."""
    weight_DK, bias_K = (array.astype(np.float64) for array in classifier)
    total = 0.0
    for start in range(0, len(train.label_N), 4096):
        x_CD, label_C = (array[start : start + 4096] for array in train)
        z_CK = x_CD @ weight_DK + bias_K
        z_CK -= z_CK[np.arange(len(z_CK)), label_C][:, None]
        total += float(np.logaddexp.reduce(z_CK, axis=1).sum())
    return strength * total + float(np.square(weight_DK).sum()) / 2


def cells(row: dict) -> tuple[str, ...]:
    """As they are shown."""
    excess = row["loss_ours"] / row["loss_theirs"] - 1
    return (
        row["search"],
        f"{row['strength']:.3g}",
        f"{row['loss_ours']:.7g}",
        f"{excess:+.1e}",
        f"{100 * row['accuracy_ours']:.2f}",
        f"{100 * row['accuracy_theirs']:.2f}",
    )


def speed_table(ratios: list, notes: dict[str, object]) -> Table:
    """The ratios."""
    return Table(
        title="Linear probe, a path of strengths",
        columns=RATIO_COLUMNS,
        rows=ratio_rows(ratios),
        data=[asdict(ratio) | {"verdict": ratio.verdict} for ratio in ratios],
        notes=notes,
    )


def outcome_table(rows: list, data: list, notes: dict[str, object]) -> Table:
    """What the fits came to."""
    return Table(
        title="Linear probe, what both came to",
        columns=(
            "search",
            "C",
            "loss, winnow",
            "over scikit-learn's",
            "accuracy, winnow (%)",
            "accuracy, scikit-learn (%)",
        ),
        rows=list(rows),
        data=list(data),
        notes=notes,
    )


def facts(arguments: argparse.Namespace, train: Labelled, num_classes: int) -> dict[str, object]:
    """What was measured on."""
    size, width = train.feature_ND.shape
    kind = "of a file" if arguments.features else "generated"
    return {
        "features": f"{size:,} x {width}, {num_classes} classes, float32, {kind}",
        "threads": torch.get_num_threads(),
        "tolerances": f"winnow {TOLERANCE:g} of the loss, scikit-learn {arguments.tolerance:g}",
        "scikit-learn": sklearn.__version__,
    }


if __name__ == "__main__":
    main()
