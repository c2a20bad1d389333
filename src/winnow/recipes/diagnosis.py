"""What `winnow doctor` found, and the advice that follows from it: rules over numbers.

A rule looks at the facts and says one sentence or nothing. Rules stand in the order of their
weight: what would stop a run, what would slow it down, what would make its model worse.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from winnow.data.inspection import CaptionFacts, PictureFacts
from winnow.training.capacity import Capacity
from winnow.training.recipe import Recipe

LOST = 0.01
"""Share of pairs, as everywhere in winnow, from which something else is wrong than single files."""
MANY = 0.05
"""Share of a sample from which a flaw of captions or pictures is worth a sentence."""
UNEVEN = 4.0
"""The largest shard over the median one, from which shards are called uneven."""
LONG_HOURS = 7 * 24.0
"""A week: longer runs are worth another thought."""


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """The shards of a data set, by their sizes alone."""

    count: int
    """All shards that the data set names."""
    total: int
    """Bytes, of those whose size is known."""
    smallest: int
    median: int
    largest: int
    unknown: int
    """Shards whose size could not be asked for."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What was seen of the data."""

    name: str
    """As the user gave it."""
    is_selection: bool
    """Whether it is curated; otherwise raw shards."""
    how: str
    """How the sample was drawn."""
    looked_at: int
    """Pairs of the sample, unreadable ones too."""
    pairs: int | None
    """Of the whole data set: counted in a selection, estimated for tars, else not known."""
    shards: ShardFacts
    unreadable_shards: dict[str, str]
    """Of those looked into, and why."""
    own_uids: int
    """Pairs of the sample that bring a uid; the others are known by their content."""
    near_copies: int
    """Pictures that look like an earlier one of the sample without being the same file."""
    captions: CaptionFacts
    pictures: PictureFacts


