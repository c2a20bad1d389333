"""How every benchmark measures: peers take turns in one run, and only ratios count.

Absolute times on a shared machine are noise; a ratio of neighbours in time is not. Each round runs
every peer once; the ratio is taken within the round; the result is the median ratio with the
interval of its order statistics (binomial, at least 95 %). An interval that holds the aim leaves it
unresolved.

A benchmark of one table ends with `report`. One of several calls `write_table` as each becomes
known: a run cut short keeps what it has, and a part run by itself leaves the other parts' tables.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
RATIO_COLUMNS = (
    "claim",
    "ours",
    "peer",
    "speed ratio (median)",
    "95 % interval",
    "rounds",
    "aim",
    "verdict",
)


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


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results, with what it was measured on."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    """Cells as they are shown."""
    data: list[dict[str, object]]
    """The numbers behind the cells, one record per measurement."""
    notes: dict[str, object]


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
        print(f"round {round_number} of {rounds} is done", flush=True)
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
    facts = machine() | (notes or {})
    text = markdown(RATIO_COLUMNS, ratio_rows(ratios), facts)
    (RESULTS / f"{name}.md").write_text(text)
    rows = [asdict(r) | {"verdict": r.verdict} for r in ratios]
    (RESULTS / f"{name}.json").write_text(json.dumps({"ratios": rows, **facts}, indent=2) + "\n")
    print(text)


def write_table(name: str, table: Table) -> None:
    """Put the table into `results/NAME.json` and `results/NAME.md`; the same title is replaced."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    tables = json.loads(path.read_text()) if path.exists() else []
    new = asdict(table) | {"notes": machine() | table.notes}
    titles = [old["title"] for old in tables]
    if table.title in titles:
        tables[titles.index(table.title)] = new
    else:
        tables.append(new)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(tables, indent=2) + "\n")
    partial.replace(path)
    sections = [
        f"### {old['title']}\n\n{markdown(old['columns'], old['rows'], old['notes'])}"
        for old in tables
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(sections))


def ratio_rows(ratios: list[Ratio]) -> list[tuple[str, ...]]:
    """The cells of `RATIO_COLUMNS`."""
    return [
        (
            r.claim,
            r.ours,
            r.theirs,
            f"{r.median:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
            str(r.rounds),
            f"{r.aim:.2f}",
            r.verdict,
        )
        for r in ratios
    ]


def markdown(
    columns: Sequence[str], rows: Sequence[Sequence[str]], facts: dict[str, object]
) -> str:
    """A table with its facts as a list below it."""
    head, *body = ["| " + " | ".join(cells) + " |" for cells in (columns, *rows)]
    rule = "|" + "---|" * len(columns)
    return (
        "\n".join([head, rule, *body, "", *(f"- {key}: {value}" for key, value in facts.items())])
        + "\n"
    )


def machine() -> dict[str, object]:
    """What was measured on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {device}",
        "torch": torch.__version__,
    }
