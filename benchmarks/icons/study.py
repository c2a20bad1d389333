"""The study of both papers' claims on real icons: what is compared, on what, along which axes.

    python benchmarks/icons/build.py --size small --out DATA
    python benchmarks/icons/study.py --size small --data DATA --out STUDY [--jobs 2] [--part why]
    python benchmarks/icons/study.py --size small --data DATA --out STUDY --tune

Two studies make it up. `icons`: every method on icons with their naturally noisy names, a fifth of
them swapped, then less and more data, then less and more noise. `pool`: sentences of all kinds,
whole and as C, CA and CAT select among them. A third one, `--part why`, shows what gains and losses
depend on where two fifths of the captions are swapped: length of training, false negatives,
which pairs are soft.

Learning rate and each method's own constant come from `tuned-SIZE.json`, which `--tune` writes: as
many trials for every method, the baseline too, judged on two vendors that nothing else is measured
on. Each study's tables are written to benchmarks/results, its page to STUDY/PART/study.html.
"""

import argparse
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from winnow.config import read_json, write_json
from winnow.evaluation.probes import FewShot
from winnow.evaluation.protocols import Protocols
from winnow.evaluation.study.claims import CLAIMS
from winnow.models import CustomTowers, TextTransformer, TimmImageTower
from winnow.recipes.ablations.changes import Fields
from winnow.recipes.ablations.methods import METHODS, Method
from winnow.recipes.ablations.running import TABLES_STEM, run_study, run_tuning
from winnow.recipes.ablations.study import Axis, Level, Study, TrainingData, Tuning
from winnow.recipes.concepts import Concepts
from winnow.recipes.training import tiny
from winnow.training.optimizer import AdamW
from winnow.training.recipe import Recipe, Runtime

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
VALIDATION = ("validation-hugeicons", "validation-openmoji")
ZERO_SHOT = ("seen", "unseen-sets", "game-icons", "twemoji", "noto", "fluent")
SHIFTS = {
    "unseen-sets": "seen",
    "unseen-emoji": "seen-emoji-classes",
    "game-icons": "seen-game-classes",
}
"""Each shift with the same classes on drawings of sets that were trained on. The pictures of those
that are not in ZERO_SHOT are in others of it, so they count in no mean."""
RETRIEVAL = ("game-icons-retrieval", "tuxpaint", "openclipart")
FILTERS = ("c-filter", "ca-filter", "cat-filter")
"""The claims that the pool answers; the others are the icons'."""
PROBES = ("kinds-noto", "categories-iconoir")
COMPARED = ("clip", "psd", "hn_nce", "cd", "diht", "diht_psd")
ALONG_AXES = ("clip", "psd", "diht")
TEACHER_SIZE = 64
"""Pixels at which the teacher sees pictures that are drawn at 32."""
BASE_NOISE = "20"
TUNING_SEEDS = (1000,)
"""None that is measured: the chosen trial is a lucky one."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of it is run."""

    steps: int
    batch_size: int
    seeds: int
    axis_seeds: int
    subsets: Mapping[str, tuple[float, str]]
    """Name -> the part of the pairs, and the file of them in DATA/sizes."""
    width: int
    """Of the text tower."""
    image_tower: str
    learning_rates: tuple[float, ...]
    workers: int
    subsets_of_shots: int


SIZES = {
    "small": Size(
        steps=240,
        batch_size=256,
        seeds=5,
        axis_seeds=3,
        subsets={"1-of-9": (1 / 9, "1-of-9.npy"), "1-of-3": (1 / 3, "1-of-3.npy")},
        width=64,
        image_tower="test_byobnet",
        learning_rates=(2e-3, 4e-3, 8e-3),
        workers=0,
        subsets_of_shots=2,
    ),
    "medium": Size(
        steps=3000,
        batch_size=1024,
        seeds=5,
        axis_seeds=3,
        subsets={"1-of-100": (0.01, "1-of-100.npy"), "1-of-10": (0.1, "1-of-10.npy")},
        width=256,
        image_tower="resnet18.a1_in1k",
        learning_rates=(5e-4, 1e-3, 2e-3),
        workers=2,
        subsets_of_shots=5,
    ),
}

