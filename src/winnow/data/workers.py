"""The processes that read batches: started, waited for, started again where one dies, ended.

A batch is a function of its step, so what was read and not yet handed out when a worker died is
read once more: nothing is lost and nothing comes twice.
"""

import atexit
import ctypes
import multiprocessing
import signal
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, connection
from multiprocessing.context import BaseContext
from multiprocessing.sharedctypes import RawValue
from typing import Protocol

import torch
from torch.utils.data import DataLoader

from winnow.data.batch import Batch
from winnow.data.watch import Notes, Waiting, Watch, name_of_death
from winnow.types import InputError

_LOOK_EVERY_SECONDS = 1.0
_GRACE_SECONDS = 2.0
_DEATHS_IN_A_ROW = 3


class Steps(Protocol):
    """Batches by their step; in a worker it is a copy."""

    notes: Notes

    def __getitem__(self, step: int) -> Batch | InputError:
        """A batch, or what a user can mend: raised in a worker it would come out wrapped."""


def read_steps(
    steps: Steps, *, first_step: int, last_step: int, workers: int, prefetch: int, watch: Watch
) -> Generator[Batch, None, None]:
    """The batches of steps [first_step, last_step), `prefetch` ahead in each of the workers.

    Without workers this process reads: it can say that it is stuck, and cannot stop being so. There
    are no more batches where the watch says, while one is waited for, that the wait shall stop.
    Raises InputError where one comes instead of a batch, where a worker stands still for longer
    than the watch is patient, and where workers die three times without a batch between.
    """
    if workers == 0:
        yield from _read_here(steps, first_step, last_step, watch)
        return
    step, deaths = first_step, 0
    while step < last_step:
        steps.notes.clear()
        pool = _Pool(steps, range(step, last_step), workers, prefetch)
        try:
            while (batch := _wait_for(pool, step, steps.notes, watch)) is not None:
                if isinstance(batch, InputError):
                    raise batch
                yield batch
                step, deaths = step + 1, 0
                if step == last_step:
                    return
            if watch.stops():
                return
            cause = pool.cause_of_death(steps.notes)
        finally:
            pool.close()
        deaths += 1
        if deaths == _DEATHS_IN_A_ROW:
            raise InputError(
                f"those who read died {deaths} times before the batch of step {step} came; "
                f"the last time {cause}. The same command goes on from the last checkpoint"
            )
        watch.say(f"{cause}: the workers start again at step {step}, and nothing is lost")


def _read_here(
    steps: Steps, first_step: int, last_step: int, watch: Watch
) -> Generator[Batch, None, None]:
    batches = iter(_loader(steps, range(first_step, last_step), workers=0))
    for step in range(first_step, last_step):
        with _looked_at(Waiting(step, steps.notes, watch), watch):
            batch = next(batches)
        if isinstance(batch, InputError):
            raise batch
        yield batch


@contextmanager
def _looked_at(waiting: Waiting, watch: Watch) -> Iterator[None]:
    """Look at the waiting from a thread, while this one is busy with what is waited for."""
    is_over = threading.Event()

    def look() -> None:
        is_told = False
        while not is_over.wait(_LOOK_EVERY_SECONDS):
            error = waiting.look()
            if error is not None and not is_told:
                watch.say(f"{error}. With --runtime.workers 1 or more it would have been given up")
                is_told = True

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    waiting.over()


def _wait_for(pool: "_Pool", step: int, notes: Notes, watch: Watch) -> Batch | InputError | None:
    """The batch of `step`; None where a worker died, or the watch stops."""
    waiting = Waiting(step, notes, watch)
    while (batch := pool.take()) is None:
        if pool.has_died() or watch.stops():
            return None
        error = waiting.look()
        if error is not None:
            raise error
    waiting.over()
    return batch


class _Pool:
    """Workers that read the batches of `wanted` in turn, and give them in order."""

    def __init__(self, steps: Steps, wanted: range, workers: int, prefetch: int) -> None:
        others = set(active_children())
        handler = signal.getsignal(signal.SIGCHLD)
        self._batches: Iterator[Batch | InputError] | None = iter(
            _loader(steps, wanted, workers=workers, prefetch=prefetch)
        )
        # torch's handler raises, when a worker dies, in whatever the main thread is at: that may be
        # half-way through an update of the weights. Here it is found out by whoever waits.
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGCHLD, handler)
        self._processes = set(active_children()) - others
        # At its end Python waits for all of them, and they do not listen to being asked to end.
        atexit.register(self._kill)

    def take(self) -> Batch | InputError | None:
        """The next batch; None where it has not come within a look's time, or a worker died."""
        assert self._batches is not None
        try:
            return next(self._batches)
        except (RuntimeError, OSError, EOFError) as error:
            if str(error).startswith("DataLoader timed out"):
                return None
            # What a dead one left half done may be noticed before its end is.
            if connection.wait([process.sentinel for process in self._processes], timeout=1.0):
                return None
            raise

    def has_died(self) -> bool:
        """Whether one of the workers has ended."""
        return any(process.exitcode is not None for process in self._processes)

    def cause_of_death(self, notes: Notes) -> str:
        """Which worker ended by what, and what it was at."""
        pid, code = next(
            (process.pid, process.exitcode)
            for process in self._processes
            if process.exitcode is not None
        )
        assert pid is not None and code is not None
        return f"a worker (process {pid}) {name_of_death(code)}{notes.of_process(pid)}"

    def close(self) -> None:
        """End the workers: when they have read what they are at, or soon."""
        atexit.unregister(self._kill)
        # When Python ends they have ended before, and no thread can be started any more.
        if any(process.is_alive() for process in self._processes):
            reaper = threading.Timer(_GRACE_SECONDS, self._kill)
            reaper.start()
            self._batches = None
            reaper.cancel()
            self._kill()  # they are alive where an error's traceback holds what was to end them
        self._batches = None
        for process in self._processes:
            process.join(_GRACE_SECONDS)

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


class LocklessEvent:
    """Set once, by one process, and asked by all: a byte that they share, and no lock.

    multiprocessing's own takes a lock to be asked. A worker that is killed with that lock in its
    hands leaves torch's loader, which asks too, waiting for ever.
    """

    def __init__(self) -> None:
        self._is_set = RawValue(ctypes.c_bool, False)

    def set(self) -> None:
        """Tell all."""
        self._is_set.value = True

    def is_set(self) -> bool:
        """Whether it was told."""
        return bool(self._is_set.value)


def _context() -> BaseContext:
    """How processes are started by default now, with events that need no lock."""
    kind = type(multiprocessing.get_context())  # not at import: asking settles the method
    context: BaseContext = type("_Context", (kind,), {"Event": lambda _: LocklessEvent()})()
    return context


def _loader(
    steps: Steps, wanted: range, *, workers: int, prefetch: int | None = None
) -> DataLoader:
    return DataLoader(
        steps,  # type: ignore[arg-type]
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        prefetch_factor=prefetch,
        timeout=_LOOK_EVERY_SECONDS if workers else 0,
        multiprocessing_context=_context() if workers else None,
        pin_memory=torch.cuda.is_available(),
        # Its own generator: workers would else be seeded from torch's state, and a resumed run,
        # which starts them once more, would find another state in its dropout.
        generator=torch.Generator(),
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    # Ctrl-C goes to every process of the terminal, and schedulers end whole process groups; the
    # main process decides what becomes of it, and saves. Its end is the workers' end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module="PIL")  # the ledger says which pictures are odd
