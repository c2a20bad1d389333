"""Checkpoints: distributed, written in the background, atomic, verified before they are read.

`save` copies the state and returns; a thread writes the copy while training goes on. Each rank
writes its share, by torch.distributed.checkpoint, under the names of parameters: how many ranks
there are and what wraps the model may change from one run to the next. A checkpoint counts from
the moment the first rank gives it its name, after all files and their digests are on the disk
(`checkpoint_files.py`). It costs one copy of a rank's state in host memory while it is written,
and none in between.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from winnow.distributed import world
from winnow.training import checkpoint_files as files
from winnow.types import InputError

T = TypeVar("T")

_PATIENCE = timedelta(hours=12)
"""With the slowest rank, which may still be evaluating when the first one saves."""


@dataclass(frozen=True)
class Loaded:
    """Where a run goes on."""

    step: int
    """So many steps are done."""
    damaged: tuple[str, ...]
    """Names of newer checkpoints that were damaged, newest first; they are set aside."""


class Checkpoints:
    """The checkpoints of one run in a folder that all ranks share.

    Every rank makes one and calls `save`, `load_newest` and `pin` alike. A state is nested dicts of
    tensors, numbers and strings. What a name stands for is one thing, of which ranks hold parts
    (DTensor) or copies: what differs from rank to rank needs a name for each.
    """

    def __init__(self, directory: Path, *, keep: int = 2, keep_every: int | None = None) -> None:
        self.directory = self._directory = directory
        self._retention = files.Retention(keep=keep, keep_every=keep_every)
        self._rank, self._size = world().rank, world().size
        # A group of its own: two threads of a rank must not use one group at the same time, and
        # the state is on the CPU when it is written, wherever training is.
        self._group: dist.ProcessGroup | None = None
        if dist.is_available() and dist.is_initialized():
            group = dist.new_group(backend="gloo", timeout=_PATIENCE)
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        else:
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._newest: int | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps in the background, then drop what is outdated.

        Waits for the save before this one, and raises what failed in it. A step that was saved or
        loaded before is there already and is not written again.
        """
        self.wait()
        if step == self._newest:
            return
        # Here, since it takes seconds, and is better not done beside training.
        from winnow.training.checkpoint_storage import write

        self._under_way = self._thread.submit(
            write,
            self._directory,
            step,
            _copy_on_cpu(state),
            retention=self._retention,
            group=self._group,
        )
        self._newest = step

    def failure(self) -> InputError | None:
        """What failed in the background on any rank, as far as this one knows; does not wait.

        Ranks learn of it at different times: let them agree before one of them stops.
        """
        if self._under_way is None or not self._under_way.done():
            return None
        error = self._under_way.exception()
        return error if isinstance(error, InputError) else None

    def wait(self) -> None:
        """Until what is under way counts. Raises what failed, InputError where the disk refused."""
        if self._under_way is None:
            return
        wait_for([self._under_way])
        done, self._under_way = self._under_way, None
        if done.exception() is not None:
            self._newest = None
        done.result()

    def close(self) -> None:
        """Let what is under way come to its end, well or not, before the ranks part."""
        self._thread.shutdown()

    def pin(self, step: int) -> None:
        """Never remove the checkpoint of `step`, until another is pinned; also in later runs.

        Raises InputError, on the first rank, where the disk refuses.
        """
        if self._rank == 0:
            with files.told(self._directory, self._directory):
                files.pin(self._directory, step)

    def load_newest(self, state: dict[str, Any]) -> Loaded | None:
        """Load the newest whole checkpoint into `state`, on all ranks the same one.

        None where there never was one. Tensors are filled in place, whatever their device or
        placement; other values are replaced in their dicts. Raises InputError, on every rank, where
        there are checkpoints and none is whole, since starting over would throw the run's progress
        away without a word; where one lacks something that `state` has; where the machines do not
        share the folder; where the checkpoints are of an earlier format.
        """
        from winnow.training.checkpoint_storage import read

        self.wait()
        damaged: list[int] = []
        for step in reversed(self._on_each(self._listed)[0]):
            if all(self._on_each(partial(self._has_whole_part, step))):
                read(self._directory, step, state, group=self._group)
                if damaged:
                    self._on_each(lambda: self._set_aside(damaged))
                self._newest = step
                return Loaded(step, tuple(map(_name, damaged)))
            damaged.append(step)
        aside = self._on_each(lambda: files.steps_in(self._directory, ".damaged"))[0]
        if damaged or aside:
            names = ", ".join(_name(step) for step in (*damaged, *reversed(aside)))
            raise InputError(
                f"every checkpoint in {self._directory} is damaged ({names}): restore one, or "
                "remove that folder to start over"
            )
        self._on_each(lambda: files.refuse_earlier_format(self._directory))
        return None

    def _on_each(self, find: Callable[[], T]) -> list[T]:
        """What `find` finds on each rank; an InputError of any is raised by all."""
        own: T | InputError
        try:
            with files.told(self._directory, self._directory):
                own = find()
        except InputError as error:
            own = error
        found: list[Any] = [own]
        if self._group is not None:
            found = [None] * self._size
            dist.all_gather_object(found, own, group=self._group)
        for one in found:
            if isinstance(one, InputError):
                raise one
        return found

    def _listed(self) -> list[int]:
        """The steps of checkpoints, from the first rank, which also clears up."""
        if self._rank > 0:
            return []
        files.sweep(self._directory)
        return files.steps_in(self._directory)

    def _has_whole_part(self, step: int) -> bool:
        return files.is_whole(self._directory, step, part=self._rank, parts=self._size)

    def _set_aside(self, damaged: list[int]) -> None:
        if self._rank == 0:
            for step in damaged:
                files.set_aside(self._directory, step)


def _name(step: int) -> str:
    return files.folder_of(Path(), step).name


def _copy_on_cpu(value: Any) -> Any:
    """The same state in host memory, which no training step changes."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_on_cpu(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy_on_cpu(one) for one in value)
    return value
