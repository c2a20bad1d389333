"""What `winnow doctor` takes and does: a look at data, loader, model, memory and disk."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from winnow.config import write_json
from winnow.curation.hamming import choose_apart
from winnow.data.inspection import (
    Looked,
    as_selection,
    caption_facts,
    look_at_selection,
    look_at_shards,
    picture_facts,
    read_sizes,
)
from winnow.data.selection import Selection
from winnow.data.sources import open_source
from winnow.progress import track
from winnow.recipes.data import open_selection, selection_at
from winnow.recipes.diagnosis import DataFacts, Diagnosis, ShardFacts, advise
from winnow.recipes.dry_run import concept_sizes, keeping_nothing, measure_model
from winnow.recipes.findings import (
    advice_lines,
    caption_rows,
    data_rows,
    disk_rows,
    model_rows,
    speed_rows,
    table_of,
)
from winnow.recipes.loader_speed import measure_loader
from winnow.recipes.train import refuse_unknown_recipe
from winnow.training.recipe import Recipe
from winnow.types import InputError

DEFAULT_RECIPE = "clip"
NEAR_BITS = 2
"""Bits of 64 in which hashes of near copies differ at most: the rule near-duplicate's own."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Look at data, loader, model, memory and disk before a long run, and say what to change.

    The recipe is named with --recipe NAME (default: clip), and its fields are set as for `winnow
    train`.
    """

    data: tyro.conf.Positional[str]
    """A selection, a curated folder that holds one, or raw shards."""
    samples: int = 2000
    """Pairs to look at."""
    out: Path = Path()
    """Where the run would be, for its disk; nothing is written there."""
    concepts: Path | None = None
    """A teacher's concepts, for the sizes of a recipe's concept heads."""
    json: Path | None = None
    """Write everything that was found to this file, for machines."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    @classmethod
    def of(cls, recipe: Recipe) -> "Doctor":
        """With the recipe's fields as defaults, and the data still to be given."""
        return cls(data=tyro.MISSING, recipe=recipe)


def take_recipe_name(
    arguments: Sequence[str], recipes: Mapping[str, Callable[[], Recipe]]
) -> tuple[str, list[str]]:
    """The name given by --recipe, or the default one, and the other arguments."""
    name, others = DEFAULT_RECIPE, list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--recipe" and index + 1 < len(arguments):
            name, others = arguments[index + 1], [*arguments[:index], *arguments[index + 2 :]]
        elif argument.startswith("--recipe="):
            name, others = argument.partition("=")[2], [*arguments[:index], *arguments[index + 1 :]]
    refuse_unknown_recipe(name, recipes)
    return name, others


def run_doctor(options: Doctor, name: str, *, say: Callable[..., None]) -> Diagnosis:
    """Examine, say what was found, and end with advice; `name` is what the recipe is called."""
    if options.samples < 1:
        raise InputError(f"--samples {options.samples}: at least one pair has to be looked at")
    with (
        keeping_nothing("the doctor"),
        tempfile.TemporaryDirectory(prefix="winnow-doctor-") as scratch,
    ):
        found = examine(options, name, Path(scratch))
    advice = advise(found)
    say(table_of("data", data_rows(found.data)))
    say(table_of("captions", caption_rows(found.data)))
    model = model_rows(found.recipe, found.capacity, micro_batches=found.micro_batches)
    say(table_of(f"model of the recipe {name}", model))
    say(table_of("the run", speed_rows(found) + disk_rows(found.recipe, found.capacity)))
    for line in advice_lines(advice):
        say(line)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, as_plain(found) | {"advice": [asdict(one) for one in advice]})
    return found


def examine(options: Doctor, name: str, scratch: Path) -> Diagnosis:
    """Look at everything; `scratch` takes what is needed meanwhile."""
    recipe = options.recipe
    data, selection = _look(options, scratch)
    with track("loading", total=options.samples, unit="images") as advance:
        loader = measure_loader(recipe, selection, images=options.samples, advance=advance)
    capacity = measure_model(recipe, concept_sizes(recipe, options.concepts))
    return Diagnosis(
        recipe_name=name,
        recipe=recipe,
        data=data,
        loader=loader,
        capacity=capacity,
        disk_free=shutil.disk_usage(_existing(options.out)).free,
    )


