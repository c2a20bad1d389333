"""The losses alone, forward and backward: memory and time of winnow's rules against their peers.

Three parts, on CUDA if there is one, else on the CPU, each written as soon as it is known into
`results/losses.json` and `.md` (`losses_cuda` on CUDA):

- over N: the peak of memory beside the features, one fresh process per peer and size
  (`loss_memory.py`), and the time of that run; what the project asks of them; on CUDA also the
  share of the speed of a large matrix product. What a peer would need is extrapolated first, from
  its largest size by its power of N; beyond half of the machine's memory it is not run, and its
  cell holds the prediction;
- speed: peers take turns in one process, and only ratios count;
- per rank over the world's size: bytes moved and multiplications, computed (`loss_traffic.py`).

The default sizes take more than an hour on two cores. Each part runs by itself and leaves the other
parts' tables as they are:

    python benchmarks/losses.py --skip-time --sizes 1024 2048
    python benchmarks/losses.py --skip-memory --time-sizes 1024 --rounds 6
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from harness import (
    RATIO_COLUMNS,
    RESULTS,
    Ratio,
    Table,
    alternate,
    median_interval,
    ratio_of,
    ratio_rows,
    write_table,
)
from loss_peers import all_peers, device, other_peers, random_inputs, run, winnow_name, winnow_peers
from loss_tables import Measurement, aims_table, facts, memory_table, share_table, time_table
from loss_traffic import traffic_table

from winnow.objectives.engine import Execution

SIZES = [1024, 2048, 4096, 8192, 16384, 32768, 65536]
TIME_SIZES = [8192, 16384]
SPEED_AIMS = (
    ("InfoNCE", "ClipLoss", 1.0),
    ("HN-NCE", "ClipLoss", 1.0),
    ("PSD", "ClipLoss", 1 / 1.3),
    ("PSD", "DistillClipLoss", 1.0),
    ("SigLIP", "SigLipLoss", 1.0),
    ("InfoNCE", "inf-cl", 1.0),
    ("InfoNCE", "memeff", 1.0),
)
"""Rule, peer, and the speed of the rule over the peer's; taken where the peer can run."""
SMALLEST = 512
"""Below, what a loss needs is lost among the pages of the process."""
PROBE = 4096
"""Size at which the need of a peer is found out that was not measured yet: it fits everywhere."""
CEILING_SIDE, CEILING_RUNS = 8192, 20

Write = Callable[[Table], None]


def main() -> None:
    """Measure and write."""
    arguments = parse()
    name = "losses_cuda" if device().type == "cuda" else "losses"
    write = partial(write_table, name)
    if not arguments.skip_memory:
        measured = measure_growth(arguments.executions, sorted(arguments.sizes), write)
        if device().type == "cuda":
            write(share_table(measured, matmul_ceiling()))
    if not arguments.skip_time:
        measure_speed(arguments.executions, arguments.time_sizes, arguments.rounds, write)
    write(traffic_table())
    print((RESULTS / f"{name}.md").read_text())


def parse() -> argparse.Namespace:
    """The command line; what cannot be measured is refused before any time is spent."""
    executions = ["triton", "tiled"] if device().type == "cuda" else ["tiled"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--time-sizes", type=int, nargs="+", default=TIME_SIZES)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--executions", nargs="+", choices=get_args(Execution), default=executions)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-time", action="store_true")
    arguments = parser.parse_args()
    try:
        median_interval(arguments.rounds)
    except ValueError as error:
        parser.error(f"--rounds: {error}")
    if min(*arguments.sizes, *arguments.time_sizes) < SMALLEST:
        parser.error(f"--sizes and --time-sizes count pairs: each must be at least {SMALLEST}")
    return arguments


def measure_growth(
    executions: list[Execution], sizes: list[int], write: Write
) -> list[Measurement]:
    """Every peer at every size, the tables written anew after each."""
    measured: list[Measurement] = []
    for count in sizes:
        for peer in [*winnow_peers(executions), *other_peers()]:
            measured.append(measure_or_predict(peer, count, measured))
            write(memory_table(measured))
            write(time_table(measured))
            if (aims := aims_table(measured)).rows:
                write(aims)
    return measured


