"""InfoNCE, the loss of CLIP (Radford et al. 2021, section 2.3): the baseline of every comparison.

i2t_i = -s_ii + log Σ_j exp s_ij          t2i_i = -s_ii + log Σ_j exp s_ji
"""

from dataclasses import dataclass

from torch import Tensor

from winnow.objectives.rows import RowLoss, Rows, log_partition, own_pair_diagnostics


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """Each picture picks its caption among all captions of the batch, and the other way round."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        """Nothing is needed of the whole batch."""
        return {}

    def __call__(self, rows: Rows) -> RowLoss:
        """(i2t_i + t2i_i) / 2."""
        image_text_CN, text_image_CN = rows.logits("image", "text"), rows.logits("text", "image")
        image_partition_C = log_partition(image_text_CN, rows.allowed_CN)
        text_partition_C = log_partition(text_image_CN, rows.allowed_CN)
        own_C = rows.own(image_text_CN)
        return RowLoss(
            loss_C=(image_partition_C + text_partition_C) / 2 - own_C,
            diagnostics=own_pair_diagnostics(own_C, image_partition_C, text_partition_C),
        )
