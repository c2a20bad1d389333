"""torch's random state, on the CPU and on every GPU, as one thing to save and to put back."""

import torch
from torch import Tensor


def random_state() -> dict[str, list[Tensor]]:
    """The state now; saved with a checkpoint, replayed for a micro-batch."""
    return {"cpu": [torch.get_rng_state()], "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: dict[str, list[Tensor]]) -> None:
    """Put a state back; GPUs that are gone are left out."""
    torch.set_rng_state(state["cpu"][0])
    for device in range(min(len(state["cuda"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(state["cuda"][device], device)
