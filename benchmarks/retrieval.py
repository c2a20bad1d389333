"""Retrieval recall both ways from features: time and memory, beside CLIP_benchmark's metric.

Its `zeroshot_retrieval.evaluate` is given features as its model, so neither side embeds anything.
Both give recall at 1, 5 and 10 both ways; ours also the ranks, the nearest five and the median with
its interval. Before anything is timed, the recalls are compared.

- in turns: both in one process at a size where that is quick; only ratios count;
- at full size: one process each, one run each; the peak of memory beside the features is the
  high-water mark of the resident set, reset just before the run, less the resident set then.

    python benchmarks/retrieval.py [turns full] [--size small] [--rounds 10]
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from clip_benchmark.metrics import zeroshot_retrieval
from harness import RATIO_COLUMNS, Table, alternate, machine, ratio_of, ratio_rows, write_table
from loss_memory import resident

from winnow.evaluation.retrieval import RECALL_AT, retrieval, retrieval_measures

PARTS = ("turns", "full")
OURS, THEIRS = "winnow", "CLIP_benchmark"
WIDTH, CAPTIONS_EACH = 512, 5
SIZES = {"full": (10_000, 2_000), "small": (1_000, 300)}
"""Pictures of the single runs, and of those in turns; five times as many captions."""
BATCH = 64
"""CLIP_benchmark's default; it ranks as many queries at once."""
AIM = 1.0
MOST_DIFFERENCE = 5e-4


class Features(NamedTuple):
    """Captions lie five by five in the order of their pictures."""

    image_ND: torch.Tensor
    caption_MD: torch.Tensor


