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

Modality = Literal["image", "text"]
DIRECTIONS: tuple[tuple[Modality, Modality], ...] = (("image", "text"), ("text", "image"))
"""Image to text and text to image: (query, key)."""


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """What a rule returns for its block."""

    loss_C: Tensor
    """(i2t_i + t2i_i) / 2 for every pair of the block, differentiable."""
    diagnostics: dict[str, Tensor]
    """Named quantities per pair, each (C,), without gradient."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Embeddings of the batch by another model (an EMA copy, say), unit-norm, without gradient."""

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor
    """Its own exp(logit_scale), a scalar."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known of the batch's pairs beyond their embeddings. Every part is optional."""

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
class Rows:
    """Pairs `start`..`start + C` of a batch of N, and all N columns."""

    image_ND: Tensor
    text_ND: Tensor
    scale: Tensor
    bias: Tensor | None
    teacher: Teacher | None
    start: int
    size: int
    sample_id_N: Tensor
    weight_N: Tensor
    mask_ids_N: tuple[Tensor, ...]
    """Where two pairs agree in any of these ids, neither is a negative of the other."""
    progress: float
    """Share of the training that is done, in [0, 1]."""
    step: int
    seed: int
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
    def sample_id_C(self) -> Tensor:
        """int64 ids of the block's pairs."""
        return self.sample_id_N[self.block]

    @property
    def weight_C(self) -> Tensor:
        """Weights of the block's pairs in the mean."""
        return self.weight_N[self.block]

    @property
    def allowed_CN(self) -> Tensor | None:
        """Columns a row may be compared with, its own included; None where all are allowed."""
        if not self.mask_ids_N:
            return None
        same_CN = torch.stack([ids[self.block, None] == ids for ids in self.mask_ids_N]).any(0)
        return ~same_CN.scatter(1, self.positive_index_C[:, None], False)

    def logits(self, query: Modality, key: Modality, *, teacher: bool = False) -> Tensor:
        """(C, N) logits of the block's `query` embeddings against all `key` embeddings.

        With `teacher`, the teacher's logits, without gradient; without a separate teacher the
        model is its own.
        """
        if teacher and self.teacher is not None:
            sides = {"image": self.teacher.image_BD, "text": self.teacher.text_BD}
            return self.teacher.scale * (sides[query][self.block] @ sides[key].T)
        logits_CN = self._student_logits(query, key)
        return logits_CN.detach() if teacher else logits_CN

    def own(self, logits_CN: Tensor) -> Tensor:
        """(C,) the entries of the rows' own pairs."""
        return logits_CN.gather(1, self.positive_index_C[:, None]).squeeze(1)

    def with_statistics(self, statistics_N: Mapping[str, Tensor]) -> "Rows":
        """The same rows, logits already computed included, after the first pass."""
        return replace(self, statistics_N=statistics_N)

    def _student_logits(self, query: Modality, key: Modality) -> Tensor:
        if (query, key) in self.cache:
            return self.cache[query, key]
        whole_batch = self.size == len(self.image_ND)
        if whole_batch and query != key and (key, query) in self.cache:
            return self.cache[key, query].T
        sides = {"image": self.image_ND, "text": self.text_ND}
        # `prepare` runs without gradients, yet in a dense pass the loss reuses these logits.
        with torch.enable_grad():
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


def log_partition(logits_CN: Tensor, allowed_CN: Tensor | None) -> Tensor:
    """(C,) log Σ_j exp(logits) over the allowed columns."""
    if allowed_CN is not None:
        logits_CN = logits_CN.masked_fill(~allowed_CN, -torch.inf)
    return logits_CN.logsumexp(1)


def own_pair_diagnostics(
    own_logit_C: Tensor, image_partition_C: Tensor, text_partition_C: Tensor
) -> dict[str, Tensor]:
    """How much each pair is believed: the softmax probability of the own pair, both ways."""
    return {
        "own_probability_image_to_text": (own_logit_C - image_partition_C).detach().exp(),
        "own_probability_text_to_image": (own_logit_C - text_partition_C).detach().exp(),
    }
