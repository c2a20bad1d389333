"""A study in words: which methods, on which data, along which axes, with which seeds.

A study is plain Python that returns a `Study`; nothing runs before `run_study` is given it. Its
**base** is every method with every seed on the study's own data. An **axis** changes one thing, the
data or fields of the recipe, level by level; one of its levels is the base, whose cells it shares.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from winnow.evaluation.protocols import Protocols
from winnow.evaluation.study.claims import CLAIMS
from winnow.recipes.ablations.changes import Fields
from winnow.recipes.ablations.methods import Method
from winnow.recipes.ablations.names import refuse_odd_name, refuse_twice
from winnow.recipes.concepts import Concepts
from winnow.training.recipe import Recipe
from winnow.types import InputError

BASE = "base"
"""The axis, and the level, of the cells that every axis shares."""
TUNING = "tuning"
"""The axis of trials."""

Sets = Mapping[str, Path | str]
"""Evaluation sets: name and place, as `evaluate_model` takes them."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The pairs that a cell trains on."""

    source: str
    """Shards, a selection, or a curated folder that holds one."""
    rules: tuple[str, ...] = ()
    """What selects among them, in the words of `winnow curate --rules`; none: all are kept."""
    share: float = 1.0
    """The part of the pairs, above 0 to 1; a smaller part lies within every larger one."""
    swapped: float = 0.0
    """The part, 0 to 1, whose captions are passed on among themselves before training."""
    noise: float = 0.0
    """The part, 0 to 1, that has wrong captions in the source already, where that is known."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share {self.share} of {self.source} must be above 0, and at most 1")
        for name in ("swapped", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise InputError(f"{name} {value} of {self.source} must be from 0 to 1")
        if self.swapped and self.noise:
            raise InputError(
                f"{self.source} has noise {self.noise} already: swap captions of a clean source"
            )


@dataclass(frozen=True, kw_only=True)
class Level:
    """One place on an axis: what differs from the study's base there, and nothing else."""

    name: str
    """In file names and tables."""
    value: float | None = None
    """Where it stands on the axis; None where levels are kinds rather than amounts."""
    data: TrainingData | None = None
    """None: the study's own."""
    fields: Fields = field(default_factory=dict)
    """Of the recipe, by dotted name; every method gets them."""

    def __post_init__(self) -> None:
        refuse_odd_name("level", self.name)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One thing that is changed, level by level."""

    name: str
    """`size`, `noise`, `curation`, or what it is."""
    levels: tuple[Level, ...]
    """In the order of tables."""
    base: str
    """The level that the study's base stands on: its data and recipe are the study's."""
    methods: tuple[str, ...] = ()
    """Those compared along it, of the study's; none: all."""
    seeds: tuple[int, ...] = ()
    """Of the study's; none: all."""

    def __post_init__(self) -> None:
        refuse_odd_name("axis", self.name)
        if self.name in (BASE, TUNING):
            raise InputError(f"an axis cannot be called {self.name!r}: that name is taken")
        refuse_twice(f"level of the axis {self.name!r}", (level.name for level in self.levels))
        if self.base not in [level.name for level in self.levels]:
            raise InputError(f"the axis {self.name!r} has no level {self.base!r} for its base")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How each method's own constants are chosen: the same number of trials for all of them."""

    grids: Mapping[str, Mapping[str, tuple[object, ...]]]
    """By method, the values to try of fields by dotted name; a trial is one of each field."""
    budget: int
    """Trials of every method, the baseline too: as many as its grid has combinations."""
    tasks: Sets
    """Validation sets; none of them is among those that the study measures."""
    metric: str | None = None
    """What a trial is judged by, averaged over tasks and seeds; None: each task's main metric."""
    seeds: tuple[int, ...] = (1000,)
    """Of the trials; none of the study's: the best trial of several was lucky with its seeds."""
    fields: Fields = field(default_factory=dict)
    """Of every trial alike, such as fewer steps."""

    def __post_init__(self) -> None:
        refuse_twice("validation task", self.tasks)
        refuse_twice("seed of the tuning", self.seeds)
        for method, grid in self.grids.items():
            trials = 1
            for values in grid.values():
                trials *= len(values)
            if trials != self.budget:
                raise InputError(
                    f"the grid of {method!r} has {trials} trials and the budget is {self.budget}: "
                    "every method gets as many, or the comparison is of budgets"
                )


