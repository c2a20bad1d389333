"""Processes that carry out jobs: each imports once and takes one job after the other.

A job that fails by bad input is told by the sentence; whatever else goes wrong ends its process,
whose last words are in the job's log, and the next job gets a new one. Nothing that a process
computes passes through here.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from winnow.types import InputError, Interrupted

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Work(Protocol):
    """A job; it can be pickled."""

    @property
    def log(self) -> Path:
        """Where what it says is appended."""

    def do(self) -> None:
        """Carry it out. Raises InputError, or Interrupted on SIGTERM once its state is saved."""


class Outcome(NamedTuple):
    """How a job ended."""

    number: int
    """Its place among the jobs given."""
    error: str | None
    """None: well."""


def carry_out(jobs: Sequence[Work], *, processes: int) -> Generator[Outcome, None, None]:
    """Do all jobs, as many at a time as there are processes; outcomes as they come.

    Cores are shared out evenly, unless the environment says how many threads to take. Where this
    is left early, by Ctrl-C say, jobs under way are told to stop, save, and are waited for; a
    second Ctrl-C ends them at once. A script that calls this needs the usual
    `if __name__ == "__main__"`.
    """
    if processes < 1:
        raise InputError(f"--jobs is {processes}: give 1 or more")
    waiting, idle = deque(enumerate(jobs)), list[_Worker]()
    busy: dict[Connection, tuple[_Worker, int]] = {}
    threads = max(1, math.floor(_cores() / min(processes, max(1, len(jobs)))))
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                number, job = waiting.popleft()
                worker = idle.pop() if idle else _Worker(threads)
                worker.connection.send(job)
                busy[worker.connection] = (worker, number)
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker, number = busy.pop(connection)
                try:
                    error = connection.recv()
                    idle.append(worker)
                except EOFError:
                    error = worker.last_words()
                yield Outcome(number, error)
    finally:
        _end(idle, [worker for worker, _ in busy.values()])


class _Worker:
    """A process that waits for jobs at the other end of `connection`."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        # Not a daemon: those may have no processes of their own, and loaders do.
        self.process = context.Process(target=_serve, args=(far_end,), daemon=False)
        with _as_workers_begin(threads):
            self.process.start()
        far_end.close()

    def last_words(self) -> str:
        """How a process that is gone has ended."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with status {code}"


@contextmanager
def _as_workers_begin(threads: int) -> Iterator[None]:
    """Within, a process that is started takes so many threads and leaves Ctrl-C to this one.

    Both are read as it begins, before any code of ours runs there.
    """
    added = {name: str(threads) for name in _THREADS if name not in os.environ}
    on_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if on_main else None
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        if on_main:
            signal.signal(signal.SIGINT, handler)


def _end(idle: Sequence[_Worker], busy: Sequence[_Worker]) -> None:
    """Let go of idle ones, stop busy ones, and wait for all."""
    workers = [*idle, *busy]
    try:
        for worker in workers:
            worker.connection.close()
        for worker in busy:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
        raise


def _serve(connection: Connection) -> None:
    """What a worker does: jobs, until there are no more."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
        while True:
            job: Work = connection.recv()
            _say_into(job.log)
            connection.send(_error_of(job))


def _error_of(job: Work) -> str | None:
    try:
        # Outside a job there is nothing to save, and a stop ends the process as it always does.
        signal.signal(signal.SIGTERM, _stop)
        job.do()
    except InputError as error:
        _say(str(error))
        return str(error)
    except Interrupted as stop:
        _say(str(stop))
        sys.exit(stop.status)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return None


def _say(words: str) -> None:
    sys.stderr.write(f"winnow: {words}\n")
    sys.stderr.flush()


def _say_into(log: Path) -> None:
    """Append to the file whatever this process and its own processes say."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _stop(number: int, _: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted("stopped", number)


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers run this"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
