"""The local engine: the same work on every unit, in this process or in a pool of processes.

A unit is a shard: a worker reads it, commits its own files and returns a small record. Nothing
else passes between processes, so the bytes written cannot depend on the number of workers.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from winnow.types import InputError

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def run(
    work: Callable[[Unit], Result], units: Iterable[Unit], *, workers: int
) -> Generator[Result, None, None]:
    """`work(unit)` of every unit, as they finish: in the order of `units` with one worker only.

    `work` is a module-level function; units and results can be pickled. Whatever `work` raises is
    raised here. On that, and on Ctrl-C, units under way in the pool are finished and no other is
    begun; so also when the iterator is closed. With one worker there is no pool, and the unit under
    way is abandoned. Raises InputError where a process of the pool dies.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}: give 1 or more")
    if workers == 1:
        return (work(unit) for unit in units)
    return _run_in_pool(work, units, workers=workers)


def _run_in_pool(
    work: Callable[[Unit], Result], units: Iterable[Unit], *, workers: int
) -> Generator[Result, None, None]:
    remaining, done = iter(units), 0
    # spawn: forking a process whose libraries hold threads and locks can deadlock the child.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        # Only as many units as workers are handed over, so that stopping has no queue to drain.
        under_way: set[Future[Result]] = {
            executor.submit(work, unit) for unit in islice(remaining, workers)
        }
        while under_way:
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                done += 1
            for unit in islice(remaining, len(finished)):
                under_way.add(executor.submit(work, unit))
    except BrokenProcessPool as error:
        raise InputError(
            f"a worker was killed, or ran out of memory, after {done:,} shards of this run: the "
            "same command goes on from there; with fewer --workers it takes less memory"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, die with it however it dies, and take one core."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        # Read when a library is first loaded, which none is yet in a process that was spawned.
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers of the pool run this"
    parent.join()
    os._exit(1)
