"""Maps a pure function over many items in several processes, results in the items' order."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from winnow.progress import Advance, track

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_PER_TASK = 64
_WORTH_A_PROCESS = 500  # items below which starting processes takes longer than the work


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    what: str,
    processes: int | None = None,
) -> list[Result]:
    """`[function(item) for item in items]`; `processes` None means one per available core.

    `what` names the work in the line of progress.
    """
    processes = processes or os.cpu_count() or 1
    bar = track(what, total=len(items), unit="pictures")
    if processes == 1 or len(items) < _WORTH_A_PROCESS:
        with bar as advance:
            return _collect(map(function, items), advance)
    # Not forked: the caller may have threads (torch's, a progress bar's) that a fork would break.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool, bar as advance:
        return _collect(pool.map(function, items, chunksize=_ITEMS_PER_TASK), advance)


def _collect(results: Iterable[Result], advance: Advance) -> list[Result]:
    collected = []
    for result in results:
        collected.append(result)
        advance()
    return collected
