"""How fast a recipe trains on this machine, and how much memory it takes: measured, then extended.

Real steps run on random pairs at three small micro-batches. With m pairs in a micro-batch, N in the
batch and k micro-batches,

    memory(m)  = a + b m + N c            time = t_0 + N t_1 g + L (N / n)^2

a is what stands in memory whatever the batch, b what a pair's activations take: a line through the
smallest and the largest micro-batch, and the one between says how far off the line is. c is what a
pair of a batch in several micro-batches keeps besides, its picture, tokens and ten rows of the
embedding, and is counted, not measured. g is 1, and 4/3 where there are micro-batches: each is
embedded a second time. L is the time of the loss alone on n random embeddings.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from winnow.models.locking import lock
from winnow.models.towers import Towers, unwrapped
from winnow.training.assembly import assemble, build_towers
from winnow.training.flops import forward_flops
from winnow.training.memory_limits import available_bytes
from winnow.training.parallel import has_batch_statistics
from winnow.training.recipe import Recipe
from winnow.training.trial import Point, Trial
from winnow.types import InputError

SPARE = 0.1
"""Share of the memory that a plan leaves free: fragments, the loader's buffers, what was missed."""

_FLOPS_OF_LARGEST = {"cpu": 3e11, "cuda": 2e15}  # of a measured step: seconds, on either
_LARGEST = 256
_COPIES = 3  # of what is trained: gradient, at least one mean of it, and UpdateNorm's
_ROWS_KEPT = 10  # embeddings, unit ones, leaves, and their gradients, of pictures and captions
_LOSS_PAIRS = 2048


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Whether a batch fits, and how it would. Bytes, extended from small micro-batches."""

    standing: float
    """Weights, gradients, optimizer, the copy of weights that a logged step is measured by, and on
    a CPU the process itself: a."""
    per_pair: float
    """Of a micro-batch: b."""
    per_kept_pair: float
    """Of a batch in several micro-batches: c."""
    check: float
    """By how much the line misses the measured step between its ends, as a share of that."""
    available: int
    """Bytes that this process could use."""

    def peak(self, *, batch_size: int, micro_batches: int) -> float:
        """Bytes that a step takes."""
        pairs = math.ceil(batch_size / micro_batches)
        kept = batch_size * self.per_kept_pair if micro_batches > 1 else 0.0
        return self.standing + pairs * self.per_pair + kept

    def fits(self, *, batch_size: int, micro_batches: int) -> bool:
        """Whether a step leaves SPARE of the memory free."""
        peak = self.peak(batch_size=batch_size, micro_batches=micro_batches)
        return peak <= (1 - SPARE) * self.available

    def largest_micro_batch(self, batch_size: int) -> int:
        """The most pairs of a batch that can be embedded at once; 0 where not even one can."""
        if self.fits(batch_size=batch_size, micro_batches=1):
            return batch_size
        room = (1 - SPARE) * self.available - self.standing - batch_size * self.per_kept_pair
        return max(0, min(batch_size, int(room / max(self.per_pair, 1.0))))

    def micro_batches(self, batch_size: int) -> int | None:
        """How many it takes at least; None where no number would do."""
        largest = self.largest_micro_batch(batch_size)
        return math.ceil(batch_size / largest) if largest else None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a recipe takes on this machine, in one process."""

    device: str
    """Its name, as its maker has it."""
    is_gpu: bool
    parameters: int
    """All of them, heads too."""
    trainable: int
    flops_per_pair: float
    """Floating-point operations of one pair in a training step: three times those of a forward
    pass."""
    points: tuple[Point, ...]
    """As measured, the smallest micro-batch first."""
    seconds_standing: float
    """Of a step, whatever its batch: t_0."""
    seconds_per_pair: float
    """t_1."""
    loss_seconds: float
    """Of the loss alone on `loss_pairs`: L."""
    loss_pairs: int
    memory: MemoryPlan | None
    """None where the system does not tell how much a process takes."""
    can_split_batches: bool
    """Whether micro-batches are allowed: batch normalisation would see only its own."""
    checkpoint_bytes: int
    """Weights, optimizer, and their average where there is one."""
    model_bytes: int
    """Of the exported model, which has no heads: float32."""

    def step_seconds(self, *, batch_size: int, micro_batches: int) -> float:
        """Of one step."""
        passes = 4 / 3 if micro_batches > 1 else 1.0
        loss = self.loss_seconds * (batch_size / self.loss_pairs) ** 2
        return self.seconds_standing + batch_size * self.seconds_per_pair * passes + loss

    def samples_per_second(self, *, batch_size: int, micro_batches: int) -> float:
        """Of one process that never waits for data."""
        return batch_size / self.step_seconds(batch_size=batch_size, micro_batches=micro_batches)