KNOBS: dict[str, tuple[str, tuple[object, ...]]] = {
    "psd": ("objective.final_share", (0.2, 0.4)),
    "hn_nce": ("objective.beta", (0.1, 0.25)),
    "cd": (
        "concept_distillation",
        tuple({"object_weight": w, "attribute_weight": w} for w in (0.1, 1.0)),
    ),
    "diht": ("objective.beta", (0.1, 0.25)),
    "diht_psd": ("objective.targets.final_share", (0.2, 0.4)),
}
"""Each method's own constant, and the two values that are tried of it; CLIP has none."""


def base_recipe(size: Size) -> Recipe:
    """What all methods share."""
    return replace(
        tiny(),
        model=CustomTowers(
            embed_dim=256,
            image=TimmImageTower(name=size.image_tower, image_size=32),
            text=TextTransformer(context_length=16, width=size.width, heads=2, layers=1),
        ),
        optimizer=AdamW(
            learning_rate=size.learning_rates[1],
            weight_decay=0.1,
            warmup_steps=size.steps // 10,
        ),
        batch_size=size.batch_size,
        steps=size.steps,
        runtime=Runtime(workers=size.workers, log_every=20, checkpoint_every=100_000),
    )


def icons_study(data: Path, size: Size, tuned: Mapping[str, Any]) -> Study:
    """Every method on noisy names; less and more data; less and more noise."""

    def noisy(share: str) -> TrainingData:
        folder = data / ("train" if share == "0" else f"noise-{share}")
        return TrainingData(source=str(folder), noise=int(share) / 100)

    def part(file: str) -> TrainingData:
        rule = f"in-subset:path={data / 'sizes' / file}"
        return replace(noisy(BASE_NOISE), rules=(rule,))

    whole = Level(name="all", value=1.0)
    counted = (*ZERO_SHOT, *RETRIEVAL)
    seeds = tuple(range(size.axis_seeds))
    return Study(
        base=base_recipe(size),
        data=noisy(BASE_NOISE),
        methods=_methods(COMPARED, tuned),
        seeds=tuple(range(size.seeds)),
        axes=(
            Axis(
                name="size",
                levels=(
                    *(
                        Level(name=name, value=share, data=part(file))
                        for name, (share, file) in size.subsets.items()
                    ),
                    whole,
                ),
                base="all",
                methods=ALONG_AXES,
                seeds=seeds,
            ),
            Axis(
                name="noise",
                levels=tuple(
                    Level(
                        name=share,
                        value=int(share) / 100,
                        data=None if share == BASE_NOISE else noisy(share),
                    )
                    for share in ("0", "20", "40", "60")
                ),
                base=BASE_NOISE,
                methods=ALONG_AXES,
                seeds=seeds,
            ),
        ),
        concepts=_concepts,
        tasks=_sets(data, dict.fromkeys((*counted, *SHIFTS, *SHIFTS.values()))),
        counted=counted,
        probes=_sets(data, PROBES),
        probing=_probing(size),
        probing_along_axes=Protocols(names=("linear-probe",)),
        shifts=SHIFTS,
        claims=tuple(claim.name for claim in CLAIMS if claim.name not in FILTERS),
    )


def pool_study(data: Path, size: Size, tuned: Mapping[str, Any]) -> Study:
    """CAT on a pool of sentences: whole, and as each of its parts selects."""
    pool = TrainingData(source=str(data / "sentences"))
    selections = {
        "c": ("complexity",),
        "ca": ("complexity", "has-action"),
        "cat": ("cat",),
    }
    return Study(
        base=base_recipe(size),
        data=pool,
        methods=_methods(("clip",), tuned),
        seeds=tuple(range(size.axis_seeds)),
        axes=(
            Axis(
                name="curation",
                levels=(
                    Level(name="none"),
                    *(
                        Level(name=name, data=replace(pool, rules=rules))
                        for name, rules in selections.items()
                    ),
                ),
                base="none",
            ),
        ),
        tasks=_sets(data, (*ZERO_SHOT, *RETRIEVAL)),
        claims=FILTERS,
    )


