"""What curation costs, computed from what was measured: no large data set was run.

    core-hours = pairs * (read + parse + share * spotting + select) / 3600,  seconds per pair each

`share` is the part of the pairs that reaches text-spotting: it passes complexity and action. What
the rules before those drop is counted as if it were parsed, so parsing is an upper bound.

- paper: 22 % pass all of CAT (arXiv 2301.02280); what text-spotting itself drops is not in it.
- Openclipart: what passes complexity and action of its descriptions (captions.py).
- packaged: what was annotated in the packaged data (curation.py, stages).
- --audit-all: every pair.
"""

import json
from pathlib import Path
from typing import Any

from harness import Table

from winnow.curation.annotators.spotting import SpotText

PAIRS = (12_800_000, 400_000_000)
PAPER = 0.22
SPOTTERS = (f"winnow, {SpotText().max_side} px", "RapidOCR's defaults")
PICTURES = ("photographs", "overlays")
"""Sets of spotting.py: without and with text; half of the pictures are taken to be of each."""


def cost_table(results: Path) -> Table:
    """Core-hours by stage, for each share and number of pairs."""
    tables = {name: _tables(results, name) for name in ("curation", "captions", "spotting")}
    seconds = _seconds_per_row(tables)
    data = [
        {"share from": source, "share": share, "pairs": pairs}
        | _hours(pairs, share=share, seconds=seconds)
        for pairs in PAIRS
        for source, share in _shares(tables).items()
    ]
    stages = list(seconds)
    rows = [
        (
            f"{record['pairs'] / 1e6:g}M",
            f"{record['share from']}, {record['share']:.0%}",
            *(f"{record[stage]:,.1f}" for stage in [*stages, *_totals()]),
        )
        for record in data
    ]
    notes: dict[str, object] = {
        "computed": "not run; from the rates below, measured on single cores of this machine",
        "text-spotting": "half of the pictures with text on them, half without",
    }
    notes |= {f"{stage}, rows/s per core": f"{1 / spent:,.1f}" for stage, spent in seconds.items()}
    return Table(
        title="Core-hours: computed, not measured",
        columns=("pairs", "reach text-spotting", *stages, *_totals()),
        rows=rows,
        data=data,
        notes=notes,
    )


def _seconds_per_row(tables: dict[str, dict[str, dict]]) -> dict[str, float]:
    """Of every stage, by the title of its column."""
    reading = _table(tables, "curation", "Reading shards into a ledger", part="pass")["data"]
    (samples,) = (
        record["samples/s"]
        for record in reading
        if record.get("peer") == "winnow" and record["pictures"].startswith("JPEG")
    )
    parsing = _table(tables, "captions", "Speed", part="speed")["data"]
    (selecting,) = _table(tables, "curation", "Where the time of a selection goes", part="select")[
        "data"
    ]
    return {
        "read": 1 / samples,
        "parse": max(record["seconds per caption"] for record in parsing),
        **{f"spotting, {name}": _spotting(tables, name) for name in SPOTTERS},
        "select": selecting["seconds"] / selecting["rows"],
    }


def _spotting(tables: dict[str, dict[str, dict]], spotter: str) -> float:
    """Seconds of a picture, from the rates that stand in the notes of spotting.py's table."""
    notes = _table(tables, "spotting", "Speed", part="speed")["notes"]
    names = [f"{spotter}, {kind}, images/s per core" for kind in PICTURES]
    missing = [name for name in names if name not in notes]
    if missing:
        raise SystemExit(f"results/spotting.json does not say {missing[0]!r} in its speed table")
    return sum(1 / notes[name] for name in names) / len(names)


def _shares(tables: dict[str, dict[str, dict]]) -> dict[str, float]:
    """What reaches text-spotting, by where the number is from."""
    kept = _table(tables, "captions", "What complexity and action keep", part="survivors")["data"]
    stages = _table(
        tables,
        "curation",
        "What reaches each stage of `clean cat`: packaged data",
        part="stages",
    )["data"]
    by_source = {record["source"]: record["kept by C and A"] for record in kept}
    by_stage = {record["stage"]: record["share"] for record in stages}
    shares = {"paper": PAPER}
    if "openclipart-svg" in by_source:
        shares["Openclipart"] = by_source["openclipart-svg"]
    return shares | {"packaged": by_stage["spotting"], "--audit-all": 1.0}


def _hours(pairs: int, *, share: float, seconds: dict[str, float]) -> dict[str, float]:
    hours = {
        stage: pairs * spent * (share if stage.startswith("spotting") else 1) / 3600
        for stage, spent in seconds.items()
    }
    shared = sum(spent for stage, spent in hours.items() if not stage.startswith("spotting"))
    totals = [shared + hours[f"spotting, {spotter}"] for spotter in SPOTTERS]
    return hours | dict(zip(_totals(), totals, strict=True))


def _totals() -> list[str]:
    return [f"all, {spotter}" for spotter in SPOTTERS]


def _tables(results: Path, name: str) -> dict[str, dict]:
    path = results / f"{name}.json"
    tables: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return {table["title"]: table for table in tables}


def _table(tables: dict[str, dict[str, dict]], name: str, title: str, *, part: str) -> dict:
    if title not in tables[name]:
        raise SystemExit(
            f"results/{name}.json has no table {title!r}, which the cost is computed from: "
            f"run `python benchmarks/{name}.py {part}` first"
        )
    return tables[name][title]
