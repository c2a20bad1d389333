"""What `winnow train` takes and does: a recipe, on data, into the folder of a run."""

import difflib
import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from winnow.data.captions import Captions
from winnow.data.concept_targets import ConceptTargets
from winnow.data.files import is_remote
from winnow.data.mixture import Mixture, refuse_odd_weights
from winnow.data.selection import Selection
from winnow.distributed import first_rank_first, joined, world
from winnow.models.devices import usable_device
from winnow.progress import say_to_stderr
from winnow.recipes.data import open_selection
from winnow.training.judging import Judge
from winnow.training.recipe import Recipe
from winnow.training.run import train
from winnow.training.time_limit import TimeLimit
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a recipe; run again, it goes on where it was."""

    data: tuple[str, ...]
    """A selection, a curated folder that holds one, or raw shards (indexed first). Several are
    mixed; NAME=PATH gives one a name, which is else its folder's."""
    out: Path
    """The run's folder: recipe, metrics, checkpoints, and in the end model/."""
    weights: tuple[str, ...] = ()
    """What part of the pairs is of each of several sources, as NAME=0.7; default: by sizes."""
    captions: tuple[str, ...] = ()
    """Files with other captions by uid (parquet, csv, jsonl), FILE or FILE:COLUMN,COLUMN: an epoch
    shows one of a pair's, see --captions.original."""
    validation: str | None = None
    """Held-out pairs, as --data; their loss is taken at every evaluation."""
    tasks: tuple[str, ...] = ()
    """Evaluation sets as `winnow evaluate` takes them, measured every --runtime.evaluate-every
    steps and at the end; the best model is kept in best/."""
    root: Path | None = None
    """The folder of the sets that are named, as for `winnow evaluate`."""
    concepts: Path | None = None
    """A teacher's concepts for a recipe that distils them: the folder that `winnow concepts` named;
    default: the selection's, where there is one teacher's."""
    dry_run: bool = False
    """Build everything, plan the memory, run a few steps on random data, and write nothing; neither
    --data nor --out is needed."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    @classmethod
    def of(cls, recipe: Recipe) -> "Train":
        """With the recipe's fields as defaults, and the paths still to be given."""
        return cls(data=tyro.MISSING, out=tyro.MISSING, recipe=recipe)

    @classmethod
    def without_data(cls, recipe: Recipe) -> "Train":
        """The same for a dry run, which needs no paths."""
        return cls(data=(), out=Path(), recipe=recipe)


def run_train(options: Train) -> Path:
    """What `winnow train` does, in every process that torchrun started; the model's folder."""
    recipe, index = options.recipe, options.out / "index"
    limit = TimeLimit(recipe.runtime.time_limit)
    device = usable_device(recipe.runtime.device)
    # What is wrong in a word is said before shards are indexed for hours.
    sources = _named(options.data)
    weights = _numbers(options.weights)
    if weights:
        refuse_odd_weights(sources, weights)
    _refuse_missing(options)
    judge = _judge(options, str(device))
    with joined(device):
        # One indexes raw shards and joins captions; the others find it done.
        selection = first_rank_first(lambda: _pairs(sources, weights, index))
        return train(
            recipe,
            selection,
            options.out,
            targets=first_rank_first(lambda: _targets(options, selection)),
            captions=first_rank_first(lambda: _captions(options, selection)),
            validation=first_rank_first(
                lambda: (
                    open_selection(options.validation, index=index / "validation")
                    if options.validation
                    else None
                )
            ),
            judge=judge,
            limit=limit,
        )


def _refuse_missing(options: Train) -> None:
    """Files of this machine that are not there; where others are is seen when they are opened."""
    named = {"--captions": options.captions, "--validation": filter(None, [options.validation])}
    for option, places in named.items():
        for place in places:
            path = place if Path(place).exists() else place.partition(":")[0]
            if not (
                is_remote(place) or "{" in place or glob.has_magic(place) or Path(path).exists()
            ):
                raise InputError(f"{option} {place}: there is no such file or folder")


def _pairs(
    places: Mapping[str, str], weights: Mapping[str, float], index: Path
) -> Selection | Mixture:
    if len(places) == 1:
        return open_selection(*places.values(), index=index)
    sources = {name: open_selection(place, index=index / name) for name, place in places.items()}
    return Mixture.of(sources, weights or None)


def _named(places: Sequence[str]) -> dict[str, str]:
    """Sources by name: the one given before a `=`, or the last part of the path."""
    if not places:
        raise InputError("--data names nothing to train on")
    named: dict[str, str] = {}
    for spec in places:
        name, equals, place = spec.partition("=")
        if not equals or "/" in name:
            name, place = Path(spec.rstrip("/").rpartition("://")[2]).name, spec
        if name in named:
            raise InputError(f"two sources are called {name!r}: name them, as in --data a={spec}")
        named[name] = place
    return named


def _numbers(specs: Sequence[str]) -> dict[str, float]:
    numbers = {}
    for spec in specs:
        name, equals, number = spec.rpartition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"--weights {spec} is no NAME=NUMBER, such as web=0.7")
    return numbers


def _captions(options: Train, selection: Selection | Mixture) -> Captions | None:
    if not options.captions:
        return None
    captions = Captions.open(options.captions, selection=selection)
    if world().rank == 0:
        say_to_stderr(f"captions: {captions}")
    return captions


def _targets(options: Train, selection: Selection | Mixture) -> ConceptTargets | None:
    from winnow.recipes.concepts import open_targets

    if not isinstance(selection, Selection):
        if options.recipe.concept_distillation is None and options.concepts is None:
            return None
        raise InputError(
            "concept targets are one selection's, and several --data were given: curate the "
            "sources into one folder, and make targets of its selection"
        )
    return open_targets(options.recipe, selection, options.concepts)


def _judge(options: Train, device: str) -> Judge | None:
    from winnow.recipes.judge import judge_of
    from winnow.recipes.tasks import evaluation_root, resolve

    if not options.tasks:
        return None
    sets = resolve(options.tasks, options.root or evaluation_root(), must_exist=True)
    scratch = options.out / "evaluating"
    return judge_of(sets, scratch=scratch, precision=options.recipe.precision, device=device)


def refuse_unknown_recipe(name: str, recipes: Iterable[str]) -> None:
    """Raise InputError where there is no recipe of this name."""
    names = sorted(recipes)
    if name in names:
        return
    listed = "`winnow train --help` lists them"
    if name.startswith("-"):
        raise InputError(f"the recipe's name comes before {name}: {listed}")
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else listed
    raise InputError(f"there is no recipe {name!r}: {hint}")


def list_recipes(recipes: Mapping[str, Callable[[], Recipe]]) -> str:
    """The recipes by name, for `winnow train --help`: those for any data, then size by size."""
    from winnow.recipes.sizes import METHODS, SIZED_RECIPES, SIZES

    others = [name for name in recipes if name not in SIZED_RECIPES]
    lines = ["recipes:"]
    lines += [f"  {name:<10}{_first_line(recipes[name])}" for name in others]
    lines += ["", "recipes of one size, which differ in the method alone:"]
    for size, facts in SIZES.items():
        names = ", ".join(f"{method}_{size}" for method in METHODS)
        lines.append(f"  {facts.data}:\n    {names}")
    return "\n".join(lines)


def _first_line(recipe: Callable[[], Recipe]) -> str:
    return (recipe.__doc__ or "").partition("\n")[0]