def default_concepts(selection: Path) -> Concepts:
    """What `winnow concepts` does by itself: the teacher whose weights come in a package."""
    return Concepts(data=str(selection))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, on what, and by what it is measured."""

    base: Recipe
    """What all methods share; its seed gives way to the study's."""
    data: TrainingData
    """What the base trains on."""
    methods: tuple[Method, ...]
    """Those compared."""
    baseline: str = "clip"
    """The method that the others are compared with."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One cell each; equal seeds are equal weights, order and chance in every method."""
    axes: tuple[Axis, ...] = ()
    """What is changed one at a time."""
    tasks: Sets
    """Measured after training by all that fits nothing."""
    probes: Sets = field(default_factory=dict)
    """Measured by `probing`; sets with a training split."""
    probing: Protocols = field(
        default_factory=lambda: Protocols(names=("linear-probe", "few-shot"))
    )
    """The probes, and how they are fitted."""
    probing_along_axes: Protocols | None = None
    """Those of the cells that an axis adds, where fewer will do; None: `probing`."""
    shifts: Mapping[str, str] = field(default_factory=dict)
    """The task under each shift, and the one without it that its accuracy is relative to: the same
    classes, or the line says less of the shift than of the classes."""
    counted: tuple[str, ...] | None = None
    """Of the tasks, those of which a family's mean is and its wins are counted; None: all. A set
    within another, as robustness needs, would count its pictures twice. Probes count always."""
    claims: tuple[str, ...] | None = None
    """Papers' claims, by name in `evaluation/study/claims.py`, that the study is to decide; None:
    all."""
    tuning: Tuning | None = None
    """None: each method as it is given."""
    concepts: Callable[[Path], Concepts] = default_concepts
    """From a selection's folder to what `winnow concepts` is asked for it, where a method needs."""

    def __post_init__(self) -> None:
        refuse_twice("method", self.names)
        refuse_twice("seed", self.seeds)
        refuse_twice("task", self.tasks)
        if len(self.axes) != len({axis.name for axis in self.axes}):
            raise InputError("two axes of the study have one name: call one of them otherwise")
        self._refuse_unknown("baseline", (self.baseline,), self.names, "methods")
        named = (*self.shifts, *self.shifts.values(), *(self.counted or ()))
        self._refuse_unknown("task", named, tuple(self.tasks), "tasks")
        if self.counted is not None:
            refuse_twice("counted task", self.counted)
        if unknown := set(self.claims or ()) - {claim.name for claim in CLAIMS}:
            listed = ", ".join(claim.name for claim in CLAIMS)
            raise InputError(f"no paper makes the claim {min(unknown)!r}; there are {listed}")
        self._refuse_hidden_noise(self.data, ())
        for axis in self.axes:
            self._refuse_odd_axis(axis)
        if self.tuning is not None:
            self._refuse_leaking(self.tuning)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the methods, in order."""
        return tuple(method.name for method in self.methods)

    def _refuse_odd_axis(self, axis: Axis) -> None:
        where = f"of the axis {axis.name!r}"
        self._refuse_unknown(f"method {where}", axis.methods, self.names, "methods")
        self._refuse_unknown(f"seed {where}", axis.seeds, self.seeds, "seeds")
        for level in axis.levels:
            self._refuse_hidden_noise(level.data, axis.methods)
            changes = level.data not in (None, self.data) or bool(level.fields)
            if changes and level.name == axis.base:
                raise InputError(
                    f"the level {level.name!r} {where} is its base, so it changes neither data nor "
                    "fields: name another base, or make the study's own data those of this level"
                )
            if not changes and level.name != axis.base:
                raise InputError(f"the level {level.name!r} {where} changes nothing: leave it out")

    def _refuse_hidden_noise(self, data: TrainingData | None, names: tuple[str, ...]) -> None:
        """A vocabulary is made of the captions in the shards, which swapping leaves right."""
        for method in self.methods:
            is_compared = not names or method.name in names
            if data and data.swapped and is_compared and method.concept_distillation:
                raise InputError(
                    f"{method.name!r} would learn concepts of the captions of {data.source} as "
                    "they were before they are swapped: give shards with wrong captions in the "
                    "place of `swapped`, or leave the method out"
                )

    def _refuse_unknown(
        self, what: str, asked: tuple[object, ...], known: tuple[object, ...], kind: str
    ) -> None:
        for name in asked:
            if name not in known:
                listed = ", ".join(map(str, known))
                raise InputError(f"{what} {name!r} is not among the study's {kind}: {listed}")

    def _refuse_leaking(self, tuning: Tuning) -> None:
        """Whatever is chosen on a set that is measured on has seen the answer."""
        measured = {**self.tasks, **self.probes}
        places = {str(Path(place).absolute()) for place in measured.values()}
        for name, place in tuning.tasks.items():
            if name in measured or str(Path(place).absolute()) in places:
                raise InputError(
                    f"the tuning would choose on {name!r}, which the study measures: give "
                    "validation sets of their own"
                )
        if shared := sorted(set(tuning.seeds) & set(self.seeds)):
            raise InputError(
                f"the tuning would choose by the seed {shared[0]}, which the study measures: give "
                "it seeds of its own"
            )
        if set(tuning.grids) != set(self.names):
            raise InputError(
                f"the tuning has grids for {', '.join(tuning.grids) or 'no method'}, and the study "
                f"compares {', '.join(self.names)}: give each one, the baseline too"
            )
