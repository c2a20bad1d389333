"""How towers are spread over the processes that torchrun started: DDP, or FSDP2 (`fully_shard`).

The loss engine leaves gradients that either one's averaging makes those of one process, so the
choice is one of memory and speed. DDP holds all of the model in every process. FSDP2 shards each
block of the towers by itself, gathers one at a time, and in bf16 gathers half the bytes.
"""

import inspect
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from winnow.distributed import world
from winnow.models.towers import Towers
from winnow.types import InputError

Parallel = Literal["ddp", "fsdp"]
Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What towers compute in under autocast; weights, loss and optimizer stay float32."""


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Within, towers compute in `precision`. Raises InputError where the device cannot."""
    if precision == "fp32":
        return nullcontext()
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise InputError(f"{torch.cuda.get_device_name(device)} has no bf16: take fp16 or fp32")
    return torch.autocast(device.type, dtype=DTYPES[precision])


def spread(
    towers: Towers, how: Parallel, *, precision: Precision, device: torch.device
) -> nn.Module:
    """The towers as the training step takes them; alone, they are left as they are.

    Raises InputError for batch normalisation where it cannot be synchronised.
    """
    if world().size == 1:
        return towers
    towers = _with_synchronised_statistics(towers, device)
    if how == "fsdp":
        return sharded(towers, precision=precision)
    # Convolutions give gradients channels last, and their copy into the bucket is wanted.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Buffers are alike by construction; a broadcast a step would cost time. The option has two
    # names.
    names = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, buffers: False}
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(towers, device_ids=device_ids, **options)


def sharded(towers: Towers, *, precision: Precision) -> nn.Module:
    """The towers, in place, with every block and then the rest sharded over all processes."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if precision in DTYPES:
        # What autocast would round weights to is rounded before it is gathered. Activations are
        # autocast's business, so nothing is cast on its way in.
        policy = MixedPrecisionPolicy(
            param_dtype=DTYPES[precision], reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for block in towers.blocks():
        fully_shard(block, mp_policy=policy)
    # What is left, the temperature among it, stays float32. It too is given back after a forward
    # pass: after one without a backward (evaluation, a teacher's) it would else stay gathered, and
    # whoever asked for the parameters would hold tensors that the next backward pass frees.
    fully_shard(towers, reshard_after_forward=True)
    return towers


def _with_synchronised_statistics(towers: Towers, device: torch.device) -> Towers:
    if not has_batch_statistics(towers):
        return towers
    if device.type != "cuda":
        raise InputError(
            "the towers use batch normalisation, whose statistics torch synchronises on GPUs only: "
            f"train in one process, or take towers without it (not {world().size} processes on "
            f"{device.type})"
        )
    # timm's, for torch's would lose the activation that some of timm's norms apply.
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(towers)


def has_batch_statistics(towers: nn.Module) -> bool:
    """Whether a picture's embedding depends on others of its batch; not where that is locked."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    return any(isinstance(m, batch_norm) and m.training for m in towers.modules())
