"""Whole runs in several processes that find each other by a file, killed where a test wants it."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from multiprocessing import connection

from winnow.config import as_dict

CHILD = """
import os, sys
from pathlib import Path

import torch
from torch import distributed as dist

from winnow.config import load
from winnow.data.selection import Selection
from winnow.training import run, updates
from winnow.training.recipe import Recipe
from winnow.types import InputError, Interrupted

recipe_path, selection, out, store, rank, size, at, signal_number = sys.argv[1:]
torch.set_num_threads(1)
if int(size) > 1:
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(size)
    )
honest = updates.training_step

def step(*arguments, **options):
    if options["step"] == int(at):
        os.kill(os.getpid(), int(signal_number))
    return honest(*arguments, **options)

updates.training_step = step
try:
    run.train(load(Recipe, Path(recipe_path)), Selection.open(Path(selection)), Path(out))
except InputError as error:
    sys.exit(str(error))
except Interrupted as stop:
    print(stop, file=sys.stderr)
    sys.exit(stop.status)
"""


def run_on_ranks(recipe, selection, out, *, size, at=-1, signal_number=0, ranks=None, script=CHILD):
    """Train in `size` processes; `ranks` of them (all) signal themselves just before step `at`.

    Returns their finished processes, in order. Where one fails, those that wait for it are killed.
    """
    path, store = out.with_suffix(".json"), out.with_suffix(f".store-{size}-{at}")
    store.unlink(missing_ok=True)
    path.write_text(json.dumps(as_dict(recipe)))
    with ExitStack() as files:
        processes = []
        for rank in range(size):
            own_at = at if ranks is None or rank in ranks else -1
            arguments = [path, selection.directory, out, store, rank, size]
            arguments += [own_at, int(signal_number)]
            errors = files.enter_context(out.with_suffix(f".stderr-{rank}").open("w+"))
            command = [sys.executable, "-c", script, *map(str, arguments)]
            processes.append((subprocess.Popen(command, stderr=errors), errors))
        _wait([process for process, _ in processes])
        return [_finished(process, errors) for process, errors in processes]


def _wait(processes, *, seconds=240, grace=30):
    """Until all have ended; `grace` seconds after one has failed, the others are killed."""
    running = {os.pidfd_open(process.pid): process for process in processes}
    patience = seconds
    while running:
        ended = connection.wait(running, timeout=patience)
        for descriptor in ended:
            os.close(descriptor)
            if running.pop(descriptor).wait() != 0:
                patience = grace
        if not ended:
            for process in running.values():
                process.kill()


def _finished(process, errors):
    errors.seek(0)
    return subprocess.CompletedProcess(process.args[3:], process.returncode, "", errors.read())
