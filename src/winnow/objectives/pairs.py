"""What is known of the pairs of a batch beyond their embeddings, and which are no negatives."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from winnow.distributed import all_gather, world
from winnow.types import InputError

MASKED = -1e30
"""The logit of a column that is no negative. Finite, so that no difference of two is undefined;
far enough below any logit that its exponential is 0, also after a multiplication by β."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known of a rank's pairs beyond their embeddings. Every part is optional."""

    sample_id_B: Tensor | None = None
    """int64; makes every per-sample choice survive permutation and resume. Default: position."""
    weight_B: Tensor | None = None
    """Non-negative weight of each pair in the mean. Default: 1."""
    caption_id_B: Tensor | None = None
    """int64; pairs whose ids agree are not negatives of each other."""
    image_id_B: Tensor | None = None
    """int64; likewise for the pictures."""
    seed: int = 0
    """Seeds the per-sample choices."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The global batch without its embeddings: the same on every rank."""

    sample_id_N: Tensor
    """int64."""
    weight_N: Tensor
    """Weight of each pair in the mean."""
    mask_ids_N: tuple[Tensor, ...]
    """Where two pairs agree in any of these ids, neither is a negative of the other."""
    progress: float
    """Share of the training that is done, in [0, 1]."""
    step: int
    seed: int
    own: slice
    """This rank's pairs."""

    def __len__(self) -> int:
        return len(self.sample_id_N)

    @cached_property
    def negatives_N(self) -> Tensor:
        """How many negatives each pair has: N - 1 where nothing is masked. In weight's dtype."""
        count_N = torch.full_like(self.weight_N, len(self))
        # Groups are numbered below N, so that two numbers make one.
        groups = [ids_N.unique(return_inverse=True)[1] for ids_N in self.mask_ids_N]
        for which, sign in _subsets(len(groups)):
            together_N = torch.zeros_like(self.sample_id_N)
            for k in which:
                together_N = together_N * len(self) + groups[k]
            _, group_N, size_K = together_N.unique(return_inverse=True, return_counts=True)
            count_N += sign * size_K[group_N]
        return count_N if self.mask_ids_N else count_N - 1

    def forbidden(self, rows: slice, columns: slice) -> Tensor | None:
        """(R, C) the columns that are no negatives of a row, its own among them; None for none."""
        forbidden_RC = None
        if rows.start < columns.stop and columns.start < rows.stop:
            device = self.sample_id_N.device
            row_R = torch.arange(rows.start, rows.stop, device=device)
            column_C = torch.arange(columns.start, columns.stop, device=device)
            forbidden_RC = row_R[:, None] == column_C
        for ids_N in self.mask_ids_N:
            same_RC = ids_N[rows, None] == ids_N[columns]
            forbidden_RC = same_RC if forbidden_RC is None else forbidden_RC | same_RC
        return forbidden_RC


def gather_pairs(
    context: Context, *, count: int, like: Tensor, progress: float, step: int
) -> Pairs:
    """The global batch of which every rank holds `count` pairs; `like` gives device and dtype."""
    start = world().rank * count
    positions = torch.arange(start, start + count, device=like.device)
    sample_id_B = positions if context.sample_id_B is None else context.sample_id_B
    masks = (context.caption_id_B, context.image_id_B)
    return Pairs(
        sample_id_N=all_gather(sample_id_B.to(like.device)),
        weight_N=_weights(context.weight_B, count, like),
        mask_ids_N=tuple(all_gather(ids_B.to(like.device)) for ids_B in masks if ids_B is not None),
        progress=progress,
        step=step,
        seed=context.seed,
        own=slice(start, start + count),
    )


def _weights(weight_B: Tensor | None, count: int, like: Tensor) -> Tensor:
    """(N,) the pairs' weights. Raises InputError, on every rank, where they make no mean."""
    if weight_B is None:
        return like.new_ones(world().size * count)
    weight_N = all_gather(weight_B.to(like.device, like.dtype))
    if not (weight_N.min() >= 0 and weight_N.sum() > 0):
        raise InputError(
            f"weight_B of the context goes from {weight_N.min().item():g} to "
            f"{weight_N.max().item():g}; weights must be at least 0, and one of them above 0"
        )
    return weight_N


def _subsets(count: int) -> list[tuple[tuple[int, ...], int]]:
    """Signed non-empty subsets of the masks: N minus their union, by inclusion and exclusion."""
    subsets = []
    for bits in range(1, 1 << count):
        which = tuple(k for k in range(count) if bits >> k & 1)
        subsets.append((which, -1 if len(which) % 2 else 1))
    return subsets
