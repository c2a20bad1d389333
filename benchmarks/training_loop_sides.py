"""The two sides of `training_loop.py`: how each is started, and what its own log says.

Speed is read from the log of each, over the steps after the warm-up: start-up, which both spend on
imports, and the first fill of the peer's shuffle buffer do not count.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from winnow.models import CustomTowers, NamedTowers

PEER_SCRIPT = Path(__file__).with_name("training_loop_peer.py")
LOG_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both sides are asked to train."""

    name: str
    model: CustomTowers | NamedTowers
    pictures: int
    """Side in pixels at which the packaged pictures were drawn."""
    batch_size: int
    """Over all processes."""
    precision: str = "fp32"
    """winnow's name of it."""
    processes: int = 1
    workers: int = 1
    """Of each process."""
    warmup: int = 10
    """Steps that do not count."""
    steps: int = 40
    """Of a run, those of the warm-up included."""
    threads: int | None = None
    """Of each process, for arithmetic; none: the cores, shared out."""
    device: str = "cpu"
    winnow_options: tuple[str, ...] = ()
    """What `winnow train` is also told."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one run said."""

    samples_per_second: float
    memory_gb: float | None = None
    """The GPU's, at its peak."""
    mfu: float | None = None


class OutOfMemoryError(Exception):
    """The run did not fit."""


def run_winnow(case: Case, selection: Path, folder: Path) -> Speed:
    """`winnow train`, and its metrics.jsonl."""
    launcher = _launcher(sys.executable, case.processes, "-m")
    command = ["winnow", "train", "clip", "--data", str(selection), "--out", str(folder)]
    options = {
        "--batch-size": case.batch_size,
        "--steps": case.steps,
        "--precision": case.precision,
        "--runtime.workers": case.workers,
        "--runtime.device": case.device,
        "--runtime.log-every": LOG_EVERY,
        "--runtime.checkpoint-every": case.steps,
    }
    words = [word for name, value in options.items() for word in (name, str(value))]
    _run(
        [*launcher, *command, *words, *_model_words(case.model), *case.winnow_options],
        case,
        folder.with_suffix(".log"),
        env=dict(os.environ),
    )
    config = json.loads((folder / "model" / "open_clip_config.json").read_text())["model_cfg"]
    assert config == case.model.open_clip_config(), "winnow trained another model"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    laps = [
        (case.batch_size * (row["step"] - before), row["samples_per_second"])
        for before, row in zip([0, *(row["step"] for row in rows)], rows, strict=False)
        if before >= case.warmup
    ]
    memory = [row["memory_gb"] for row in rows if "memory_gb" in row]
    return Speed(
        samples_per_second=sum(samples for samples, _ in laps)
        / sum(samples / rate for samples, rate in laps),
        memory_gb=max(memory) if memory and case.device == "cuda" else None,
        mfu=rows[-1].get("mfu"),
    )


def run_open_clip(case: Case, shards: Path, folder: Path, *, python: Path) -> Speed:
    """open_clip_train, and the lines of its log.

    With several processes it gets the two options without which its gradient depends on their
    number (`--local-loss --gather-with-grad`).
    """
    folder.mkdir(parents=True)
    config = folder / "benchmark-towers.json"
    config.write_text(json.dumps(case.model.open_clip_config()))
    tars = sorted(shards.glob("*.tar"))
    options = {
        "--model": config.stem,
        "--train-data": f"{shards}/{{{tars[0].stem}..{tars[-1].stem}}}.tar",
        "--train-num-samples": case.steps * case.batch_size,
        "--dataset-type": "webdataset",
        "--batch-size": case.batch_size // case.processes,
        "--precision": {"fp32": "fp32", "bf16": "amp_bf16"}[case.precision],
        "--workers": case.workers,
        "--device": case.device,
        "--epochs": 1,
        "--warmup": 2000,
        "--lr": 5e-4,
        "--wd": 0.2,
        "--beta1": 0.9,
        "--beta2": 0.98,
        "--eps": 1e-6,
        "--grad-clip-norm": 1.0,
        "--log-every-n-steps": LOG_EVERY,
        "--logs": folder / "logs",
        "--name": "run",
        "--save-frequency": 1,
    }
    words = [str(word) for pair in options.items() for word in pair]
    if case.processes > 1:
        words += ["--local-loss", "--gather-with-grad"]
    record, launcher = folder / "record.jsonl", _launcher(str(python), case.processes)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    _run(
        [*launcher, str(PEER_SCRIPT), str(config), str(record), *words],
        case,
        folder.with_suffix(".log"),
        env=environment,
    )
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    counted = [row for row in rows if row["samples"] >= case.warmup * case.batch_size]
    first, last = counted[0], counted[-1]
    return Speed(
        samples_per_second=(last["samples"] - first["samples"])
        / (last["seconds"] - first["seconds"]),
        memory_gb=last.get("memory_gb"),
    )


def _launcher(python: str, processes: int, *options: str) -> list[str]:
    if processes == 1:
        return [python, *options]
    launcher = [python, "-m", "torch.distributed.run", "--standalone"]
    # Without the dashes torchrun takes --logs for the beginning of an option of its own.
    return [*launcher, "--nproc-per-node", str(processes), *options, "--"]


def _run(command: list[str], case: Case, log: Path, *, env: dict[str, str]) -> None:
    """Run one side; its output goes to `log`, the end of which is in the error if it fails."""
    cores = len(os.sched_getaffinity(0))
    env["OMP_NUM_THREADS"] = str(case.threads or max(1, cores // case.processes))
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=env, check=False)
    if done.returncode:
        words = log.read_text(errors="replace")
        if "out of memory" in words.lower():
            raise OutOfMemoryError(str(log))
        raise RuntimeError(f"{' '.join(command)} failed; {log} ends:\n{words[-3000:]}")


def _model_words(model: CustomTowers | NamedTowers) -> list[str]:
    """The model as options of `winnow train clip`."""
    if isinstance(model, NamedTowers):
        return ["--model.name", model.name]
    kinds = {"VisionTransformer": "vision-transformer", "TimmImageTower": "timm-image-tower"}
    words = ["--model.embed-dim", str(model.embed_dim)]
    for part in ("image", "text"):
        tower = getattr(model, part)
        for own in fields(tower):
            name = f"--model.{part}.{own.name.replace('_', '-')}"
            words += [name, str(getattr(tower, own.name))]
    image = kinds[type(model.image).__name__]
    return ["model:custom-towers", f"model.image:{image}", *words]
