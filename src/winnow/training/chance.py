"""torch's random state: set anew for every step, and put back for a micro-batch.

Chance in the towers (dropout of patches, say) is a function of (seed, step, rank), so that it is in
no checkpoint and a run that goes on draws what it would have drawn.
"""

import hashlib

import torch
from torch import Tensor


def seed_step(*, seed: int, step: int, rank: int) -> None:
    """Begin the step's chance, on the CPU and on every GPU of this process."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def random_state() -> dict[str, list[Tensor]]:
    """The state now, replayed for a micro-batch."""
    return {"cpu": [torch.get_rng_state()], "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: dict[str, list[Tensor]]) -> None:
    """Put a state back."""
    torch.set_rng_state(state["cpu"][0])
    torch.cuda.set_rng_state_all(state["cuda"])
