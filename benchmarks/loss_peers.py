"""What `losses.py` compares: winnow's rules, open_clip's losses and, on CUDA, two fused ones.

All take the same inputs: unit-norm random features that require gradient and a learnable scale;
float32 on a CPU, bfloat16 on CUDA, where the logits of open_clip are bfloat16 then too. The fused
ones, inf-cl 1.2.1 and memeff 0.3.1, are taken where they are installed. A run is forward and
backward of the loss alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import get_args

import torch
from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import normalize

from winnow.objectives import (
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    Rule,
    SigLIP,
)
from winnow.objectives.engine import Execution, contrastive_loss

WIDTH = 512
TEMPERATURE = 0.07
SOFT = ProgressiveSelfDistillation(initial_share=0.2)
RULES: dict[str, Rule] = {
    "InfoNCE": InfoNCE(),
    "HN-NCE": HardNegativeNCE(),
    "PSD": SOFT,
    "HN-PSD": HardNegativeSelfDistillation(negatives=HardNegativeNCE(), targets=SOFT),
    "SigLIP": SigLIP(),
}
WITH_BIAS = {"SigLIP"}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Leaves that every peer differentiates."""

    image_BD: Tensor
    text_BD: Tensor
    log_scale: Tensor
    bias: Tensor

    @property
    def scale(self) -> Tensor:
        """exp(log_scale), a scalar."""
        return self.log_scale.exp()


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One loss in the comparison."""

    loss: Callable[[Inputs], Tensor]
    memory_power: int
    """Power of N that its memory grows with."""


def device() -> torch.device:
    """CUDA if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_inputs(count: int) -> Inputs:
    """`count` pairs, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    image_BD, text_BD = (
        normalize(torch.randn(count, WIDTH, generator=generator), dim=1)
        .to(device(), dtype)
        .requires_grad_()
        for _ in range(2)
    )
    log_scale = torch.tensor(1 / TEMPERATURE, device=device()).log().requires_grad_()
    bias = torch.tensor(-10.0, device=device(), requires_grad=True)
    return Inputs(image_BD=image_BD, text_BD=text_BD, log_scale=log_scale, bias=bias)


def run(peer: Peer, inputs: Inputs) -> None:
    """Forward and backward, to the end also where the device works by itself."""
    for leaf in (inputs.image_BD, inputs.text_BD, inputs.log_scale, inputs.bias):
        leaf.grad = None
    peer.loss(inputs).backward()
    if device().type == "cuda":
        torch.cuda.synchronize()


def all_peers() -> dict[str, Peer]:
    """Every peer that can run here, winnow's in every execution."""
    return winnow_peers(get_args(Execution)) | other_peers()


def winnow_peers(executions: Iterable[Execution]) -> dict[str, Peer]:
    """Each rule in each execution that knows it, by `winnow_name`."""
    return {
        winnow_name(rule, execution): Peer(
            loss=partial(winnow_loss, rule, execution),
            memory_power=2 if execution == "dense" else 1,
        )
        for execution in executions
        for rule in RULES
        if (rule, execution) != ("SigLIP", "triton")
    }


def winnow_name(rule: str, execution: Execution) -> str:
    """How a rule in an execution is called in every table."""
    return f"{rule} ({execution})"


def other_peers() -> dict[str, Peer]:
    """open_clip's losses, and the fused ones that are installed where there is CUDA."""
    peers = {
        "ClipLoss": Peer(loss=clip_loss, memory_power=2),
        "DistillClipLoss": Peer(loss=distill_clip_loss, memory_power=2),
        "SigLipLoss": Peer(loss=siglip_loss, memory_power=2),
    }
    if device().type == "cuda" and find_spec("inf_cl"):
        peers["inf-cl"] = Peer(loss=inf_cl_loss, memory_power=1)
    if device().type == "cuda" and find_spec("memeff"):
        peers["memeff"] = Peer(loss=memeff_loss, memory_power=1)
    return peers


def winnow_loss(rule: str, execution: Execution, inputs: Inputs) -> Tensor:
    """Winnow's engine on one of its rules."""
    return contrastive_loss(
        RULES[rule],
        inputs.image_BD,
        inputs.text_BD,
        inputs.scale,
        bias=inputs.bias if rule in WITH_BIAS else None,
        execution=execution,
    ).total


def clip_loss(inputs: Inputs) -> Tensor:
    """open_clip's InfoNCE."""
    return ClipLoss()(inputs.image_BD, inputs.text_BD, inputs.scale)


def distill_clip_loss(inputs: Inputs) -> Tensor:
    """open_clip's soft targets, from the model itself: the nearest it has to PSD."""
    scale = inputs.scale
    teacher = (tensor.detach() for tensor in (inputs.image_BD, inputs.text_BD, scale))
    contrastive, distillation = DistillClipLoss()(inputs.image_BD, inputs.text_BD, scale, *teacher)
    return contrastive + distillation


def siglip_loss(inputs: Inputs) -> Tensor:
    """open_clip's sigmoid loss."""
    return SigLipLoss()(inputs.image_BD, inputs.text_BD, inputs.scale, inputs.bias)


def inf_cl_loss(inputs: Inputs) -> Tensor:
    """Inf-CL's kernels (inf-cl on PyPI), which convert features to float32.

    Without a process group `cal_inf_loss` ends in this same function, but its scale cannot be
    differentiated there.
    """
    from inf_cl import cal_flash_loss

    image_to_text_B = cal_flash_loss(inputs.image_BD, inputs.text_BD, scale=inputs.scale)
    text_to_image_B = cal_flash_loss(inputs.text_BD, inputs.image_BD, scale=inputs.scale)
    return (image_to_text_B.mean() + text_to_image_B.mean()) / 2


def memeff_loss(inputs: Inputs) -> Tensor:
    """memeff's kernels (PyPI). It does less: its temperature is a number without a gradient."""
    from memeff import MemoryEfficientCLIPLoss

    loss = MemoryEfficientCLIPLoss(temperature=TEMPERATURE, normalized_inputs=True, stable=False)
    return loss(inputs.image_BD, inputs.text_BD)
