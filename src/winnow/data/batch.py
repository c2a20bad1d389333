"""What the loader yields: the pairs of one step, as tensors."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import torch

from winnow.data.concept_targets import SparseTargets


class Batch(NamedTuple):
    """One rank's pairs of one step."""

    image_BCHW: torch.Tensor
    """uint8, RGB."""
    text_BT: torch.Tensor
    """int64 tokens; T is as long as the longest caption needs, where the tokenizer cuts padding."""
    id_B: torch.Tensor
    """int64: the first 16 hex digits of the uid, as two's complement."""
    row_B: torch.Tensor
    """int64 row of the selection, or of the mixture."""
    caption_id_B: torch.Tensor
    """int64; two are equal where the tokens of the captions are."""
    image_id_B: torch.Tensor | None
    """int64; two are equal where the bytes of the pictures are. None where it was not asked for."""
    targets: dict[str, SparseTargets] | None = None
    """A teacher's concepts in the pictures, by head. None where there is no teacher."""
    epoch_B: torch.Tensor | None = None
    """int64: how often the pair's source had been through before. The loader always says."""
    source_B: torch.Tensor | None = None
    """int64: which of the mixture's sources it is of, 0 in a selection. The loader always says."""

    weight_B: torch.Tensor | None = None
    """float32: how much each pair counts in the loss. None where all count alike."""

    def to(self, device: torch.device) -> "Batch":
        """The same pairs on `device`."""
        tensors = {n: part for n, part in self._asdict().items() if isinstance(part, torch.Tensor)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return self._replace(
            **moved, targets=self._targets(lambda t: t.to(device, non_blocking=True))
        )

    def targets_of(self, part: slice) -> dict[str, SparseTargets] | None:
        """The targets of some of the pairs."""
        return self._targets(lambda tensor: tensor[part])

    def _targets(
        self, each: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, SparseTargets] | None:
        if self.targets is None:
            return None
        return {
            head: SparseTargets(each(own.index_BK), each(own.mass_BK))
            for head, own in self.targets.items()
        }


def content_id(data: bytes) -> int:
    """The first 8 bytes of the sha256, as a signed number."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def caption_ids(text_BT: torch.Tensor) -> torch.Tensor:
    """int64 (B,): an id of each caption.

    Of its tokens and not of its letters: captions that differ in case, or past where they are cut,
    are one and the same to the text tower. Padding with zeros changes none.
    """
    rows = (row.tobytes().rstrip(b"\0") for row in text_BT.numpy())
    return torch.tensor([content_id(tokens) for tokens in rows])
