"""What a rule sees: a block of C pairs of the batch, each against all N columns.

    s_ij = scale · x_i·t_j + bias        (x image, t text, both unit-norm)

A rule reads the rows it needs through `Rows.logits` and returns one loss per pair of the block. It
knows nothing of blocks, ranks, devices or gradients: the engine sees to those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from winnow.distributed import all_gather
from winnow.objectives.exponentials import softplus
from winnow.objectives.pairs import MASKED, Pairs

Modality = Literal["image", "text"]
DIRECTIONS: tuple[tuple[Modality, Modality], ...] = (("image", "text"), ("text", "image"))
"""Image to text and text to image: (query, key)."""
DIRECTION_NAMES = tuple(f"{query}_to_{key}" for query, key in DIRECTIONS)


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """What a rule returns for its block."""

    loss_C: Tensor
    """(i2t_i + t2i_i) / 2 for every pair of the block, differentiable."""
    diagnostics: dict[str, Tensor]
    """Named quantities per pair, each (C,), without gradient."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Embeddings of a rank's pairs by another model (an EMA copy, say), unit-norm, no gradient."""

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor
    """Its own exp(logit_scale), one element."""


def gather_teacher(teacher: Teacher) -> Teacher:
    """The teacher's embeddings of the pairs of all ranks."""
    return Teacher(
        image_BD=all_gather(teacher.image_BD),
        text_BD=all_gather(teacher.text_BD),
        scale=teacher.scale,
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Pairs `start`..`start + C` of a batch of N, and all N columns."""

    image_ND: Tensor
    text_ND: Tensor
    scale: Tensor
    bias: Tensor | None
    teacher: Teacher | None
    """Of the whole batch."""
    pairs: Pairs
    start: int
    size: int
    statistics_N: Mapping[str, Tensor] = field(default_factory=dict)
    """What `Rule.prepare` found, for the whole batch."""
    cache: dict[tuple[Modality, Modality], Tensor] = field(default_factory=dict)

    @property
    def block(self) -> slice:
        """The block's place in the batch."""
        return slice(self.start, self.start + self.size)

    @property
    def positive_index_C(self) -> Tensor:
        """Column of each row's own pair, int64."""
        return torch.arange(self.start, self.start + self.size, device=self.image_ND.device)

    @property
    def weight_C(self) -> Tensor:
        """Weights of the block's pairs in the mean."""
        return self.pairs.weight_N[self.block]

    @property
    def forbidden_CN(self) -> Tensor:
        """Columns that are no negatives of a row; its own pair is one."""
        forbidden_CN = self.pairs.forbidden(self.block, slice(0, len(self.pairs)))
        assert forbidden_CN is not None, "a block holds its own pairs"
        return forbidden_CN

    def logits(self, query: Modality, key: Modality, *, teacher: bool = False) -> Tensor:
        """(C, N) logits of the block's `query` embeddings against all `key` embeddings.

        With `teacher`, the teacher's logits, without gradient; without a separate teacher the
        model is its own.
        """
        if teacher and self.teacher is not None:
            sides = {"image": self.teacher.image_BD, "text": self.teacher.text_BD}
            return self.teacher.scale * (sides[query][self.block] @ sides[key].T)
        logits_CN = self._model_logits(query, key)
        return logits_CN.detach() if teacher else logits_CN

    def own(self, logits_CN: Tensor) -> Tensor:
        """(C,) the entries of the rows' own pairs."""
        return logits_CN.gather(1, self.positive_index_C[:, None]).squeeze(1)

    def negatives(self, logits_CN: Tensor) -> Tensor:
        """(C, N) the same logits, those that are no negatives out of the way."""
        return logits_CN.masked_fill(self.forbidden_CN, MASKED)

    def with_statistics(self, statistics_N: Mapping[str, Tensor]) -> "Rows":
        """The same rows after the first pass."""
        return replace(self, statistics_N=statistics_N)

    def _model_logits(self, query: Modality, key: Modality) -> Tensor:
        if (query, key) in self.cache:
            return self.cache[query, key]
        whole_batch = self.size == len(self.image_ND)
        if whole_batch and query != key and (key, query) in self.cache:
            return self.cache[key, query].T
        sides = {"image": self.image_ND, "text": self.text_ND}
        logits_CN = self.scale * (sides[query][self.block] @ sides[key].T)
        if self.bias is not None:
            logits_CN = logits_CN + self.bias
        self.cache[query, key] = logits_CN
        return logits_CN


class Rule(Protocol):
    """One objective: a frozen dataclass of its hyper-parameters, callable on a block of rows."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Per-pair statistics (C,) that the loss needs of the whole batch; mostly none.

        Runs without gradient over all blocks before the first loss.
        """
        ...

    def __call__(self, rows: Rows) -> RowLoss:
        """The loss of each pair of the block."""
        ...


def own_pair_costs(rows: Rows) -> list[Tensor]:
    """(C,) log Σ_j exp s_ij - s_ii over own pair and negatives, for both directions."""
    found = []
    for direction in DIRECTIONS:
        logits_CN = rows.logits(*direction)
        found.append(softplus(rows.negatives(logits_CN).logsumexp(1) - rows.own(logits_CN)))
    return found


@torch.no_grad()
def own_pair_diagnostics(rows: Rows) -> dict[str, Tensor]:
    """How much each pair is believed, both ways: probability, margin, whether it ranks first."""
    found = {}
    for direction, name in zip(DIRECTIONS, DIRECTION_NAMES, strict=True):
        logits_CN = rows.logits(*direction)
        own_C, negative_CN = rows.own(logits_CN), rows.negatives(logits_CN)
        largest_C = negative_CN.amax(1)
        found[f"own_probability_{name}"] = (own_C - negative_CN.logsumexp(1)).sigmoid()
        found[f"margin_{name}"] = margin(own_C, largest_C)
        found[f"rank_1_{name}"] = ranks_first(own_C, largest_C, rows.scale)
    return found


def margin(own_N: Tensor, largest_N: Tensor) -> Tensor:
    """How far the own pair's logit is above the largest negative's; NaN without negatives."""
    return torch.where(largest_N > MASKED / 2, own_N - largest_N, torch.nan)


def ranks_first(own_N: Tensor, largest_N: Tensor, scale: Tensor) -> Tensor:
    """1 where the own pair beats every negative, else 0; a tie, up to rounding, is a miss."""
    rounding = 4 * torch.finfo(own_N.dtype).eps * scale
    return (own_N - largest_N > rounding).to(own_N.dtype)
