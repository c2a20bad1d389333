"""The Ray engine: the local engine's contract on a cluster, one task of one core per shard.

Rows of what is done are shards, not pictures: nothing but units and small records passes through
Ray, so its object store stays empty, the bytes written are those of the local engine, and one bad
shard is one bad task. What a unit names (shards, the folder written to, the environment's packages
and credentials) has to be within reach of every node.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from winnow.types import InputError

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def run(
    work: Callable[[Unit], Result], units: Iterable[Unit], *, workers: int
) -> Generator[Result, None, None]:
    """`work(unit)` of every unit, as they finish, with up to `workers` of them handed to Ray.

    The cluster is the one that `ray.init()` finds: the program's own, that of RAY_ADDRESS, one
    started on this machine, or else one for this run alone. Whatever `work` raises is raised here;
    a unit whose worker died is begun again, three times at most. On an error, on Ctrl-C and when
    the iterator is closed, units under way are abandoned. Raises InputError without Ray, and where
    workers die again and again.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}: give 1 or more")
    return _run_on_cluster(_import_ray(), work, units, workers=workers)


def _run_on_cluster(
    ray: Any, work: Callable[[Unit], Result], units: Iterable[Unit], *, workers: int
) -> Generator[Result, None, None]:
    remaining = iter(units)
    under_way: list[Any] = []
    with _connected(ray):
        # One core: Ray then tells OpenMP to run one thread, as there is one task on every core.
        task = ray.remote(num_cpus=1)(work)
        try:
            for unit in islice(remaining, workers):
                under_way.append(task.remote(unit))
            while under_way:
                finished, under_way = ray.wait(under_way, num_returns=1)
                for unit in islice(remaining, len(finished)):
                    under_way.append(task.remote(unit))
                for reference in finished:
                    yield _result(ray, reference)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"the ray engine needs the package ray ({error}): install `winnow-clip[ray]`"
        ) from error
    return ray


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within a cluster; a connection that is made here ends here, with what it started."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, logging_level="WARNING")
    except (ConnectionError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "of this machine")
        raise InputError(
            f"the Ray cluster {address} does not answer ({error}): start it, or unset RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # Its own text is a traceback of the worker's; what was raised there says one sentence.
        raise error.cause from error
    except ray.exceptions.RayError as error:
        # A worker or a node that died, or out of memory, again and again: many lines of advice.
        said = str(error).strip().partition("\n")[0]
        raise InputError(
            f"a task of the Ray cluster came to no end ({type(error).__name__}: {said}): the same "
            "command goes on with what is not done; with fewer --workers it takes less memory"
        ) from error
