"""torchrun starts all processes again where one dies, and they go on from the newest checkpoint."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_rank_runs import assert_close

from winnow.config import as_dict
from winnow.training.metrics import read_metrics
from winnow.training.run import train

WORKER = """
import faulthandler, os, signal, sys
from pathlib import Path

faulthandler.dump_traceback_later(150)  # where it stands, should it stand still

import torch

from winnow.config import load
from winnow.data.selection import Selection
from winnow.training import run, updates
from winnow.training.recipe import Recipe

recipe, selection, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
honest = updates.training_step

def step(*arguments, **options):
    is_first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if is_first_life and options["step"] == 7 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*arguments, **options)

updates.training_step = step
run.train(load(Recipe, recipe), Selection.open(selection), out)
"""


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_the_run_goes_on(with_workers, selection, tmp_path):
    worker, path, out = tmp_path / "worker.py", tmp_path / "recipe.json", tmp_path / "run"
    worker.write_text(WORKER)
    path.write_text(json.dumps(as_dict(with_workers)))
    torchrun = Path(sys.executable).parent / "torchrun"
    rendezvous = f"--rdzv-backend c10d --rdzv-endpoint {tmp_path / 'rendezvous'}".split()
    done = subprocess.run(
        [
            *(torchrun, "--nnodes", "1", "--nproc-per-node", "2", "--max-restarts", "1"),
            *(*rendezvous, "--rdzv-conf", "store_type=file", "--", worker),
            *(path, selection.directory, out),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "Signal 9 (SIGKILL)" in done.stderr or "-9" in done.stderr
    assert [row["step"] for row in read_metrics(out)] == list(range(1, with_workers.steps + 1))
    train(replace(with_workers), selection, tmp_path / "whole")
    assert_close(out, tmp_path / "whole")
