"""`winnow train` against open_clip's own training loop, from the shards to the weights.

Both train the same towers on the same tars at the same batch, precision, number of workers and
number of steps; runs take turns. What counts is samples a second after the warm-up, from each
side's own log. The pictures are the packaged ones, drawn at 64 and at 256 pixels.

open_clip's loop needs packages of its own, so it has an environment of its own:

    uv venv peer --python 3.11
    uv pip install --python peer/bin/python 'open_clip_torch[training]==3.3.0' \\
        torch==2.15.0 torchvision==0.29.2 timm==1.0.31

    python benchmarks/training_loop.py --peer-python peer/bin/python [--rounds 6]
        [--cases vit resnet small] [--processes 1 2] [--steps 40] [--batch-size 64]
    python benchmarks/training_loop.py --peer-python ... --device cuda [--cases b32 b16]
        [--workers 14] [--largest-batch]

Where only one environment can be had, winnow's own serves the peer too once it has `pandas` (and
`webdataset<=0.2.86`, for which open_clip's loop was written).
"""

import argparse
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from harness import RATIO_COLUMNS, Table, median_interval, ratio_of, ratio_rows, write_table
from training_loop_sides import Case, OutOfMemoryError, Speed, run_open_clip, run_winnow

from winnow.curation.selections import none
from winnow.data.packaged import NO_NOISE, PackagedConfig, build, default_directory
from winnow.models import (
    CustomTowers,
    NamedTowers,
    TextTransformer,
    TimmImageTower,
    VisionTransformer,
)
from winnow.recipes.data import curate

OURS, THEIRS = "winnow train", "open_clip_train"
AIM = 1.0
_SHARDS = 32

_TEXT = TextTransformer(context_length=32, width=192, heads=3, layers=4)
CASES = {
    "cpu": {
        "vit": Case(
            name="ViT, 112 px, 7 M",
            model=CustomTowers(
                embed_dim=192,
                image=VisionTransformer(image_size=112, patch_size=16, width=192, layers=6),
                text=_TEXT,
            ),
            pictures=256,
            batch_size=64,
        ),
        "resnet": Case(
            name="ResNet-50 with group norm, 64 px",
            model=CustomTowers(
                embed_dim=192, image=TimmImageTower(name="resnet50_gn", image_size=64), text=_TEXT
            ),
            pictures=256,
            batch_size=32,
        ),
        "small": Case(
            name="recipe tiny, 48 px",
            model=CustomTowers(
                embed_dim=256,
                image=TimmImageTower(name="test_efficientnet_gn", image_size=48),
                text=TextTransformer(context_length=12, width=128, heads=2, layers=1),
            ),
            pictures=64,
            batch_size=256,
        ),
    },
    "cuda": {
        name: Case(
            name=model,
            model=NamedTowers(name=model),
            pictures=256,
            batch_size=batch_size,
            precision="bf16",
            device="cuda",
            workers=14,
            warmup=20,
            steps=100,
        )
        for name, model, batch_size in (("b32", "ViT-B-32", 1024), ("b16", "ViT-B-16", 512))
    },
}


def main() -> None:
    """Measure and write the tables."""
    arguments = _parse()
    chosen = [CASES[arguments.device][name] for name in arguments.cases or CASES[arguments.device]]
    with tempfile.TemporaryDirectory(prefix="training-loop-", dir=arguments.scratch) as scratch:
        data = {side: prepare(Path(scratch), side) for side in {case.pictures for case in chosen}}
        for processes in arguments.processes:
            for case in chosen:
                asked = replace(case, processes=processes, **_overrides(arguments))
                runs = Runs(asked, data[case.pictures], arguments.peer_python)
                if arguments.largest_batch:
                    compare_largest(asked, runs)
                else:
                    compare(asked, runs, arguments.rounds)


class Runs:
    """Both sides of one case, each run in a folder of its own."""

    def __init__(self, case: Case, data: Path, peer_python: Path) -> None:
        self.case, self._data, self._peer_python = case, data, peer_python

    def go(self, name: str, case: Case | None = None) -> Speed:
        """One run of a side, in a new folder that is gone afterwards."""
        case = case or self.case
        with tempfile.TemporaryDirectory(dir=self._data) as folder:
            out = Path(folder) / "run"
            if name == OURS:
                return run_winnow(case, self._data / "curated", out)
            return run_open_clip(case, self._data / "shards", out, python=self._peer_python)


def prepare(scratch: Path, side: int) -> Path:
    """A folder of the packaged pairs: as `shards`, enough for many workers, and `curated`."""
    config = PackagedConfig(side=side, noise=NO_NOISE)
    packaged = build(default_directory(config), config=config)
    folder = scratch / f"pictures-{side}"
    shards = folder / "shards"
    shards.mkdir(parents=True)
    with ExitStack() as stack:
        paths = [shards / f"{number:05d}.tar" for number in range(_SHARDS)]
        archives = [stack.enter_context(tarfile.open(path, "w")) for path in paths]
        for count, members in enumerate(_pairs(packaged.train)):
            for member, content in members:
                archives[count % _SHARDS].addfile(member, content)
    curate(str(shards), folder / "curated", rules=none(), name="none")
    return folder


