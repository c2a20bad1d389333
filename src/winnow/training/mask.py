"""The mask: which pairs of a batch are no negatives of each other.

Another pair with the same caption or the same picture is a right answer, and a loss that takes it
for a wrong one pushes apart what belongs together. What is masked leaves every sum of the rule
(`objectives/pairs.py: Pairs.forbidden`).
"""

from dataclasses import dataclass

from winnow.data.batch import Batch
from winnow.objectives import Context


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Which pairs of a batch are no negatives of each other; as it stands, all are negatives."""

    same_caption: bool = False
    """Leave out pairs whose captions are the same tokens."""
    same_image: bool = False
    """Leave out pairs whose pictures are the same file, byte for byte."""

    def context(self, batch: Batch, *, seed: int) -> Context:
        """What the engine is told of a batch's pairs beyond their embeddings."""
        assert batch.image_id_B is not None or not self.same_image, "the loader was asked for them"
        return Context(
            sample_id_B=batch.id_B,
            weight_B=batch.weight_B,
            caption_id_B=batch.caption_id_B if self.same_caption else None,
            image_id_B=batch.image_id_B if self.same_image else None,
            seed=seed,
        )
