"""Where a program spends its time, by looking at its stack a few hundred times a second.

Unlike a tracing profiler it does not slow small functions down. What a library does counts for the
function of winnow that called it.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import winnow

INTERVAL = 0.003
_ROOT = str(Path(winnow.__file__).parent) + "/"


def where_time_goes(run: Callable[[], object]) -> Counter[str]:
    """Seconds of `run()` by function of winnow, as `curation/corpus.py: _caption_hashes`."""
    seconds: Counter[str] = Counter()
    watched, done = threading.get_ident(), threading.Event()

    def watch() -> None:
        before = time.perf_counter()
        while not done.wait(INTERVAL):
            place = _innermost(sys._current_frames().get(watched))
            now = time.perf_counter()
            # Not counted by samples: while C code holds the lock of Python none can be taken.
            seconds[place] += now - before
            before = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return seconds


def _innermost(frame: FrameType | None) -> str:
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_ROOT):
            function = frame.f_code.co_qualname.partition(".<locals>")[0]
            return f"{file.removeprefix(_ROOT)}: {function}"
        frame = frame.f_back
    return "outside"