def as_plain(found: Diagnosis) -> dict[str, Any]:
    """Everything that was found as json has it; bytes, seconds and shares as they are."""
    recipe = found.recipe
    asked = {"batch_size": recipe.batch_size, "micro_batches": recipe.micro_batches}
    plan = found.capacity.memory
    planned = None
    if plan is not None:
        planned = {
            "peak": plan.peak(**asked),
            "largest_micro_batch": plan.largest_micro_batch(recipe.batch_size),
            "micro_batches_needed": plan.micro_batches(recipe.batch_size),
        }
    return {
        "recipe": {"name": found.recipe_name, "steps": recipe.steps} | asked,
        "data": asdict(found.data),
        "loader": asdict(found.loader),
        "model": asdict(found.capacity) | {"plan": planned},
        "run": {
            "limited_by": "loader" if found.is_loader_limiting else "model",
            "model_samples_per_second": found.model_rate,
            "hours": found.hours,
            "disk_free": found.disk_free,
            "disk_needed": found.disk_needed,
        },
    }


def _look(options: Doctor, scratch: Path) -> tuple[DataFacts, Selection]:
    """What the data is like, and a selection of it that the loader can read."""
    seed, folder = options.recipe.seed, selection_at(options.data)
    with track("looking at pairs", total=options.samples, unit="pairs") as advance:
        if folder is None:
            source = open_source(options.data)
            looked = look_at_shards(source, samples=options.samples, seed=seed, advance=advance)
            _refuse_unreadable(options.data, looked)
            selection = as_selection(looked, source, scratch / "looked-at")
            sizes, num_shards = read_sizes(source.shards), len(source.shards)
            pairs = _estimated_pairs(looked, sizes)
        else:
            selection = open_selection(options.data, index=scratch / "selection")
            looked = look_at_selection(
                selection, samples=options.samples, seed=seed, advance=advance
            )
            _refuse_unreadable(options.data, looked)
            sizes, num_shards = read_sizes(selection.shards), len(selection.shards)
            pairs = len(selection)
    return _facts(options, looked, folder is not None, _shards(sizes, num_shards), pairs), selection


def _refuse_unreadable(data: str, looked: Looked) -> None:
    """Raise InputError where nothing can be read, with what is wrong with the shard or the pair."""
    if not any(pair.error is None for pair in looked.pairs):
        reasons = [*looked.unreadable.values(), *(pair.error or "" for pair in looked.pairs)]
        raise InputError(
            f"no pair of {data} can be read ({looked.how}), the first because of: "
            f"{reasons[0] if reasons else 'there is none'}"
        )


def _facts(
    options: Doctor, looked: Looked, is_selection: bool, shards: ShardFacts, pairs: int | None
) -> DataFacts:
    from open_clip import SimpleTokenizer

    tokenizer, config = SimpleTokenizer(), options.recipe.model.open_clip_config()
    captions = [pair.caption for pair in looked.pairs if pair.caption is not None]
    return DataFacts(
        name=options.data,
        is_selection=is_selection,
        how=looked.how,
        looked_at=len(looked.pairs),
        pairs=pairs,
        shards=shards,
        unreadable_shards=looked.unreadable,
        own_uids=sum(pair.has_uid for pair in looked.pairs),
        near_copies=_near_copies(looked),
        captions=caption_facts(
            captions,
            count_tokens=lambda caption: len(tokenizer.encode(caption)),
            context_length=config["text_cfg"].get("context_length", 77),
        ),
        pictures=picture_facts(looked.pairs, image_size=config["vision_cfg"]["image_size"]),
    )


def _near_copies(looked: Looked) -> int:
    """Pictures near an earlier one, of those that are different files."""
    different = {pair.digest: pair.picture for pair in looked.pairs if pair.picture is not None}
    hashes = [one.picture_hash for one in different.values() if one.picture_hash is not None]
    kept = choose_apart(np.array(hashes, dtype=np.uint64), radius=NEAR_BITS)
    return len(hashes) - int(kept.sum())


def _estimated_pairs(looked: Looked, sizes: Mapping[str, int]) -> int | None:
    """From the bytes that the pairs looked at take up in their tars."""
    if not all(shard.endswith(".tar") for shard in sizes):
        return None
    ends: dict[str, int] = {}
    for pair in looked.pairs:
        end = pair.address.offset + pair.address.size
        ends[pair.shard] = max(ends.get(pair.shard, 0), end)
    read = sum(ends.values())
    return round(sum(sizes.values()) * len(looked.pairs) / read) if read else None


def _shards(sizes: Mapping[str, int], count: int) -> ShardFacts:
    known = sorted(sizes.values()) or [0]
    return ShardFacts(
        count=count,
        total=sum(known),
        smallest=known[0],
        median=known[len(known) // 2],
        largest=known[-1],
        unknown=count - len(sizes),
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
