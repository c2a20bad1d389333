"""Real training steps on random pairs: that a recipe runs, its steps' time and memory.

What the pairs are does not change the work of a step, so none are read.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from winnow.data.concept_targets import SparseTargets
from winnow.data.loader import Batch
from winnow.models.towers import unwrapped
from winnow.objectives import Context, contrastive_loss
from winnow.training.assembly import Assembly
from winnow.training.memory_limits import peak_bytes, reset_peak
from winnow.training.norms import UpdateNorm
from winnow.training.parallel import autocast
from winnow.training.recipe import Recipe
from winnow.training.step import training_step

_QUICK_SECONDS = 1.0
_CONCEPTS = 16  # a teacher names in a picture
_END = 49_407  # the token that ends a caption


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured step."""

    pairs: int
    seconds: float
    memory: int | None
    """Bytes at the step's peak: the allocator's on a GPU, else resident in this process. None
    where the system does not tell."""


@dataclass(frozen=True)
class Trial:
    """Steps of what was assembled."""

    assembly: Assembly
    recipe: Recipe
    concept_sizes: Mapping[str, int]

    def step(self, batch: Batch) -> None:
        """Train on a batch, in one micro-batch. Raises NonFiniteError."""
        recipe, assembly = self.recipe, self.assembly
        training_step(
            assembly.towers,
            assembly.optimizer,
            batch,
            rule=recipe.objective,
            mask=recipe.mask,
            step=0,
            progress=0.5,
            seed=recipe.seed,
            micro_batches=1,
            max_gradient_norm=recipe.optimizer.max_gradient_norm,
            precision=autocast(recipe.precision, assembly.device),
            teacher=assembly.average if recipe.teacher == "average" else None,
            loss_scale=assembly.loss_scale,
        )

    def point(self, pairs: int) -> Point:
        """The quickest of three steps, or one step where that takes long.

        The memory is that of steps which are logged, the most that a run takes.
        """
        device, batch = self.assembly.device, self.batch(pairs)
        if device.type == "cuda" or self.recipe.runtime.compile:
            self.step(batch)  # kernels are chosen, or compiled, for every new shape
        reset_peak(device)
        norm = UpdateNorm(self.assembly.towers)  # as around a step that is logged
        seconds = _quickest(lambda: self.step(batch), device)
        norm.row()
        return Point(pairs=pairs, seconds=seconds, memory=peak_bytes(device))

    def loss_seconds(self, pairs: int) -> float:
        """Of the loss and its gradient on random embeddings."""
        towers, device = unwrapped(self.assembly.towers), self.assembly.device
        shape = (pairs, towers.config["embed_dim"])
        image_BD, text_BD = (
            torch.nn.functional.normalize(torch.randn(shape, device=device)).requires_grad_()
            for _ in range(2)
        )
        scale = torch.tensor([10.0], device=device, requires_grad=True)
        bias = None if towers.clip.logit_bias is None else torch.zeros(1, device=device)
        context = Context(sample_id_B=torch.arange(pairs, device=device), seed=self.recipe.seed)

        def once() -> None:
            rule = self.recipe.objective
            loss = contrastive_loss(
                rule, image_BD, text_BD, scale, bias=bias, context=context, progress=0.5, step=0
            )
            loss.total.backward()

        return _quickest(once, device)

    def batch(self, pairs: int) -> Batch:
        """Random pictures and tokens of different pairs; captions fill the context."""
        towers = unwrapped(self.assembly.towers)
        size, ids = towers.image_size, torch.arange(pairs)
        random = torch.Generator().manual_seed(0)
        shape = (pairs, 3, size, size)
        text_BT = torch.randint(1, _END, (pairs, towers.context_length), generator=random)
        text_BT[:, -1] = _END
        return Batch(
            image_BCHW=torch.randint(0, 256, shape, dtype=torch.uint8, generator=random),
            text_BT=text_BT,
            id_B=ids,
            row_B=ids,
            caption_id_B=ids,
            image_id_B=ids,
            targets=self._targets(pairs, random) if self.concept_sizes else None,
        ).to(self.assembly.device)

    def _targets(self, pairs: int, random: torch.Generator) -> dict[str, SparseTargets]:
        return {
            head: SparseTargets(
                torch.randint(0, size, (pairs, min(_CONCEPTS, size)), generator=random),
                torch.full((pairs, min(_CONCEPTS, size)), 1 / min(_CONCEPTS, size)),
            )
            for head, size in self.concept_sizes.items()
        }


def _quickest(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the quickest of three rounds, or of the only one where that takes long."""
    seconds = _timed(work, device)
    if seconds > _QUICK_SECONDS:
        return seconds
    return min(seconds, _timed(work, device), _timed(work, device))


def _timed(work: Callable[[], None], device: torch.device) -> float:
    _settle(device)
    began = time.perf_counter()
    work()
    _settle(device)
    return time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
