"""How fast the loader is: real batches of a recipe, read and thrown away."""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import closing

from winnow.data.loader import load_batches
from winnow.data.selection import Selection
from winnow.recipes.diagnosis import LoaderFacts
from winnow.training.recipe import Recipe

_LARGEST_BATCH = 256


def measure_loader(
    recipe: Recipe,
    selection: Selection,
    *,
    images: int,
    advance: Callable[[int], None] = lambda count: None,
) -> LoaderFacts:
    """Read about `images` pictures as a run of `recipe` would, with its workers and augmentation.

    What is read before every worker has given a batch is not counted: they have to begin first.
    """
    from winnow.models.towers import simple_tokenizer

    config = recipe.model.open_clip_config()
    workers = recipe.runtime.workers
    at_first = max(1, workers)
    size = max(1, min(_LARGEST_BATCH, recipe.batch_size, images // (4 * at_first)))
    counted = max(2 * at_first, images // size - at_first)
    batches = load_batches(
        selection,
        selection.order(recipe.seed),
        tokenize=simple_tokenizer(config["text_cfg"].get("context_length", 77)),
        image_size=config["vision_cfg"]["image_size"],
        augmentation=recipe.augmentation,
        workers=workers,
        batch_size=size,
        first_step=0,
        last_step=at_first + counted,
        image_ids=recipe.mask.same_image,
    )
    with closing(batches):
        for _ in itertools.islice(batches, at_first):
            advance(size)
        began = time.perf_counter()
        for _ in batches:
            advance(size)
        seconds = time.perf_counter() - began
    return LoaderFacts(
        images_per_second=counted * size / seconds,
        workers=workers,
        images=counted * size,
        cores=usable_cores(),
    )


def usable_cores() -> int:
    """Of this machine, those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
