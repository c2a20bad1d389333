"""`winnow train RECIPE --dry-run`: everything is built, a few steps run, nothing is written.

Data is not needed: pairs are random, of the shapes that the recipe's towers take.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from winnow.models.devices import usable_device
from winnow.progress import track
from winnow.recipes.findings import disk_rows, model_rows, table_of
from winnow.training.capacity import STEPS, Capacity, measure_capacity
from winnow.training.recipe import Recipe
from winnow.types import Interrupted

ASSUMED_CONCEPTS = {"objects": 10_000, "attributes": 3_000}
"""Concepts of a teacher that is not there yet: the most that `winnow concepts` takes by itself."""


def run_dry(recipe: Recipe, *, concepts: Path | None, say: Callable[..., None]) -> Capacity:
    """Build what a run of `recipe` trains, run steps on random pairs, and say what a run takes."""
    sizes = concept_sizes(recipe, concepts)
    with keeping_nothing("a dry run"):
        capacity = measure_model(recipe, sizes)
    rate = capacity.samples_per_second(
        batch_size=recipe.batch_size, micro_batches=recipe.micro_batches
    )
    hours = recipe.steps * recipe.batch_size / rate / 3600
    rows = model_rows(recipe, capacity, micro_batches=recipe.micro_batches)
    rows.append(("hours", f"{hours:,.1f}", f"{recipe.steps:,} steps that never wait for data"))
    if sizes is not None and concepts is None:
        words = ", ".join(f"{count:,} {head}" for head, count in sizes.items())
        rows.append(("concepts", words, "assumed: --concepts names a teacher's own"))
    say(table_of("dry run: nothing is written", rows + disk_rows(recipe, capacity)))
    return capacity


@contextmanager
def keeping_nothing(what: str) -> Iterator[None]:
    """Within, a stop by Ctrl-C or a signal says that there is nothing to go on from."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.signal_number if isinstance(stop, Interrupted) else signal.SIGINT
        words = f"stopped; {what} keeps nothing, and the same command begins anew"
        raise Interrupted(words, number) from None


def measure_model(recipe: Recipe, sizes: Mapping[str, int] | None) -> Capacity:
    """What the recipe takes on its device, with progress."""
    device = usable_device(recipe.runtime.device)
    with track("measuring steps", total=STEPS, unit="measurements") as advance:
        return measure_capacity(recipe, device=device, concept_sizes=sizes, advance=advance)


def concept_sizes(recipe: Recipe, concepts: Path | None) -> Mapping[str, int] | None:
    """The vocabularies that a recipe's heads are made for; None where it has no heads."""
    if recipe.concept_distillation is None:
        return None
    if concepts is None:
        return ASSUMED_CONCEPTS
    from winnow.data.concept_targets import ConceptTargets

    return ConceptTargets.open(concepts).facts.sizes
