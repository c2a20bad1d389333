"""Cells: one training run each, its evaluation, and a file that says that both are done.

    STUDY/cells/AXIS-LEVEL-METHOD-seedN/run/       the run, and its evaluation/
    STUDY/cells/AXIS-LEVEL-METHOD-seedN/cell.json  what it was, written last: present means done
    STUDY/cells/AXIS-LEVEL-METHOD-seedN/log.txt    what was said meanwhile

Cells of one seed see pairs in one order from the same initial weights, in as many steps of as many
pairs, whatever the method; only what an axis changes differs along it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from winnow.config import to_json
from winnow.recipes.ablations.changes import Fields, with_fields
from winnow.recipes.ablations.study import BASE, Level, Study, TrainingData
from winnow.training.recipe import Recipe, Runtime


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run of a study."""

    method: str
    axis: str
    """`base` for what all axes share, `tuning` for trials."""
    level: str
    seed: int
    recipe: Recipe
    data: TrainingData

    @property
    def name(self) -> str:
        """Of its folder."""
        place = BASE if self.axis == BASE else f"{self.axis}-{self.level}"
        return f"{place}-{self.method}-seed{self.seed}"


def cells_of(study: Study, tuned: Mapping[str, Fields]) -> tuple[Cell, ...]:
    """All cells, the base first, seed by seed; `tuned` are the fields chosen for each method."""
    return (*_base(study, tuned), *_along_axes(study, tuned))


def recipe_hash(recipe: Recipe) -> str:
    """16 hex digits of all that decides what a run computes; how it is carried out is left out."""
    kept = to_json(replace(recipe, runtime=Runtime()))
    return hashlib.sha256(kept.encode()).hexdigest()[:16]


def _base(study: Study, tuned: Mapping[str, Fields]) -> Iterator[Cell]:
    everything = Level(name=BASE)
    for seed in study.seeds:
        for method in study.names:
            yield _cell(study, tuned, BASE, everything, method, seed)


def _along_axes(study: Study, tuned: Mapping[str, Fields]) -> Iterator[Cell]:
    for axis in study.axes:
        for seed in axis.seeds or study.seeds:
            for level in axis.levels:
                if level.name != axis.base:
                    for method in axis.methods or study.names:
                        yield _cell(study, tuned, axis.name, level, method, seed)


def _cell(
    study: Study, tuned: Mapping[str, Fields], axis: str, level: Level, name: str, seed: int
) -> Cell:
    method = next(method for method in study.methods if method.name == name)
    recipe = method.of(replace(study.base, seed=seed))
    recipe = with_fields(recipe, tuned.get(name, {}), where=f"the tuning of {name!r}")
    # Last, so that an axis over a field that was tuned has the levels it says.
    recipe = with_fields(recipe, level.fields, where=f"the level {level.name!r} of {axis!r}")
    return Cell(
        method=name,
        axis=axis,
        level=level.name,
        seed=seed,
        recipe=recipe,
        data=level.data or study.data,
    )
