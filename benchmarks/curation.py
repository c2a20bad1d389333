"""Curation: speed of the reading, memory and scaling of its workers, selecting, and what it costs.

- pass: the ledger's pass over tars (every sample read, hashed twice, decoded, hashed by sight)
  against webdataset's pipeline with Pillow and sha256, and against streaming the tar alone.
- memory: peak of a worker over the size of its shard, every size in a process of its own.
- scaling: the work of `clean cat` on 8 equal shards by 2 processes against 1.
- select: `clean` on a ledger of a million rows that was made up, and where the time goes.
- stages: `clean cat` on the packaged data: what reaches each stage, and its cost there.
- cost: core-hours of 12.8M and 400M pairs, computed from these tables, `captions.py` and
  `spotting.py` (`curation_cost.py`).

    python benchmarks/curation.py [pass memory scaling select stages cost] [--rounds 10]
"""

import argparse
import os

# Before numpy is loaded; workers inherit it.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
from caption_sets import CACHE, captions_by_source, sample
from curation_cost import cost_table
from curation_data import (
    DISTINCT,
    PICTURE_SIDES,
    ROWS_PER_SHARD,
    SMALL_SIDE,
    jpegs,
    write_ledger,
    write_tars,
)
from curation_pass import ledger_pass
from harness import RATIO_COLUMNS, RESULTS, Table, alternate, ratio_of, ratio_rows, write_table
from sampling import INTERVAL, where_time_goes

from winnow.curation.annotate import annotate
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.annotators.spotting import SpotText
from winnow.curation.rules.rule import Rule
from winnow.curation.select import select
from winnow.curation.selections import cat, clean
from winnow.curation.stages import plan_stages
from winnow.data.folder import Folder
from winnow.data.sources import open_source
from winnow.recipes.packaged import packaged_data

PARTS = ("pass", "memory", "scaling", "select", "stages", "cost")
SCALING_AIM = 1.8
MEMORY_RULES = (["none"], ["clean", "complexity", "has-action:least=2", "text-spotting"])
"""The reading alone, and all stages; two actions, so that few pictures take time."""
SHARDS = 8
Work = Callable[[object], object]


def main() -> None:
    """Measure what was asked for; each part replaces its own table."""
    arguments = parse_arguments()
    parts: dict[str, Callable[[Path], Table]] = {
        "pass": lambda scratch: ledger_pass(scratch, arguments.rounds, arguments.pictures),
        "memory": lambda scratch: memory(scratch, arguments.shard_sizes, arguments.cache),
        "scaling": lambda scratch: scaling(
            scratch, arguments.rounds, arguments.pairs, arguments.cache
        ),
        "select": lambda scratch: selecting(scratch, arguments.rows),
        "stages": stages_on_packaged,
        "cost": lambda _: cost_table(RESULTS),
    }
    for name in arguments.parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            write_table("curation", parts[name](Path(scratch)))
        print(f"{name} took {time.monotonic() - began:.0f} s", flush=True)


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=768, help="JPEGs of the pass")
    parser.add_argument("--pairs", type=int, default=32, help="pairs of a shard, for the scaling")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the ledger to select from")
    parser.add_argument("--shard-sizes", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--cache", type=Path, default=CACHE, help="of Debian's captions")
    arguments = parser.parse_args()
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}, not {' '.join(arguments.parts)}")
    return arguments


def memory(scratch: Path, sizes: list[int], cache: Path) -> Table:
    """Peak of one worker over the number of samples in its shard."""
    captions = sample(itertools.chain(*captions_by_source(cache).values()), count=10_000)
    pictures = jpegs(DISTINCT, sides=(SMALL_SIDE, SMALL_SIDE))
    data = []
    for size in sizes:
        folder = write_tars(scratch / str(size), pictures, captions, shards=1, samples=size)
        for number, words in enumerate(MEMORY_RULES):
            found = in_own_process(folder, scratch / f"{size}-{number}", words)
            data.append({"rules": " ".join(words), "samples": size, **found})
    data.sort(key=lambda record: (record["rules"] != "none", record["samples"]))
    rows = [
        (
            record["rules"],
            f"{record['samples']:,}",
            f"{record['peak'] / 1e6:,.0f}",
            f"{record['seconds']:.1f}",
            ", ".join(f"{name} {count:,}" for name, count in record["computed"].items()) or "-",
        )
        for record in data
    ]
    return Table(
        title="Peak memory of a worker over the samples of its shard",
        columns=("rules", "samples", "peak, MB", "seconds", "rows that were annotated"),
        rows=rows,
        data=data,
        notes={
            "peak": "10^6 bytes resident, Python, libraries and models included",
            "pictures": f"JPEG of {SMALL_SIDE} px, the same {DISTINCT} over and over",
            "captions": "all differ",
            "seconds": "a single run: its noise is in it",
        },
    )