def main() -> None:
    """Measure what was asked for; each part replaces its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--one", nargs=2, metavar=("PEER", "PICTURES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one_run(PEERS[arguments.one[0]], int(arguments.one[1]))))
        return
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}, not {' '.join(arguments.parts)}")
    full, turns = SIZES[arguments.size]
    if "turns" in arguments.parts:
        write_table("retrieval", in_turns(turns, rounds=arguments.rounds))
    if "full" in arguments.parts:
        write_table("retrieval", at_full_size(full))


def in_turns(num_images: int, *, rounds: int) -> Table:
    """The ratio of the two in one process."""
    features = random_features(num_images)
    found = {name: run(features) for name, run in PEERS.items()}
    difference = largest_difference(found)
    times = alternate({name: partial(run, features) for name, run in PEERS.items()}, rounds=rounds)
    ratio = ratio_of(times, claim=sizes_of(num_images), ours=OURS, theirs=THEIRS, aim=AIM)
    return Table(
        title=f"Retrieval in turns, {sizes_of(num_images)}",
        columns=RATIO_COLUMNS,
        rows=ratio_rows([ratio]),
        data=[{"seconds": times, **found}],
        notes=facts() | {"largest difference of a recall": difference},
    )


def at_full_size(num_images: int) -> Table:
    """Time and memory of a single run each, each in its own process."""
    data = []
    for name in PEERS:
        print(f"{name}, {sizes_of(num_images)}", flush=True)
        command = [sys.executable, __file__, "--one", name, str(num_images)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            # What does not fit is killed: that is a result.
            data.append({"peer": name, "seconds": None, "bytes": None, "ended": run.returncode})
        else:
            data.append({"peer": name} | json.loads(run.stdout.splitlines()[-1]))
    found = {row["peer"]: row["recalls"] for row in data if row["bytes"] is not None}
    notes = facts() | {"features": f"{num_images * (1 + CAPTIONS_EACH) * WIDTH * 4 / 1e9:.2f} GB"}
    if len(found) == len(PEERS):
        notes["largest difference of a recall"] = largest_difference(found)
    return Table(
        title=f"Retrieval, one run each, {sizes_of(num_images)}",
        columns=("peer", "seconds", "peak beside the features"),
        rows=[
            (row["peer"], f"{row['seconds']:.1f}", f"{row['bytes'] / 1e9:.2f} GB")
            if row["bytes"] is not None
            else (row["peer"], f"ended with {row['ended']}", "-")
            for row in data
        ],
        data=data,
        notes=notes,
    )


def one_run(run: Callable[[Features], dict[str, float]], num_images: int) -> dict[str, object]:
    """Seconds, bytes and recalls of one run in this process."""
    run(random_features(100))  # libraries and thread pools are there before the baseline is taken
    features = random_features(num_images)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = resident("VmRSS")
    began = time.perf_counter()
    recalls = run(features)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "bytes": resident("VmHWM") - before, "recalls": recalls}


def random_features(num_images: int) -> Features:
    """Captions near their pictures, so that some are found and some are not."""
    generator = torch.Generator().manual_seed(0)
    image_ND = torch.randn(num_images, WIDTH, generator=generator)
    caption_MD = torch.randn(num_images * CAPTIONS_EACH, WIDTH, generator=generator).mul_(7)
    caption_MD.view(num_images, CAPTIONS_EACH, WIDTH).add_(image_ND[:, None])
    return Features(image_ND, caption_MD)


def winnow(features: Features) -> dict[str, float]:
    """Ours."""
    num_captions = len(features.caption_MD)
    caption_M = torch.arange(num_captions)
    pair_P2 = torch.stack([caption_M // CAPTIONS_EACH, caption_M], dim=1).numpy()
    answer = retrieval(features.image_ND.numpy(), features.caption_MD.numpy(), pair_P2)
    return {measure.metric: measure.value for measure in retrieval_measures(answer)}


def clip_benchmark(features: Features) -> dict[str, float]:
    """The peer, by our names."""
    num_images = len(features.image_ND)
    batches = (
        (
            features.image_ND[start : start + BATCH],
            [
                [str(i * CAPTIONS_EACH + c) for c in range(CAPTIONS_EACH)]
                for i in range(start, min(start + BATCH, num_images))
            ],
        )
        for start in range(0, num_images, BATCH)
    )
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        found = zeroshot_retrieval.evaluate(
            _AsModel(features.caption_MD),
            batches,
            lambda texts: torch.tensor([int(text) for text in texts]),
            device="cpu",
            amp=False,
            recall_k_list=list(RECALL_AT),
        )
    ways = {"image_to_text": "text_retrieval", "text_to_image": "image_retrieval"}
    return {
        f"{ours}_recall@{k}": found[f"{theirs}_recall@{k}"]
        for ours, theirs in ways.items()
        for k in RECALL_AT
    }


class _AsModel:
    """Pictures are features already; a text is the number of its feature."""

    def __init__(self, caption_MD: torch.Tensor) -> None:
        self._caption_MD = caption_MD

    def encode_image(self, image_BD: torch.Tensor) -> torch.Tensor:
        return image_BD

    def encode_text(self, index_B: torch.Tensor) -> torch.Tensor:
        return self._caption_MD[index_B]


PEERS = {OURS: winnow, THEIRS: clip_benchmark}


def largest_difference(found: dict[str, dict[str, float]]) -> float:
    """Of any recall. Cosines within 1e-6 are a miss here and go by rounding there, which is a
    query or two in tens of thousands; more ends the benchmark.
    """
    difference = max(abs(found[OURS][name] - found[THEIRS][name]) for name in found[THEIRS])
    if difference > MOST_DIFFERENCE:
        raise SystemExit(f"the recalls differ by {difference}: nothing to compare")
    return difference


def sizes_of(num_images: int) -> str:
    """As a row says it."""
    return f"{num_images:,} x {num_images * CAPTIONS_EACH:,} x {WIDTH}"


def facts() -> dict[str, object]:
    """What both tables were made with."""
    return machine() | {"threads": torch.get_num_threads()}


if __name__ == "__main__":
    main()