@dataclass(frozen=True, kw_only=True)
class LoaderFacts:
    """How fast the loader is."""

    images_per_second: float
    workers: int
    images: int
    """That this was measured on, after the workers had begun."""
    cores: int
    """Of this machine that the process may use."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that the doctor knows."""

    recipe_name: str
    recipe: Recipe
    data: DataFacts
    loader: LoaderFacts
    capacity: Capacity
    disk_free: int
    """Bytes, where the run would be."""

    @property
    def micro_batches(self) -> int:
        """As the recipe has it, or as many as the memory asks for, where that is more."""
        asked = self.recipe.micro_batches
        if self.capacity.memory is None or not self.capacity.can_split_batches:
            return asked
        needed = self.capacity.memory.micro_batches(self.recipe.batch_size)
        return asked if needed is None else max(asked, needed)

    @property
    def model_rate(self) -> float:
        """Samples a second of a model that never waits."""
        return self.capacity.samples_per_second(
            batch_size=self.recipe.batch_size, micro_batches=self.micro_batches
        )

    @property
    def is_loader_limiting(self) -> bool:
        """Whether the model would wait for data."""
        return self.loader.images_per_second < self.model_rate

    @property
    def hours(self) -> float:
        """Of the whole run at the slower of the two."""
        rate = min(self.loader.images_per_second, self.model_rate)
        return self.recipe.steps * self.recipe.batch_size / rate / 3600

    @property
    def disk_needed(self) -> int:
        """Bytes of the checkpoints that are there at once, of model/ and of best/."""
        checkpoints = checkpoints_kept(self.recipe) * self.capacity.checkpoint_bytes
        exports = 1 + bool(self.recipe.runtime.evaluate_every)
        return checkpoints + exports * self.capacity.model_bytes


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing to change, or to know."""

    sentence: str
    option: str | None = None
    """What to add to `winnow train`, or the command to run first."""


def advise(diagnosis: Diagnosis) -> list[Advice]:
    """What to change, the weightiest first; empty where nothing stands out."""
    found = [rule(diagnosis) for rule in _RULES]
    return [advice for advice in found if advice is not None]


def checkpoints_kept(recipe: Recipe) -> int:
    """How many checkpoints may be on the disk at once, the one being written among them."""
    runtime = recipe.runtime
    for_good = recipe.steps // runtime.keep_every if runtime.keep_every else 0
    return runtime.keep_checkpoints + for_good + bool(runtime.evaluate_every) + 1


def _unreadable_shards(found: Diagnosis) -> Advice | None:
    bad = found.data.unreadable_shards
    if not bad:
        return None
    shard, reason = next(iter(bad.items()))
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return Advice(
        sentence=f"{shard} cannot be read ({reason}){more}: fetch it again or leave it out."
    )


def _too_few_pairs(found: Diagnosis) -> Advice | None:
    pairs, batch_size = found.data.pairs, found.recipe.batch_size
    if pairs is None or pairs >= batch_size:
        return None
    return Advice(
        sentence=f"The data has about {pairs:,} pairs, fewer than a batch of {batch_size:,}: "
        "a pair would be its own negative.",
        option=f"--batch-size {2 ** int(math.log2(max(1, pairs)))}",
    )


def _memory(found: Diagnosis) -> Advice | None:
    plan, recipe = found.capacity.memory, found.recipe
    if plan is None or plan.fits(batch_size=recipe.batch_size, micro_batches=recipe.micro_batches):
        return None
    peak = plan.peak(batch_size=recipe.batch_size, micro_batches=recipe.micro_batches)
    start = (
        f"A batch of {recipe.batch_size:,} in {recipe.micro_batches} takes about "
        f"{peak / 1e9:,.1f} GB of the {plan.available / 1e9:,.1f} GB there are"
    )
    needed = plan.micro_batches(recipe.batch_size) if found.capacity.can_split_batches else None
    if needed is None:
        why = "no number of micro-batches would mend that"
        if not found.capacity.can_split_batches:
            why = "batch normalisation leaves no micro-batches"
        return Advice(
            sentence=f"{start}, and {why}: recompute activations, take a smaller batch or another "
            "model, or share the batch among several devices.",
            option="--runtime.gradient-checkpointing",
        )
    return Advice(
        sentence=f"{start}: embed it in parts of {plan.largest_micro_batch(recipe.batch_size):,} "
        "pairs. The gradient is the same, a step takes about a third longer.",
        option=f"--micro-batches {needed}",
    )


def _disk(found: Diagnosis) -> Advice | None:
    needed, free = found.disk_needed, found.disk_free
    if needed <= free:
        return None
    return Advice(
        sentence=f"Checkpoints take up to {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free "
        "where the run would be: put it elsewhere, or keep fewer.",
        option="--runtime.keep-checkpoints 1",
    )


def _decoding(found: Diagnosis) -> Advice | None:
    failures = sum(found.data.pictures.failures.values())
    share = failures / found.data.looked_at
    if found.data.is_selection and failures:
        return Advice(
            sentence=f"{failures:,} of {found.data.looked_at:,} pairs of the selection cannot be "
            "read any more, and a run stops at the first: curate these shards again.",
            option="winnow curate SHARDS --out DIR",
        )
    if share <= LOST:
        return None
    code = next(iter(found.data.pictures.failures))
    return Advice(
        sentence=f"{share:.1%} of the pairs cannot be read, mostly because of: {code}. Curating "
        "says which, and stops at more than 1 %.",
        option=f"winnow curate SHARDS --out DIR --max-errors {min(1.0, 2 * share):.2f}",
    )


def _loader(found: Diagnosis) -> Advice | None:
    if not found.is_loader_limiting:
        return None
    loader, wanted = found.loader, found.model_rate
    each = loader.images_per_second / max(1, loader.workers)
    workers = math.ceil(wanted / each)
    share = 1 - loader.images_per_second / wanted
    start = (
        f"The loader limits: {loader.images_per_second:,.0f} images/s with {loader.workers} "
        f"workers, and the model could take {wanted:,.0f}, so it would wait {share:.0%} of the time"
    )
    if workers <= loader.cores:
        return Advice(
            sentence=f"{start}. More workers would feed it.", option=f"--runtime.workers {workers}"
        )
    option = f"--runtime.workers {loader.cores}" if loader.workers < loader.cores else None
    return Advice(
        sentence=f"{start}. About {workers} workers would feed it, and this machine has "
        f"{loader.cores} cores: store the pictures smaller, at about twice what the model takes, "
        "as JPEG, or take a machine with more cores.",
        option=option,
    )


def _hours(found: Diagnosis) -> Advice | None:
    if found.hours <= LONG_HOURS:
        return None
    where = "several devices" if found.capacity.is_gpu else "a GPU"
    return Advice(
        sentence=f"The run would take {found.hours / 24:,.0f} days here: take {where}, a smaller "
        "model, or fewer steps."
    )


def _raw(found: Diagnosis) -> Advice | None:
    data, captions = found.data, found.data.captions
    copies = data.pictures.copies + data.near_copies
    flaws = captions.repeated + captions.empty
    if data.is_selection or max(copies, flaws) <= MANY * data.looked_at:
        return None
    return Advice(
        sentence=f"{flaws / captions.count:.0%} of the captions repeat others or are empty, and "
        f"{copies / data.looked_at:.0%} of the pictures are copies or near copies within this "
        "sample alone: curate first, and train on the selection.",
        option="winnow curate SHARDS --out DIR --rules clean near-duplicate",
    )


def _repeated(found: Diagnosis) -> Advice | None:
    data = found.data
    repeated = data.captions.repeated
    if not data.is_selection or repeated <= MANY * data.looked_at or found.recipe.mask.same_caption:
        return None
    return Advice(
        sentence=f"{repeated / data.looked_at:.0%} of the captions occur more than once: pairs "
        "with the same caption would be each other's negatives.",
        option="--mask.same-caption",
    )


def _cut(found: Diagnosis) -> Advice | None:
    captions = found.data.captions
    if captions.cut <= MANY * captions.count:
        return None
    is_custom = hasattr(found.recipe.model, "text")
    return Advice(
        sentence=f"{captions.cut / captions.count:.0%} of the captions are longer than the text "
        f"tower's context, and their end is never seen: 95 % have at most {captions.tokens[2]} "
        "tokens.",
        option=f"--model.text.context-length {captions.tokens[2]}" if is_custom else None,
    )


def _small(found: Diagnosis) -> Advice | None:
    pictures = found.data.pictures
    if pictures.small <= MANY * pictures.count:
        return None
    return Advice(
        sentence=f"{pictures.small / pictures.count:.0%} of the pictures are smaller than the "
        "model's input and are enlarged: the rule picture-size drops them, or take a model of "
        "smaller pictures."
    )


def _uneven(found: Diagnosis) -> Advice | None:
    shards = found.data.shards
    if shards.largest <= UNEVEN * max(1, shards.median):
        return None
    return Advice(
        sentence=f"The largest shard has {shards.largest / 1e6:,.0f} MB, the median one "
        f"{shards.median / 1e6:,.0f}: curation gives a shard to a process, so the largest one "
        "decides when it ends. Training does not mind."
    )


def _check(found: Diagnosis) -> Advice | None:
    plan = found.capacity.memory
    if plan is None or abs(plan.check) <= MANY:
        return None
    return Advice(
        sentence=f"The line that memory is extended along misses a measured step by "
        f"{abs(plan.check):.0%}: take what is said of memory as a rough guide."
    )


_RULES: tuple[Callable[[Diagnosis], Advice | None], ...] = (
    *(_unreadable_shards, _too_few_pairs, _memory, _disk, _decoding),
    *(_loader, _hours),
    *(_raw, _repeated, _cut, _small, _uneven, _check),
)
