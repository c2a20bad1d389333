"""Peak extra memory and time of one peer of `losses.py` at one size, in a process of its own.

A small run comes first, so that libraries and thread pools are there before the baseline is taken.
On Linux the peak is the high-water mark of the resident set, reset just before the run, less the
resident set at that moment; gradients of the features are in it, the features are not. On CUDA it
is the peak of torch's allocator less what was allocated; there the first run has the full size,
because kernels are compiled for it, and the time is the median of `CUDA_RUNS` more.

    python benchmarks/loss_memory.py PEER N      prints one line of json
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from loss_peers import Inputs, Peer, all_peers, device, random_inputs, run

WARM_UP = 64
CUDA_RUNS = 10


def main() -> None:
    """Measure the peer and size of the command line."""
    name, count = sys.argv[1], int(sys.argv[2])
    measure = on_cuda if device().type == "cuda" else on_cpu
    peak, seconds = measure(all_peers()[name], random_inputs(count))
    print(json.dumps({"bytes": peak, "seconds": seconds}))


def on_cpu(peer: Peer, inputs: Inputs) -> tuple[int, float]:
    """(bytes, seconds) of a single run."""
    run(peer, random_inputs(WARM_UP))
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = resident("VmRSS")
    seconds = timed(peer, inputs)
    return resident("VmHWM") - before, seconds


def on_cuda(peer: Peer, inputs: Inputs) -> tuple[int, float]:
    """(bytes of one run, median seconds of several)."""
    run(peer, inputs)
    inputs.image_BD.grad = inputs.text_BD.grad = None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(peer, inputs)
    peak = torch.cuda.max_memory_allocated() - before
    return peak, statistics.median(timed(peer, inputs) for _ in range(CUDA_RUNS))


def timed(peer: Peer, inputs: Inputs) -> float:
    """Seconds of one run."""
    began = time.perf_counter()
    run(peer, inputs)
    return time.perf_counter() - began


def resident(field: str) -> int:
    """Bytes that Linux counts for this process under `field`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}: memory is measured on Linux alone")


if __name__ == "__main__":
    main()
