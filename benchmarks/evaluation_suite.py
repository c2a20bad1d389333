"""A suite of evaluation sets on one model: `winnow evaluate`, one process that embeds each picture
once, against CLIP_benchmark's command line, one process for every set and task.

Both load the same model of random weights in a folder of open_clip's (speed does not ask what was
learned; a ViT-B/32 wants a GPU), and read the same tars of the packaged pictures.
Zero-shot and retrieval on every set; CLIP_benchmark's linear probe asserts CUDA, so none is
compared. Both in float32, with features computed anew. The numbers are compared too.

    python benchmarks/evaluation_suite.py [--size full] [--rounds 1]
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Table, write_table

from winnow.models import CustomTowers, NamedTowers, TextTransformer, VisionTransformer
from winnow.models.towers import Towers
from winnow.recipes.packaged import packaged_data

OURS, THEIRS = "winnow", "CLIP_benchmark"
_ALL = ("fit", "twemoji", "noto-mono", "held-out-drawings")
SETS = {"full": _ALL, "medium": _ALL, "small": ("noto-mono",)}
MODELS = {
    "full": NamedTowers(name="ViT-B-32"),
    "medium": CustomTowers(
        embed_dim=128,
        image=VisionTransformer(image_size=64, width=192, layers=4),
        text=TextTransformer(width=192, layers=4),
    ),
    "small": CustomTowers(
        embed_dim=64,
        image=VisionTransformer(image_size=32, width=64, layers=1),
        text=TextTransformer(width=64, layers=1),
    ),
}
ABOUT = {
    "full": "ViT-B-32",
    "medium": "a ViT of 4 layers, width 192, 64 px",
    "small": "a ViT of one layer, width 64, 32 px",
}
TASKS = ("zeroshot_classification", "zeroshot_retrieval")
BATCH = 64
"""CLIP_benchmark's default, and taken for both."""
METRICS = {
    "acc1": "top1",
    "acc5": "top5",
    "mean_per_class_recall": "mean_per_class",
    **{f"text_retrieval_recall@{k}": f"image_to_text_recall@{k}" for k in (1, 5, 10)},
    **{f"image_retrieval_recall@{k}": f"text_to_image_recall@{k}" for k in (1, 5, 10)},
}


def main() -> None:
    """Take turns, and write one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SETS), default="medium")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    names, seconds = SETS[arguments.size], {OURS: [], THEIRS: []}
    tasks = packaged_data().tasks
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        Towers(MODELS[arguments.size]).export(folder / "model")
        sets = for_clip_benchmark(folder, {name: tasks[name] for name in names})
        for number in range(arguments.rounds):
            out = folder / f"round-{number}"
            seconds[OURS].append(winnow(folder, [tasks[name] for name in names], out / "ours"))
            print(f"winnow: {seconds[OURS][-1]:.1f} s", flush=True)
            seconds[THEIRS].append(clip_benchmark(folder, sets, out / "theirs"))
            print(f"CLIP_benchmark: {seconds[THEIRS][-1]:.1f} s", flush=True)
        compared = compare(out / "ours", out / "theirs")
    write_table("evaluation_suite", table(arguments.size, seconds, compared))


def for_clip_benchmark(folder: Path, tasks: dict[str, Path]) -> list[tuple[str, str, Path]]:
    """(Name, task, folder) of its runs: it takes a set for labels or for captions, not both."""
    runs = []
    for name, path in tasks.items():
        for task in TASKS:
            place = folder / "sets" / f"{name}-{task}"
            shutil.copytree(path, place)
            if task == "zeroshot_retrieval":
                (place / "dataset_type.txt").write_text("retrieval")
            runs.append((name, task, place))
    return runs


def winnow(folder: Path, tasks: list[Path], out: Path) -> float:
    """Seconds of one process for everything."""
    command = [
        *(str(Path(sys.executable).with_name("winnow")), "evaluate"),
        f"local-dir:{folder / 'model'}",
        *("--tasks", *map(str, tasks), "--protocols", "zero-shot", "retrieval"),
        *("--batch-size", str(BATCH), "--device", "cpu", "--out", str(out)),
    ]
    return timed(command)


def clip_benchmark(folder: Path, sets: list[tuple[str, str, Path]], out: Path) -> float:
    """Seconds of one process after the other."""
    out.mkdir(parents=True)
    script, seconds = Path(__file__).with_name("clip_benchmark_cli.py"), 0.0
    for name, task, place in sets:
        seconds += timed(
            [
                *(sys.executable, str(script), "eval", "--dataset", f"wds/{name}"),
                *("--dataset_root", str(place), "--task", task, "--no_amp", "--quiet"),
                *("--model", f"local-dir:{folder / 'model'}", "--pretrained", ""),
                *("--recall_k", "1", "5", "10", "--batch_size", str(BATCH), "--num_workers", "1"),
                *("--output", str(out / f"{name}-{task}.json")),
            ]
        )
    return seconds


def timed(command: list[str]) -> float:
    """Seconds of a process; what it says is shown if it fails."""
    began = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return seconds


def compare(ours: Path, theirs: Path) -> dict[str, float]:
    """The largest difference of each metric over the sets. Packaged captions repeat within a set,
    which CLIP_benchmark takes for other captions, and random weights give ties, which count against
    the model here: so they are shown and decide nothing.
    """
    lines = (ours / "results.jsonl").read_text().splitlines()
    found = {(row["task"], row["metric"]): row["value"] for row in map(json.loads, lines)}
    largest: dict[str, float] = {}
    for path in sorted(theirs.iterdir()):
        run = json.loads(path.read_text())
        name = run["dataset"].removeprefix("wds/")
        for metric, value in run["metrics"].items():
            difference = abs(value - found[name, METRICS[metric]])
            largest[metric] = max(largest.get(metric, 0.0), difference)
    return largest


def table(size: str, seconds: dict[str, list[float]], compared: dict[str, float]) -> Table:
    """Seconds and their ratio; so few runs give no interval."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = [b / a for a, b in zip(seconds[OURS], seconds[THEIRS], strict=True)]
    row = {
        "sets": len(SETS[size]),
        "rounds": len(ratios),
        "winnow, seconds": f"{median[OURS]:.1f}",
        "CLIP_benchmark, seconds": f"{median[THEIRS]:.1f}",
        "speed ratio (median)": f"{statistics.median(ratios):.2f}",
        "range": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }
    return Table(
        title=f"Zero-shot and retrieval on {len(SETS[size])} packaged sets, {ABOUT[size]}",
        columns=tuple(row),
        rows=[tuple(map(str, row.values()))],
        data=[{"seconds": seconds, "ratios": ratios, "largest differences": compared}],
        notes={
            "sets": ", ".join(SETS[size]),
            "model": f"{ABOUT[size]}, random weights",
            "batch size": BATCH,
            "runs": f"1 process against {len(SETS[size]) * len(TASKS)}",
            "largest difference of a number": f"{max(compared.values()):.5f}",
        },
    )


if __name__ == "__main__":
    main()
