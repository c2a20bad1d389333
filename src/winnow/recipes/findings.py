"""What `winnow doctor` and a dry run found, for the terminal: every number with how it was got."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from winnow.recipes.diagnosis import (
    Advice,
    DataFacts,
    Diagnosis,
    checkpoints_kept,
)
from winnow.training.capacity import Capacity
from winnow.training.recipe import Recipe

_LONGEST = 60  # characters of a caption, or of what went wrong with a shard

Row = tuple[str, str, str]
"""What, its value, how it was got."""


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """Rows as a table; words of the data are shown as they are, but for control characters."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("found", justify="right")
    table.add_column("how", style="dim")
    for row in rows:
        table.add_row(*(Text(printable(words)) for words in row))
    return table


def printable(words: str) -> str:
    """Scraped words for a terminal, which would obey the control characters among them."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def data_rows(data: DataFacts) -> list[Row]:
    """Shards, pictures and copies."""
    pictures, shards, n = data.pictures, data.shards, data.looked_at
    looked = f"{n:,} pairs: {data.how}"
    sizes = "sizes of all" if not shards.unknown else f"without {shards.unknown:,} that tell none"
    rows = [
        ("shards", f"{shards.count:,}, {_gb(shards.total)}", sizes),
        (
            "size of a shard",
            f"{_mb(shards.median)} ({_mb(shards.smallest)} to {_mb(shards.largest)})",
            "median (least to largest)",
        ),
        ("pairs looked at", f"{n:,}", data.how),
    ]
    if data.pairs is not None:
        how = "counted" if data.is_selection else "all bytes over those of a pair looked at"
        rows.append(("pairs", f"{data.pairs:,}", how))
    failed = sum(pictures.failures.values())
    rows.append(("readable", _share(n - failed, n), looked))
    rows += [(f"- {code}", _share(count, n), "") for code, count in pictures.failures.items()]
    for shard, reason in data.unreadable_shards.items():
        rows.append(("shard unreadable", _cut(reason), _cut(shard)))
    kinds = ", ".join(f"{kind} {_share(c, pictures.count)}" for kind, c in pictures.formats.items())
    width, height = pictures.sides
    rows += [
        ("format", kinds, "of the readable"),
        ("size of a picture", f"{width} x {height} pixels, {pictures.kilobytes:,.0f} kB", "median"),
        ("smaller than the input", _share(pictures.small, pictures.count), "a side of the picture"),
        ("same file again", _share(pictures.copies, pictures.count), "within the sample"),
        (
            "near copies",
            _share(data.near_copies, pictures.count),
            "hashes at most 2 of 64 bits off",
        ),
        ("bring a uid", _share(data.own_uids, n), "the others are known by their content"),
    ]
    return rows


def caption_rows(data: DataFacts) -> list[Row]:
    """Lengths and repetitions."""
    captions = data.captions
    low, middle, high = captions.tokens
    rows = [
        ("tokens", f"{middle} ({low} to {high})", "median (5th to 95th percentile)"),
        ("cut by the context", _share(captions.cut, captions.count), "their end is never seen"),
        ("empty", _share(captions.empty, captions.count), ""),
        ("repeated", _share(captions.repeated, captions.count), "within the sample, by words"),
    ]
    for text, count in captions.most_frequent:
        rows.append(("most frequent", f"{count:,} times", _cut(text)))
    return rows


def model_rows(recipe: Recipe, capacity: Capacity, *, micro_batches: int) -> list[Row]:
    """What the model takes, from a few steps on random pairs."""
    sizes = ", ".join(str(point.pairs) for point in capacity.points)
    measured = f"steps of {sizes} pairs"
    batch = f"a batch of {recipe.batch_size:,} in {micro_batches}"
    seconds = capacity.step_seconds(batch_size=recipe.batch_size, micro_batches=micro_batches)
    rows = [
        ("device", capacity.device, ""),
        ("parameters", f"{capacity.parameters / 1e6:,.1f} M", _trainable(capacity)),
        ("FLOPs of a pair", f"{capacity.flops_per_pair / 1e9:,.2f} G", "counted: 3 x forward"),
        ("seconds per step", _rate(seconds), f"{batch}, extended from {measured}"),
        ("samples/s", _rate(recipe.batch_size / seconds), "one process that never waits"),
    ]
    return rows + list(_memory_rows(recipe, capacity, measured))


def disk_rows(recipe: Recipe, capacity: Capacity) -> list[Row]:
    """What the run leaves on the disk."""
    kept = checkpoints_kept(recipe)
    one = capacity.checkpoint_bytes
    return [
        ("checkpoint", _gb(one), "weights and optimizer as they are after a step"),
        ("checkpoints at once", _gb(kept * one), f"{kept}, one being written among them"),
        ("exported model", _gb(capacity.model_bytes), "float32"),
    ]


def speed_rows(found: Diagnosis) -> list[Row]:
    """The loader, the model, and which of them limits."""
    loader, model = found.loader, found.model_rate
    limit = "the loader" if found.is_loader_limiting else "the model"
    return [
        (
            "loader, images/s",
            _rate(loader.images_per_second),
            f"measured on {loader.images:,}, {loader.workers} workers; the disk's cache is warm",
        ),
        ("model, samples/s", _rate(model), f"as above, in {found.micro_batches} micro-batches"),
        ("which limits", limit, "the lower of the two rates"),
        (
            "hours",
            f"{found.hours:,.1f}",
            f"{found.recipe.steps:,} steps at the slower rate, without evaluations",
        ),
        ("disk free", _gb(found.disk_free), f"the run takes up to {_gb(found.disk_needed)}"),
    ]


def advice_lines(advice: Sequence[Advice]) -> Iterator[Text]:
    """The advice, numbered, the weightiest first."""
    if not advice:
        yield Text("Nothing stands out: go ahead.", style="bold green")
    for number, one in enumerate(advice, start=1):
        yield Text(printable(f"{number}. {one.sentence}"))
        if one.option is not None:
            yield Text(f"   {one.option}", style="bold")


def _memory_rows(recipe: Recipe, capacity: Capacity, measured: str) -> Iterator[Row]:
    plan = capacity.memory
    if plan is None:
        yield "memory", "unknown", "this system does not tell"
        return
    kind = "the allocator's peak" if capacity.is_gpu else "resident in the process"
    peak = plan.peak(batch_size=recipe.batch_size, micro_batches=recipe.micro_batches)
    batch = f"a batch of {recipe.batch_size:,} in {recipe.micro_batches}"
    yield "memory at the peak", _gb(peak), f"{batch}; {kind}, extended from {measured}"
    yield "off by", f"{abs(plan.check):.1%}", "the line against the step in the middle"
    yield "memory there is", _gb(plan.available), "of which a tenth is left free"
    largest = plan.largest_micro_batch(recipe.batch_size)
    needed = plan.micro_batches(recipe.batch_size)
    fits = f"{largest:,} pairs" if largest else "none"
    how = f"micro_batches {needed}" if needed else "not even one pair"
    if not capacity.can_split_batches:
        how = "all of a batch: batch normalisation allows no micro-batches"
    yield "largest micro-batch", fits, how


def _trainable(capacity: Capacity) -> str:
    if capacity.trainable == capacity.parameters:
        return "all trained"
    return f"{capacity.trainable / 1e6:,.1f} M trained"


def _share(count: int, of: int) -> str:
    return f"{count:,} ({count / max(1, of):.1%})"


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _gb(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"


def _mb(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
