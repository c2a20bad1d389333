"""Checkpoints in processes of their own: killed at a chosen moment, on a full disk, of many ranks.

One new process imports torch; those in which things happen are forked from it, in milliseconds.
"""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed as dist

import winnow.training.checkpoint_storage  # noqa: F401 - so that no fork has to import it
from winnow.training.checkpoint import Checkpoints
from winnow.training.checkpoint_files import is_whole, steps_in
from winnow.types import InputError

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR


def in_new_process(function: Callable, *arguments) -> None:
    """Call `function` where nothing has run yet; whatever it raises fails the test."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def forked(function: Callable, *arguments) -> int | None:
    """The exit code of a copy of this process that calls `function`."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def ranks(size: int, folder: Path, function: Callable, *arguments) -> None:
    """Call `function(rank, size, *arguments)` in so many processes that work together."""
    context, rendezvous = (
        multiprocessing.get_context("fork"),
        folder / f"rendezvous-{os.urandom(4).hex()}",
    )
    started = [
        context.Process(target=_rank, args=(rank, size, rendezvous, function, arguments))
        for rank in range(size)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * size


def _rank(rank: int, size: int, rendezvous: Path, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    function(rank, size, *arguments)
    dist.destroy_process_group()


def state_of(step: int) -> dict:
    """A state of some 20 kB in which every value tells the step."""
    weights = {str(index): torch.full((20, 30), float(step)) for index in range(4)}
    return {"weights": weights, "step": step}


def step_found(directory: Path) -> int | None:
    """The step that a run would go on from; its state is asserted to be that step's."""
    state = state_of(-1)
    found = Checkpoints(directory).load_newest(state)
    if found is None:
        assert state["step"] == -1
        return None
    assert not found.damaged
    assert state["step"] == found.step
    assert all((weight == found.step).all() for weight in state["weights"].values())
    return found.step


def save_four(directory: Path) -> None:
    """Four checkpoints, of which two stay, and the second for being pinned."""
    checkpoints = Checkpoints(directory, keep=1)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, state_of(step))
        checkpoints.wait()
        if step == 2:
            checkpoints.pin(2)


def save_four_and_note(directory: Path, noted: Path) -> None:
    """The same, writing down every operation on a file or folder before it happens."""
    operations: list[str] = []
    _watch(directory, operations.append)
    save_four(directory)
    noted.write_text("\n".join(operations))


def save_four_and_die(directory: Path, last: int) -> None:
    """The same, killed as operation number `last` (from 0) is about to begin."""
    seen: list[str] = []

    def count(operation: str) -> None:
        if len(seen) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(operation)

    _watch(directory, count)
    save_four(directory)


def _watch(directory: Path, note: Callable[[str], None]) -> None:
    def audit(event: str, arguments: tuple) -> None:
        if event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING):
            path = str(arguments[0])
            # Most of shutil.rmtree names what it removes within an open folder.
            if path.startswith(str(directory)) or event == "os.remove":
                note(f"{event} {path}")

    synchronise = os.fsync

    def flush(descriptor: int) -> None:
        note(f"os.fsync {Path(f'/proc/self/fd/{descriptor}').readlink()}")
        synchronise(descriptor)

    sys.addaudithook(audit)
    os.fsync = flush


def go_on_from(directory: Path, expected: int | None) -> None:
    """What a run does that finds the checkpoint of step `expected`: it leaves nothing else."""
    assert step_found(directory) == expected
    assert not list(directory.glob("step-*.partial"))
    assert all(is_whole(directory, step) for step in steps_in(directory))
    checkpoints = Checkpoints(directory, keep=1)
    checkpoints.save(9, state_of(9))
    checkpoints.wait()
    assert step_found(directory) == 9
    assert (directory / "step-00000002").is_dir() == (directory / "pinned.json").is_file()


def save_and_die_after(directory: Path, size: int) -> None:
    """A whole checkpoint, then one in which the kernel kills at byte `size` of a file."""
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, state_of(1))
    checkpoints.wait()
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_files(size)
    checkpoints.save(2, state_of(2))
    checkpoints.wait()


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond `size` bytes; what would is refused (EFBIG)."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size >= 0 else hard, hard))


def save_on_a_full_disk(directory: Path, size: int, told: Path) -> None:
    """A whole checkpoint, one that does not fit, and one when there is room again."""
    checkpoints = Checkpoints(directory)
    checkpoints.save(1, state_of(1))
    checkpoints.wait()
    limit_files(size)
    checkpoints.save(2, state_of(2))
    try:
        checkpoints.wait()
    except InputError as error:
        limit_files(-1)
        told.write_text(str(error))
    assert not list(directory.glob("step-*.partial"))
    assert step_found(directory) == 1
    checkpoints.save(3, state_of(3))
    checkpoints.wait()
    assert step_found(directory) == 3
