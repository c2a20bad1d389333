"""How much memory a run takes, in GB of 10^9 bytes."""

import os
import resource
import sys
from pathlib import Path

import torch

_RESIDENT = Path("/proc/self/statm")


def memory_gb(device: torch.device) -> float:
    """Memory of this process on `device`.

    Of a GPU, the most that tensors took at once since the last call. Of a CPU, what is resident
    now, without the loader's workers; where no /proc says so, the most there ever was.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak / 1e9
    if _RESIDENT.is_file():
        pages = int(_RESIDENT.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e9
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest * (1 if sys.platform == "darwin" else 1024) / 1e9