def measure_or_predict(peer: str, count: int, measured: list[Measurement]) -> Measurement:
    """A measurement, or a prediction where the peer would need too much of the machine."""
    known = [m for m in measured if m.peer == peer and not m.predicted]
    if not known and count > PROBE:
        known = [measure(peer, PROBE)]
    if known and (prediction := predict(known[-1], count)).bytes > machine_memory() / 2:
        print(f"{peer}, N = {count:,}: predicted, {prediction.bytes / 1e6:,.0f} MB", flush=True)
        return prediction
    return measure(peer, count)


def predict(known: Measurement, count: int) -> Measurement:
    """What a smaller measurement says of `count` pairs: time is quadratic for every peer."""
    factor = count / known.count
    return Measurement(
        peer=known.peer,
        count=count,
        bytes=known.bytes * factor ** all_peers()[known.peer].memory_power,
        seconds=known.seconds * factor**2,
        predicted=True,
    )


def measure(peer: str, count: int) -> Measurement:
    """One peer at one size in a process of its own, whose failure ends the benchmark."""
    script = Path(__file__).with_name("loss_memory.py")
    command = [sys.executable, str(script), peer, str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    m = Measurement(peer=peer, count=count, **json.loads(done.stdout))
    print(f"{peer}, N = {count:,}: {m.bytes / 1e6:,.0f} MB, {m.seconds:.3g} s", flush=True)
    return m


def machine_memory() -> int:
    """Bytes of memory where the losses run."""
    if device().type == "cuda":
        return torch.cuda.get_device_properties(device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure_speed(executions: list[Execution], sizes: list[int], rounds: int, write: Write) -> None:
    """Ratios against the aims, the table written anew after each size."""
    ratios: list[Ratio] = []
    left_out: list[str] = []
    for count in sizes:
        fitting = {peer: fits(peer, count) for peer in other_peers()}
        others = [peer for peer, fit in fitting.items() if fit]
        left_out += [f"{peer} at {count:,}" for peer, fit in fitting.items() if not fit]
        ratios += compare(executions, others, count, rounds)
        write(
            Table(
                title="Speed, forward and backward",
                columns=RATIO_COLUMNS,
                rows=ratio_rows(ratios),
                data=[asdict(ratio) | {"verdict": ratio.verdict} for ratio in ratios],
                notes={"too large for half of the memory": ", ".join(left_out) or "none"} | facts(),
            )
        )


def fits(peer: str, count: int) -> bool:
    """Whether a peer needs no more than half of the machine's memory."""
    return count <= PROBE or predict(measure(peer, PROBE), count).bytes <= machine_memory() / 2


def compare(executions: list[Execution], others: list[str], count: int, rounds: int) -> list[Ratio]:
    """Every aim whose peer is among `others`, at one size."""
    peers = all_peers()
    pairs = [
        (winnow_name(rule, execution), peer, aim)
        for execution in executions
        for rule, peer, aim in SPEED_AIMS
        if winnow_name(rule, execution) in peers and peer in others
    ]
    inputs = random_inputs(count)
    taking_part = dict.fromkeys(name for ours, theirs, _ in pairs for name in (ours, theirs))
    print(f"N = {count:,}, in turn: {', '.join(taking_part) or 'none fits'}", flush=True)
    times = alternate(
        {name: partial(run, peers[name], inputs) for name in taking_part}, rounds=rounds
    )
    return [
        ratio_of(times, claim=f"loss alone, N = {count:,}", ours=ours, theirs=theirs, aim=aim)
        for ours, theirs, aim in pairs
    ]


def matmul_ceiling() -> float:
    """FLOP/s of a square bfloat16 product, the median of several."""
    side = CEILING_SIDE
    left, right = torch.randn(2, side, side, device=device(), dtype=torch.bfloat16)
    seconds = []
    for _ in range(CEILING_RUNS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(left, right)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds)


if __name__ == "__main__":
    main()
