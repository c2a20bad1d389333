"""How every benchmark measures: peers take turns in one run, and only ratios count.

Absolute times on a shared machine are noise; a ratio of neighbours in time is not. Each round runs
every peer once; the ratio is taken within the round; the result is the median ratio with the
interval of its order statistics (binomial, at least 95 %). An interval that holds the aim leaves it
unresolved.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How much faster `ours` is than `theirs`: above 1 we are."""

    claim: str
    ours: str
    theirs: str
    median: float
    low: float
    high: float
    rounds: int
    aim: float
    """What the project asks of itself."""

    @property
    def verdict(self) -> str:
        """Met, missed, or unresolved by the noise."""
        if self.low >= self.aim:
            return "met"
        return "missed" if self.high < self.aim else "unresolved"


def alternate(peers: dict[str, Callable[[], None]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each peer in each round, after one round of warm-up that does not count."""
    median_interval(rounds)  # refuses too few before any time is spent
    times: dict[str, list[float]] = {name: [] for name in peers}
    for round_number in range(rounds + 1):
        for name, run in peers.items():
            began = time.perf_counter()
            run()
            if round_number:
                times[name].append(time.perf_counter() - began)
    return times


def ratio_of(
    times: dict[str, list[float]], *, claim: str, ours: str, theirs: str, aim: float
) -> Ratio:
    """The speed of `ours` over that of `theirs`."""
    ratios = sorted(b / a for a, b in zip(times[ours], times[theirs], strict=True))
    low, high = median_interval(len(ratios))
    return Ratio(
        claim=claim,
        ours=ours,
        theirs=theirs,
        median=statistics.median(ratios),
        low=ratios[low],
        high=ratios[high],
        rounds=len(ratios),
        aim=aim,
    )


def median_interval(count: int) -> tuple[int, int]:
    """Ranks (from 0) of a sorted sample that hold the median between them with at least 95 %.

    The number of values below the median is binomial(count, 1/2), whatever their distribution.
    """

    def outside(k: int) -> float:
        return 2 * sum(math.comb(count, i) for i in range(k)) / 2**count

    if outside(1) > 0.05:
        raise ValueError(f"{count} rounds cannot give a 95 % interval; take 6 or more")
    widest = max(k for k in range(1, count // 2 + 1) if outside(k) <= 0.05)
    return widest - 1, count - widest


def report(name: str, ratios: list[Ratio], notes: dict[str, object] | None = None) -> None:
    """Print the table and write `results/NAME.json` and `results/NAME.md`."""
    RESULTS.mkdir(exist_ok=True)
    lines = [
        "| claim | ours | peer | speed ratio (median) | 95 % interval | rounds | aim | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.claim} | {r.ours} | {r.theirs} | {r.median:.2f} | {r.low:.2f} to {r.high:.2f} "
        f"| {r.rounds} | {r.aim:.2f} | {r.verdict} |"
        for r in ratios
    ]
    facts = machine() | (notes or {})
    table = "\n".join([*lines, "", *(f"- {key}: {value}" for key, value in facts.items())]) + "\n"
    (RESULTS / f"{name}.md").write_text(table)
    rows = [asdict(r) | {"verdict": r.verdict} for r in ratios]
    (RESULTS / f"{name}.json").write_text(json.dumps({"ratios": rows, **facts}, indent=2) + "\n")
    print(table)


def machine() -> dict[str, object]:
    """What was measured on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {device}",
        "torch": torch.__version__,
    }