def in_own_process(shards: Path, out: Path, words: list[str]) -> dict:
    """What `curation_worker.py` says of itself."""
    script = Path(__file__).with_name("curation_worker.py")
    command = [sys.executable, str(script), str(shards), str(out), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def scaling(scratch: Path, rounds: int, pairs: int, cache: Path) -> Table:
    """All the work of `clean cat` by processes that have their models loaded."""
    captions = sample(itertools.chain(*captions_by_source(cache).values()), count=10_000)
    pictures = jpegs(DISTINCT, sides=PICTURE_SIDES)
    shards = write_tars(scratch / "shards", pictures, captions, shards=SHARDS, samples=pairs)
    source, fresh = open_source(str(shards)), itertools.count()
    stages = plan_stages((*clean(), *cat()), (ParseCaptions(), SpotText()))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as one, ProcessPoolExecutor(2, context) as two:

        def run(pool: ProcessPoolExecutor) -> None:
            out = scratch / "out" / str(next(fresh))
            annotate(source, out, workers=1, stages=stages, engine=engine_of(pool))

        times = alternate(
            {"2 workers": lambda: run(two), "1 worker": lambda: run(one)}, rounds=rounds
        )
    ratio = ratio_of(
        times,
        claim=f"`clean cat` on {SHARDS} shards of {pairs} pairs",
        ours="2 workers",
        theirs="1 worker",
        aim=SCALING_AIM,
    )
    notes: dict[str, object] = {
        f"{name}, samples/s": round(SHARDS * pairs / statistics.median(seconds), 1)
        for name, seconds in times.items()
    }
    notes["not counted"] = "the start of the processes and the loading of their models"
    return Table(
        title="Scaling",
        columns=RATIO_COLUMNS,
        rows=ratio_rows([ratio]),
        data=[asdict(ratio) | {"verdict": ratio.verdict}],
        notes=notes,
    )


def engine_of(pool: ProcessPoolExecutor) -> Callable:
    """The local engine, but on processes that stay: their models are loaded once."""

    def run(work: Work, units: Iterable, *, workers: int) -> Generator:
        yield from pool.map(work, units)

    return run


def selecting(scratch: Path, rows: int) -> Table:
    """Seconds of `select` by the function of winnow that spent them, the largest first."""
    out = write_ledger(scratch / "made-up", rows)
    began = time.perf_counter()
    for path in sorted((out / "ledger").glob("*.parquet")):
        pq.read_table(path)
    reading = time.perf_counter() - began
    began = time.perf_counter()
    seconds = where_time_goes(lambda: select(out, clean(), name="clean"))
    whole = time.perf_counter() - began
    kept = json.loads((out / "selections" / "clean" / "summary.json").read_text())["kept"]
    top = seconds.most_common(14)
    shown = [*top, ("all the rest", whole - sum(spent for _, spent in top)), ("whole", whole)]
    return Table(
        title="Where the time of a selection goes",
        columns=("function", "seconds", "share"),
        rows=[(name, f"{spent:.2f}", f"{spent / whole:.1%}") for name, spent in shown],
        data=[{"rows": rows, "seconds": whole, "by function": dict(seconds)}],
        notes={
            "rows": f"{rows:,} made up, {ROWS_PER_SHARD:,} in a shard; {kept:,} are kept",
            "rules": ", ".join(rule.name() for rule in clean()),
            "rows/s": f"{rows / whole:,.0f}, a single run on 1 thread but for Arrow's own",
            "reading the ledger's files alone, seconds": f"{reading:.2f}",
            "how": f"the stack, looked at every {INTERVAL * 1e3:.0f} ms",
        },
    )


def stages_on_packaged(scratch: Path) -> Table:
    """What reaches each stage of `clean cat` on the packaged data, and what is kept."""
    rules: tuple[Rule, ...] = (*clean(), *cat())
    source, out = open_source(str(packaged_data().train)), Folder.at(scratch / "out")
    stages = plan_stages(rules, (ParseCaptions(), SpotText()))
    result = annotate(source, out, workers=1, stages=stages)
    kept = select(out, rules, name="clean-cat").kept
    reached = {"read": result.samples} | result.computed
    data = [
        {
            "stage": name,
            "rows": count,
            "share": count / result.samples,
            "seconds": result.seconds_by_stage[name],
        }
        for name, count in reached.items()
    ]
    rows = [
        (
            record["stage"],
            f"{record['rows']:,}",
            f"{record['share']:.1%}",
            f"{1e3 * record['seconds'] / max(1, record['rows']):.2f}",
        )
        for record in data
    ]
    return Table(
        title="What reaches each stage of `clean cat`: packaged data",
        columns=("stage", "rows", "share", "ms per row"),
        rows=[*rows, ("kept", f"{kept:,}", f"{kept / result.samples:.1%}", "")],
        data=data,
        notes={
            "pictures": f"{SMALL_SIDE} px drawings; planted noise among them",
            "seconds": "a single run on 1 thread: its noise, and the loading of models, are in it",
        },
    )


if __name__ == "__main__":
    main()
