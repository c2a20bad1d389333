"""Which device a model runs on."""

import os

import torch

from winnow.types import InputError


def usable_device(asked: str) -> torch.device:
    """The device called `asked`; `auto` takes a GPU where there is one.

    Of several GPUs, a process that torchrun started takes its own. Raises InputError where the
    device is not there.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and "LOCAL_RANK" in os.environ:
        asked = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the device {asked!r} cannot be used here: {reason}") from error
    return torch.device(asked)