def _pairs(train: Path) -> Iterator[list[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    """The members of each pair: picture, caption, json."""
    for path in sorted(train.glob("*.tar")):
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            for first in range(0, len(members), 3):
                trio = members[first : first + 3]
                assert len({member.name.partition(".")[0] for member in trio}) == 1
                yield [(member, archive.extractfile(member)) for member in trio]


def compare(case: Case, runs: Runs, rounds: int) -> None:
    """Alternating runs, the first of each pair alternating too; one table."""
    median_interval(rounds)  # refuses too few before any time is spent
    speeds: dict[str, list[Speed]] = {OURS: [], THEIRS: []}
    for number in range(rounds):
        for name in (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS):
            speeds[name].append(runs.go(name))
        ours, theirs = (speeds[name][-1].samples_per_second for name in (OURS, THEIRS))
        print(
            f"{case.name}, {case.processes} process(es), round {number + 1}: "
            f"{ours:.1f} against {theirs:.1f} samples/s, {ours / theirs:.3f}",
            flush=True,
        )
    times = {name: [1 / s.samples_per_second for s in own] for name, own in speeds.items()}
    ratio = ratio_of(times, claim=_claim(case), ours=OURS, theirs=THEIRS, aim=AIM)
    samples = {name: _median([s.samples_per_second for s in own]) for name, own in speeds.items()}
    notes = _notes(case) | {f"{name}, samples/s": f"{rate:.1f}" for name, rate in samples.items()}
    memory = {
        name: max((s.memory_gb for s in own if s.memory_gb is not None), default=None)
        for name, own in speeds.items()
    }
    notes |= {f"{name}, GB at its peak": f"{gb:.1f}" for name, gb in memory.items() if gb}
    shares = [s.mfu for s in speeds[OURS] if s.mfu is not None]
    if shares:
        # open_clip computes padding, which this leaves out, and does not say how much.
        notes |= {f"MFU, {OURS}": f"{_median(shares):.1%}"}
    table = Table(
        title=_claim(case),
        columns=RATIO_COLUMNS,
        rows=ratio_rows([ratio]),
        data=[
            {"side": name, "samples_per_second": [s.samples_per_second for s in own]}
            for name, own in speeds.items()
        ],
        notes=notes,
    )
    write_table("training_loop", table)


def compare_largest(case: Case, runs: Runs) -> None:
    """The largest batch in one piece that fits on either side, to an eighth."""
    few = replace(case, steps=2 * case.workers, warmup=0)
    found = {}
    for name in (OURS, THEIRS):

        def fits(batch_size: int, name: str = name) -> bool:
            try:
                runs.go(name, replace(few, batch_size=batch_size))
            except OutOfMemoryError:
                return False
            return True

        found[name] = largest(fits, start=case.batch_size)
        print(f"{case.name}: {name} fits {found[name]}", flush=True)
    table = Table(
        title=f"largest batch in one piece, {case.name}, {case.precision}",
        columns=("side", "pairs"),
        rows=[(name, str(size)) for name, size in found.items()],
        data=[{"side": name, "pairs": size} for name, size in found.items()],
        notes=_notes(case),
    )
    write_table("training_loop", table)


def largest(fits: Callable[[int], bool], *, start: int) -> int:
    """The largest size that fits, to an eighth of it: doubled from `start`, then halved between."""
    good, bad = 0, start
    while fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > max(8, good // 8):
        middle = (good + bad) // 2 // 8 * 8
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _claim(case: Case) -> str:
    return f"training end to end, {case.name}, {case.processes} process(es)"


def _notes(case: Case) -> dict[str, object]:
    return {
        "pictures": f"packaged, drawn at {case.pictures} px, {_SHARDS} tars",
        "batch": f"{case.batch_size} over {case.processes} process(es), {case.precision}",
        "workers of each process": case.workers,
        "threads of each process": case.threads or "the cores, shared out",
        "steps": f"{case.steps}, of which the first {case.warmup} do not count",
        "open_clip's options for several processes": "--local-loss --gather-with-grad",
    }


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    given = {
        name: getattr(arguments, name)
        for name in ("batch_size", "steps", "warmup", "workers", "threads")
        if getattr(arguments, name) is not None
    }
    return given | {"winnow_options": tuple(arguments.winnow_options.split())}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--device", choices=tuple(CASES), default="cpu")
    parser.add_argument(
        "--cases", nargs="+", help=f"of { ({k: list(v) for k, v in CASES.items()}) }"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=6)
    for name in ("batch-size", "steps", "warmup", "workers", "threads"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--largest-batch", action="store_true")
    parser.add_argument("--winnow-options", default="", help="further options of winnow train")
    parser.add_argument("--scratch", type=Path, help="where the data and the runs are put")
    return parser.parse_args()


if __name__ == "__main__":
    main()
