"""How much there is to compute in a pair, and how much a GPU could: what MFU is made of.

    MFU = samples/s · 3 · (FLOPs of a forward pass of one pair) / (peak FLOP/s of all devices)

Model FLOPs utilization (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) counts what the model
needs: a backward pass twice its forward pass, a multiplication and an addition as two. What is
computed a second time, for gradient caching or checkpointing, is no use of the device, so a run
with either has a lower MFU at the same speed of the hardware. The loss and heads are left out.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from winnow.models.towers import Towers


class Peak(NamedTuple):
    """Dense peaks of a GPU's matrix products in TFLOP/s, sums in float32, without sparsity."""

    bf16: float | None
    fp16: float
    tf32: float | None
    fp32: float


_PEAKS = {
    # Data sheets of NVIDIA's GPUs, which give twice as much for sparse matrices from A100 on.
    "B200": Peak(bf16=2250, fp16=2250, tf32=1125, fp32=75),  # one of eight in an HGX
    "H200 NVL": Peak(bf16=835.5, fp16=835.5, tf32=417.5, fp32=60),
    "H200": Peak(bf16=989.5, fp16=989.5, tf32=494.5, fp32=67),
    "GH200": Peak(bf16=989.5, fp16=989.5, tf32=494.5, fp32=67),
    "H100 NVL": Peak(bf16=835.5, fp16=835.5, tf32=417.5, fp32=60),
    "H100 PCIE": Peak(bf16=756, fp16=756, tf32=378, fp32=51),
    "H100": Peak(bf16=989.5, fp16=989.5, tf32=494.5, fp32=67),
    "A100": Peak(bf16=312, fp16=312, tf32=156, fp32=19.5),
    "A40": Peak(bf16=149.7, fp16=149.7, tf32=74.8, fp32=37.4),
    "A30": Peak(bf16=165, fp16=165, tf32=82, fp32=10.3),
    "A10": Peak(bf16=125, fp16=125, tf32=62.5, fp32=31.2),
    "L40S": Peak(bf16=362, fp16=362, tf32=183, fp32=91.6),
    "L4": Peak(bf16=121, fp16=121, tf32=60, fp32=30.3),
    "V100 PCIE": Peak(bf16=None, fp16=112, tf32=None, fp32=14),
    "V100": Peak(bf16=None, fp16=125, tf32=None, fp32=15.7),
    "T4": Peak(bf16=None, fp16=65, tf32=None, fp32=8.1),
    # Appendix A of the architectures' white papers (GA102, Ada): sums in float32 run at half speed.
    "RTX 4090": Peak(bf16=165.2, fp16=165.2, tf32=82.6, fp32=82.6),
    "RTX 3090": Peak(bf16=71, fp16=71, tf32=35.6, fp32=35.6),
    # AMD's data sheet.
    "MI300X": Peak(bf16=1307.4, fp16=1307.4, tf32=653.7, fp32=163.4),
}
"""By words of the name that the driver gives; the first row whose words are all there."""

_OTHERS = {"MIG", "LAPTOP", "TI", "D"}
"""Words that make it another GPU than the name says, or a part of one."""


def forward_flops(towers: Towers, tokens: int | None = None) -> float:
    """FLOPs of the forward pass of one pair, counted without computing anything.

    Its caption has `tokens` with its padding; none: as many as the text tower takes. Attention
    counts in full where a mask leaves half of it out, as is usual. The towers may be on the meta
    device; they must not be sharded or compiled yet.
    """
    state = {
        name: _without_data(value)
        for name, value in (*towers.named_parameters(), *towers.named_buffers())
    }
    side, tokens = towers.image_size, tokens or towers.context_length
    # Two pairs: batch statistics of a single one would be refused.
    image_BCHW = torch.empty(2, 3, side, side, dtype=torch.uint8, device="meta")
    text_BT = torch.empty(2, tokens, dtype=torch.int64, device="meta")
    # Fused attention is counted on some devices only.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        functional_call(towers, state, (image_BCHW, text_BT))
    return counter.get_total_flops() / 2


def forward_flops_by_tokens(towers: Towers) -> Callable[[int], float]:
    """The same for every number of tokens: attention makes it a polynomial of the second degree."""
    longest = towers.context_length
    lengths = sorted({max(1, longest // 4), max(1, longest // 2), longest})
    flops = [forward_flops(towers, tokens) for tokens in lengths]
    curve = np.polynomial.Polynomial.fit(lengths, flops, len(lengths) - 1)
    return lambda tokens: float(curve(tokens))


def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOP/s that `device` can do at most at `precision` (fp32, bf16, fp16).

    None for a CPU and for a GPU that the table does not have.
    """
    if device.type != "cuda":
        return None
    return peak_flops_of(torch.cuda.get_device_name(device), precision)


def peak_flops_of(name: str, precision: str) -> float | None:
    """The same for a GPU by its name; fp32 means TF32 where torch may use it."""
    words = set(re.split(r"[^A-Z0-9]+", name.upper()))
    if words & _OTHERS:
        return None
    if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
        precision = "tf32"
    for key, peak in _PEAKS.items():
        if set(key.split()) <= words:
            tera = getattr(peak, precision)
            return None if tera is None else tera * 1e12
    return None


def _without_data(value: Tensor) -> Tensor:
    return torch.empty_like(value, device="meta")
