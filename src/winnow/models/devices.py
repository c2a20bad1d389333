"""Which device a model runs on."""

import torch

from winnow.types import InputError


def usable_device(asked: str) -> torch.device:
    """The device called `asked`; `auto` takes a GPU where there is one.

    Raises InputError where it is not there.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the device {asked!r} cannot be used here: {reason}") from error
    return torch.device(asked)
