"""The tables of `losses.py` that are made of single measurements: growth over N, and the aims."""

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from harness import Table
from loss_memory import CUDA_RUNS
from loss_peers import WIDTH, device
from loss_traffic import SCHEMES, multiplications


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One peer at one size."""

    peer: str
    count: int
    """Pairs, N."""
    bytes: float
    seconds: float
    predicted: bool = False
    """Not run: it would need too much of the machine's memory."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What the project asks of a rule at N = `count`."""

    rule: str
    count: int
    quantity: Literal["bytes", "seconds"]
    limit: float


CPU_AIMS = tuple(
    Aim(rule=rule, count=count, quantity="bytes", limit=limit)
    for count, limit in ((16384, 0.5e9), (65536, 1e9))
    for rule in ("InfoNCE", "HN-NCE", "PSD")
)
CUDA_AIMS = (
    Aim(rule="InfoNCE", count=65536, quantity="bytes", limit=1e9),
    Aim(rule="InfoNCE", count=65536, quantity="seconds", limit=0.070),
    Aim(rule="HN-NCE", count=65536, quantity="bytes", limit=1e9),
    Aim(rule="HN-NCE", count=65536, quantity="seconds", limit=0.070),
    Aim(rule="PSD", count=65536, quantity="bytes", limit=1.5e9),
    Aim(rule="PSD", count=65536, quantity="seconds", limit=0.100),
)
SHOWN = {"bytes": (1e9, "GB"), "seconds": (1e-3, "ms")}
"""Unit that each quantity is shown in."""


def memory_table(measured: list[Measurement]) -> Table:
    """Peak memory over N."""
    return _growth_table(
        "Peak memory beside the features, over N",
        measured,
        value=lambda m: m.bytes / 1e6,
        cells="MB (10^6 bytes), the features' gradients included",
    )


def time_table(measured: list[Measurement]) -> Table:
    """Time over N, of the runs whose memory was measured."""
    if device().type == "cuda":
        cells = f"milliseconds of forward and backward, median of {CUDA_RUNS} runs"
        return _growth_table("Time over N", measured, value=lambda m: m.seconds * 1e3, cells=cells)
    cells = "seconds of forward and backward, a single run: its noise is in it"
    return _growth_table("Time over N", measured, value=lambda m: m.seconds, cells=cells)


def aims_table(measured: list[Measurement]) -> Table:
    """The aims whose rule and size were run, in every execution."""
    aims = CUDA_AIMS if device().type == "cuda" else CPU_AIMS
    data = [
        asdict(aim) | {"peer": m.peer, "found": asdict(m)[aim.quantity]}
        for aim in aims
        for m in measured
        if (_rule(m), m.count) == (aim.rule, aim.count) and not m.predicted
    ]
    rows = []
    for record in data:
        unit, name = SHOWN[record["quantity"]]
        verdict = "met" if record["found"] <= record["limit"] else "missed"
        shown = [f"{record[key] / unit:.3g} {name}" for key in ("found", "limit")]
        rows.append((record["peer"], f"{record['count']:,}", *shown, verdict))
    return Table(
        title="Aims of memory and time",
        columns=("ours", "N", "measured", "aim", "verdict"),
        rows=rows,
        data=data,
        notes=facts(),
    )


def share_table(measured: list[Measurement], ceiling: float) -> Table:
    """Speed over N as a share of `ceiling`, FLOP/s of a large matrix product."""
    data = []
    for m in measured:
        if m.peer not in SCHEMES or m.predicted:
            continue
        speed = multiplications(SCHEMES[m.peer], m.count, m.count) / m.seconds
        data.append({"peer": m.peer, "count": m.count, "flops": speed, "ceiling": ceiling})
    rows = [
        (
            record["peer"],
            f"{record['count']:,}",
            f"{record['flops'] / 1e12:.3g}",
            f"{100 * record['flops'] / ceiling:.0f} %",
        )
        for record in data
    ]
    return Table(
        title="Share of the speed of a matrix product",
        columns=("ours", "N", "TFLOP/s", "share"),
        rows=rows,
        data=data,
        notes={
            "whole": f"{ceiling / 1e12:.0f} TFLOP/s, a bfloat16 product in the same run",
            "counted": f"matrix products of 2·N·N·{WIDTH} FLOP, as many as the table over the "
            "number of ranks says",
        }
        | facts(),
    )


def facts() -> dict[str, object]:
    """What every measurement shares."""
    cuda = device().type == "cuda"
    return {
        "features": f"width {WIDTH}, {'bfloat16' if cuda else 'float32'}, random",
        "threads": torch.get_num_threads(),
    }


def _rule(m: Measurement) -> str:
    return m.peer.split(" (")[0]


def _growth_table(
    title: str, measured: list[Measurement], *, value: Callable[[Measurement], float], cells: str
) -> Table:
    """A row per N with the factor to the row above; last, the power of N of each peer."""
    peers = list(dict.fromkeys(m.peer for m in measured))
    counts = sorted({m.count for m in measured})
    at = {(m.peer, m.count): m for m in measured}
    rows = []
    for above, count in zip([0, *counts], counts, strict=False):
        found = [_cell(at.get((p, count)), at.get((p, above)), value) for p in peers]
        rows.append((f"{count:,}", *found))
    powers = [_power([m for m in measured if m.peer == p], value) for p in peers]
    return Table(
        title=title,
        columns=("N", *peers),
        rows=[*rows, ("power of N", *powers)],
        data=[asdict(m) for m in measured],
        notes={
            "cells": f"{cells}; in brackets the factor to the row above",
            "predicted": "not run; what its largest measured size says, by its power of N",
            "power of N": "slope of the logarithms over the three largest sizes measured",
        }
        | facts(),
    )


def _cell(
    here: Measurement | None, above: Measurement | None, value: Callable[[Measurement], float]
) -> str:
    """The value, marked where it is a prediction, with its growth where it is none."""
    if here is None:
        return ""
    text = f"{value(here):.3g}" if value(here) < 1000 else f"{value(here):,.0f}"
    if here.predicted:
        return f"{text} predicted"
    return text if above is None else f"{text} (× {value(here) / value(above):.1f})"


def _power(measured: list[Measurement], value: Callable[[Measurement], float]) -> str:
    points = [(math.log(m.count), math.log(value(m))) for m in measured if not m.predicted][-3:]
    if len(points) < 2:
        return ""
    counts, values = zip(*points, strict=True)
    return f"{statistics.linear_regression(counts, values).slope:.2f}"
