"""How a checkpoint is written and read: torch.distributed.checkpoint, and what it lacks.

The ranks agree three times on every save there: on who writes what (`prepare_global_plan`, on the
first rank), that all have written (`write_data`), and that it is finished (`finish`, on the first
rank again). What is done here is done within these, so what fails on one rank fails on all, and a
save is over for no rank before the checkpoint counts. A tensor that several ranks hold is written
by one of them, such that each writes about as much as the others.
"""

import shutil
from pathlib import Path
from typing import Any

from torch.distributed import ProcessGroup
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from winnow.training.checkpoint_files import (
    Retention,
    declare,
    folder_of,
    partial_of,
    pinned,
    remove,
    steps_in,
    sweep,
    told,
)
from winnow.types import InputError


def write(
    directory: Path,
    step: int,
    state: dict[str, Any],
    *,
    retention: Retention,
    group: ProcessGroup | None,
) -> None:
    """Write the state after `step` steps, let it count, and remove what it outdates.

    All ranks of `group`, which has a CPU backend, call it; None is a process alone. Raises
    InputError, on all of them, where the disk refuses on any; then nothing of it is left.
    """
    writer = _Writer(directory, step, retention)
    try:
        dcp.save(state, storage_writer=writer, process_group=group)
        return
    except CheckpointException as failed:
        reason = _sentence_in(failed)
        if reason is None:
            raise
    if group is None or group.rank() == 0:
        shutil.rmtree(partial_of(directory, step), ignore_errors=True)
    # Outside of the handler, whose traceback would keep the state alive.
    raise InputError(reason)


def read(directory: Path, step: int, state: dict[str, Any], *, group: ProcessGroup | None) -> None:
    """Fill `state` with what was saved after `step` steps, known to be whole; as `write`, by all.

    Raises InputError, on every rank, where it lacks something or a shape differs.
    """
    folder = folder_of(directory, step)
    reader = FileSystemReader(folder)
    try:
        dcp.load(state, storage_reader=reader, process_group=group)
    except CheckpointException as failed:
        _, (error, _) = min(failed.failures.items())
        reason = str(error).rstrip(".")
        raise InputError(
            f"{folder} is whole, but not a state of this run: {reason}; go on with the recipe "
            "and the version of winnow that wrote it, or train into another folder"
        ) from failed


class _Writer(FileSystemWriter):
    """Writes the checkpoint of one step, lets it count, and removes those it outdates.

    Every rank has one. What the disk refuses is an InputError within a CheckpointException.
    """

    def __init__(self, directory: Path, step: int, retention: Retention) -> None:
        super().__init__(partial_of(directory, step))
        self._directory, self._step, self._retention = directory, step, retention

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Nothing: the folder is the first rank's to make, so that it is empty."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the folder, after removing what killed writers left."""
        partial = partial_of(self._directory, self._step)
        with told(partial, self._directory):
            sweep(self._directory)
            partial.mkdir(parents=True)
        return super().prepare_global_plan(plans)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's file."""
        file = partial_of(self._directory, self._step) / f"{plan.storage_data.prefix}0.distcp"
        with told(file, self._directory):
            return super().write_data(plan, planner)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write what is where, let the checkpoint count, and remove those it outdates."""
        with told(partial_of(self._directory, self._step), self._directory):
            super().finish(metadata, results)
            # Not a listing of the folder, which on a network may lag behind what others wrote.
            written = {r.storage_data.relative_path for of_rank in results for r in of_rank}
            declare(self._directory, self._step, written)
            steps = steps_in(self._directory)
            for step in self._retention.outdated(steps, pinned(self._directory)):
                remove(self._directory, step)


def _sentence_in(failed: CheckpointException) -> str | None:
    """The sentence for the user that the first of the ranks with one has; None without any."""
    for _, (error, _) in sorted(failed.failures.items()):
        if isinstance(error, InputError):
            return str(error)
    return None