def why_study(data: Path, size: Size, tuned: Mapping[str, Any]) -> Study:
    """What gains and losses depend on; no claim is decided by it."""
    _, file = tuple(size.subsets.values())[-1]
    part = TrainingData(
        source=str(data / "noise-40"),
        noise=0.4,
        rules=(f"in-subset:path={data / 'sizes' / file}",),
    )

    def axis(name: str, base: str, levels: Mapping[str, Fields], *methods: str) -> Axis:
        changed = (Level(name=level, fields=fields) for level, fields in levels.items())
        return Axis(name=name, levels=(Level(name=base), *changed), base=base, methods=methods)

    return Study(
        base=base_recipe(size),
        data=part,
        methods=_methods(("clip", "psd", "hn_nce", "diht"), tuned),
        seeds=tuple(range(size.axis_seeds)),
        axes=(
            axis("steps", "1x", {"3x": {"steps": 3 * size.steps}}, *ALONG_AXES),
            axis("mask", "none", {"same-caption": {"mask.same_caption": True}}, "clip", "hn_nce"),
            axis("chosen", "least-aligned", {"random": {"objective.choose": "random"}}, "psd"),
        ),
        concepts=_concepts,
        tasks=_sets(data, (*ZERO_SHOT, *RETRIEVAL)),
        claims=(),
    )


def tuning(data: Path, size: Size) -> Tuning:
    """Three learning rates by two values of each method's own constant, for all alike."""
    grids = {
        method: {"optimizer.learning_rate": size.learning_rates, knob: values}
        for method, (knob, values) in KNOBS.items()
    }
    # CLIP gets as many trials, all of them learning rates: the same luck of the best of six.
    grids["clip"] = {
        "optimizer.learning_rate": tuple(
            rate * factor for rate in size.learning_rates for factor in (1.0, 2**0.5)
        )
    }
    return Tuning(
        grids=grids,
        budget=6,
        tasks=_sets(data, VALIDATION),
        metric="top1",
        seeds=TUNING_SEEDS,
    )


PARTS = {"icons": icons_study, "pool": pool_study, "why": why_study}


def main() -> None:
    """Tune, or run what is not yet done of the parts."""
    from rich.console import Console

    arguments = _parse()
    size, say = SIZES[arguments.size], Console(soft_wrap=True).print
    tuned_file = HERE / f"tuned-{arguments.size}.json"
    if arguments.tune:
        study = replace(icons_study(arguments.data, size, {}), tuning=tuning(arguments.data, size))
        told = run_tuning(study, arguments.out / "icons", jobs=arguments.jobs, say=say)
        write_json(tuned_file, told)
        return
    tuned = {method: one["chosen"] for method, one in read_json(tuned_file)["methods"].items()}
    for part in arguments.part:
        study = PARTS[part](arguments.data, size, tuned)
        run_study(study, arguments.out / part, jobs=arguments.jobs, say=say)
        for suffix in ("json", "md"):
            tables = arguments.out / part / f"{TABLES_STEM}.{suffix}"
            shutil.copy(tables, RESULTS / f"icons_{arguments.size}_{part}.{suffix}")


def _methods(names: tuple[str, ...], tuned: Mapping[str, Any]) -> tuple[Method, ...]:
    return tuple(replace(METHODS[name], fields=tuned.get(name, {})) for name in names)


def _sets(data: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: data / "evaluation" / name for name in names}


def _probing(size: Size) -> Protocols:
    shots = FewShot(
        shots=(1, 4, 16),
        subsets=size.subsets_of_shots,
        methods=("text-initialised", "from-zero", "zero-shot"),
    )
    return Protocols(names=("linear-probe", "few-shot"), few_shot=shots)


def _concepts(selection: Path) -> Concepts:
    return Concepts(data=str(selection), image_size=TEACHER_SIZE)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--data", type=Path, required=True, help="what build.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="the studies' folder")
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=["icons", "pool"])
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--tune", action="store_true", help="choose constants, and nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    main()