def measure_capacity(
    recipe: Recipe,
    *,
    device: torch.device,
    concept_sizes: Mapping[str, int] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Capacity:
    """Build what the recipe trains on `device` and run a few small steps on random pairs.

    `concept_sizes` are a teacher's vocabularies, by head, for a recipe that distils them; `advance`
    is told of every step, of which there are STEPS. Raises InputError as `assemble` does, and where
    the smallest of these steps does not fit in memory; and NonFiniteError.
    """
    refuse_hopeless(recipe, concept_sizes, available=available_bytes(device))
    with _told_of_memory():
        return _measured(recipe, device=device, concept_sizes=concept_sizes, advance=advance)


def _measured(
    recipe: Recipe,
    *,
    device: torch.device,
    concept_sizes: Mapping[str, int] | None,
    advance: Callable[[int], None],
) -> Capacity:
    flops = training_flops(recipe)
    assembly = assemble(recipe, device=device, concept_sizes=concept_sizes)
    towers = unwrapped(assembly.towers)
    sizes = micro_sizes(flops, batch_size=recipe.batch_size, kind=device.type)
    run = Trial(assembly, recipe, concept_sizes or {})
    run.step(run.batch(sizes[0]))  # the optimizer's state, and what a device does only once
    advance(1)
    points = []
    for size in sizes:
        points.append(run.point(size))
        advance(1)
    loss_pairs = min(recipe.batch_size, _LOSS_PAIRS)
    loss_seconds = run.loss_seconds(loss_pairs)
    advance(1)
    fixed, per_pair = line([point.pairs for point in points], [point.seconds for point in points])
    parameters = list(towers.parameters())
    return Capacity(
        device=device_name(device),
        is_gpu=device.type == "cuda",
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        flops_per_pair=flops,
        points=tuple(points),
        seconds_standing=fixed,
        seconds_per_pair=per_pair,
        loss_seconds=loss_seconds,
        loss_pairs=loss_pairs,
        memory=plan_memory(points, kept_bytes(towers), available=available_bytes(device)),
        can_split_batches=not has_batch_statistics(towers),
        checkpoint_bytes=_bytes_of(assembly.state()),
        model_bytes=_bytes_of(towers.clip.state_dict()),
    )


def refuse_hopeless(
    recipe: Recipe, concept_sizes: Mapping[str, int] | None, *, available: int
) -> None:
    """Raise InputError where what stands in memory does not fit, whatever the batch.

    Said beforehand, since a system may end a process that asks for too much without a word.
    """
    with torch.device("meta"):
        towers = build_towers(recipe, concept_sizes)
    lock(towers, recipe.fine_tuning)
    parameters = list(towers.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    least = 4 * (sum(p.numel() for p in parameters) + _COPIES * sum(p.numel() for p in trained))
    if least > available:
        count = sum(p.numel() for p in parameters)
        raise InputError(
            f"the model's {count / 1e6:,.0f} million parameters take at least {least / 1e9:,.1f} "
            "GB with their gradients and what the optimizer keeps, and "
            f"{available / 1e9:,.1f} GB are free: take a smaller --model, lock a tower, or share "
            "the weights among GPUs (torchrun, --runtime.parallel fsdp)"
        )


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Turn what torch says where memory is out into an InputError."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).rpartition("err == 0. ")[2].partition(". ")[0]
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in words):
            raise
        raise InputError(
            f"not even a small step fits in memory ({words}): take a smaller --model, lock a "
            "tower, or share the weights among GPUs (torchrun, --runtime.parallel fsdp)"
        ) from error


STEPS = 5
"""How often `measure_capacity` reports progress, at most."""


def training_flops(recipe: Recipe) -> float:
    """Floating-point operations of one pair in a training step, counted, not measured.

    Three times those of a forward pass through both towers: a backward pass takes two. What is
    computed again in micro-batches or for gradient checkpointing, the loss and heads are left out.
    """
    with torch.device("meta"):
        return 3 * forward_flops(Towers(recipe.model))


def micro_sizes(flops_per_pair: float, *, batch_size: int, kind: str) -> tuple[int, ...]:
    """Micro-batches to measure: one, twice and four times as many pairs; fewer in a small batch."""
    budget = _FLOPS_OF_LARGEST.get(kind, _FLOPS_OF_LARGEST["cpu"])
    largest = min(_LARGEST, batch_size, max(4, int(budget / flops_per_pair)))
    smallest = max(1, largest // 4)
    return tuple(sorted({min(batch_size, smallest * factor) for factor in (1, 2, 4)}))


def line(at: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Value at 0 and slope of the line through the first point and the last.

    Neither is below 0: where noise says so, all is put down to the slope.
    """
    run, rise = at[-1] - at[0], values[-1] - values[0]
    slope = rise / run if run else values[-1] / at[-1]
    start = values[0] - slope * at[0]
    return (start, slope) if slope > 0 and start >= 0 else (0.0, values[-1] / at[-1])


def plan_memory(
    points: Sequence[Point], per_kept_pair: float, *, available: int
) -> MemoryPlan | None:
    """The plan that measured steps lead to; None where one of them has no memory."""
    peaks = [point.memory for point in points if point.memory is not None]
    if len(peaks) < len(points):
        return None
    # Unlike time, memory has a large part that stands, also where noise bends the line.
    run = points[-1].pairs - points[0].pairs
    slope = max(0.0, (peaks[-1] - peaks[0]) / run) if run else 0.0
    standing = peaks[0] - slope * points[0].pairs
    middle = len(points) // 2
    expected = standing + slope * points[middle].pairs
    return MemoryPlan(
        standing=standing,
        per_pair=slope,
        per_kept_pair=per_kept_pair,
        check=(expected - peaks[middle]) / peaks[middle],
        available=available,
    )


def kept_bytes(towers: Towers) -> float:
    """What a pair keeps in memory while other micro-batches are embedded: c."""
    picture = 3 * towers.image_size**2
    tokens = 8 * towers.context_length
    return picture + tokens + _ROWS_KEPT * 4 * towers.config["embed_dim"]


def device_name(device: torch.device) -> str:
    """What the device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _bytes_of(state: Any) -> int:
    """All tensors of nested dicts and lists."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_bytes_of, state.values()))
    return sum(map(_bytes_of, state)) if isinstance(state, list | tuple) else 0
