"""What `winnow ablate` takes and does: a study of a user's own data, from plain options."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from winnow.recipes.ablations.methods import METHODS
from winnow.recipes.ablations.running import run_study
from winnow.recipes.ablations.study import Axis, Level, Study, TrainingData
from winnow.recipes.tasks import evaluation_root, resolve
from winnow.training.recipe import Recipe
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Train methods side by side with several seeds, along axes of the data, and compare them.

    The recipe that they share is named with --recipe NAME (default: clip), and its fields are set
    as for `winnow train`; its objective gives way to each method's.
    """

    data: str
    """A selection, a curated folder that holds one, or raw shards."""
    out: Path
    """The study's folder; the same command goes on where it was."""
    methods: tuple[str, ...] = ("clip", "psd")
    """Of clip, psd, hn_nce, hn_psd, cd, diht, diht_psd; the first is what others are compared
    with."""
    seeds: int = 3
    """Runs of every method; they count from the recipe's --seed on."""
    tasks: tuple[str, ...]
    """Evaluation sets as `winnow evaluate` takes them."""
    root: Path | None = None
    """The folder of the sets that are named, as for `winnow evaluate`."""
    probes: tuple[str, ...] = ()
    """Evaluation sets with a training split, for linear and few-shot probes."""
    in_distribution: str | None = None
    """The task that effective robustness is relative to."""
    shifts: tuple[str, ...] = ()
    """The tasks under a shift."""
    sizes: tuple[float, ...] = ()
    """Parts of the data, above 0 to 1, as an axis; each lies within the larger ones."""
    noise: tuple[float, ...] = ()
    """Shares of captions, 0 to 1, that are swapped among pairs, as an axis; not for methods that
    distil concepts."""
    selections: tuple[str, ...] = ()
    """Selections by rules as an axis, the first being the base: `none clean clean+cat`; of
    raw shards, or of a selection's pairs."""
    jobs: int = 1
    """Cells trained at a time, each in a process of its own; they share the cores, or the GPU."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    @classmethod
    def of(cls, recipe: Recipe) -> "Ablate":
        """With the recipe's fields as defaults, and what has to be said still to be given."""
        return cls(data=tyro.MISSING, out=tyro.MISSING, tasks=tyro.MISSING, recipe=recipe)


def run_ablate(options: Ablate, *, say: Callable[..., None]) -> None:
    """Run the study of these options."""
    run_study(study_of(options), options.out, jobs=options.jobs, say=say)


def study_of(options: Ablate) -> Study:
    """The study that the options describe. Raises InputError where they describe none."""
    if options.seeds < 1:
        raise InputError(f"--seeds is {options.seeds}: give 1 or more")
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not options.methods:
        raise InputError("--methods names nothing to compare")
    root = options.root or evaluation_root()
    first = options.selections[0] if options.selections else "none"
    data = TrainingData(source=options.data, rules=_rules(first))
    seed = options.recipe.seed
    return Study(
        base=options.recipe,
        data=data,
        methods=tuple(METHODS[name] for name in options.methods),
        baseline=options.methods[0],
        seeds=tuple(range(seed, seed + options.seeds)),
        axes=tuple(axis for axis in _axes(options, data) if len(axis.levels) > 1),
        tasks=resolve(options.tasks, root, must_exist=True),
        probes=resolve(options.probes, root, must_exist=True),
        shifts=_shifts(options),
    )


def _axes(options: Ablate, data: TrainingData) -> tuple[Axis, ...]:
    sizes = [
        Level(name=f"{size:g}", value=size, data=replace(data, share=size))
        for size in sorted({*options.sizes, 1.0})
    ]
    noise = [
        Level(name=f"{share:g}", value=share, data=replace(data, swapped=share))
        for share in sorted({*options.noise, 0.0})
    ]
    selections = [
        Level(name=words, data=replace(data, rules=_rules(words)))
        for words in options.selections or ("none",)
    ]
    return (
        Axis(name="size", levels=tuple(sizes), base="1"),
        Axis(name="noise", levels=tuple(noise), base="0"),
        Axis(name="curation", levels=tuple(selections), base=selections[0].name),
    )


def _shifts(options: Ablate) -> dict[str, str]:
    if options.in_distribution is None:
        if options.shifts:
            raise InputError("--shifts needs --in-distribution: name the task without a shift")
        return {}
    return dict.fromkeys(options.shifts, options.in_distribution)


def _rules(words: str) -> tuple[str, ...]:
    """The rules of `clean+cat`."""
    return () if words == "none" else tuple(words.split("+"))
