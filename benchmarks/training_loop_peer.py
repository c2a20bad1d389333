"""Runs open_clip's own training loop and notes when it logs; the peer of `training_loop.py`.

    PEER_PYTHON benchmarks/training_loop_peer.py CONFIG.json RECORD.jsonl [OPTION ...]

OPTION are open_clip_train's. It imports open_clip alone, so that it runs where winnow is not
installed. open_clip_train is called as its own command line calls it, with two additions: its log's
lines get a time that is finer than the second, and on a CPU `DistributedDataParallel` is not given
a list of devices, which open_clip 3.3 passes always and torch refuses there.
"""

import json
import logging
import re
import sys
import time
from pathlib import Path

import open_clip
import torch
from torch.nn import parallel

_PROGRESS = re.compile(r"Train Epoch: \d+ \[\s*(\d+)/")


class Recorder(logging.Handler):
    """One line of json for every line of progress: samples, seconds of a clock, memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w")

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line of progress; other lines are no business of ours."""
        found = _PROGRESS.match(record.getMessage())
        if found:
            row = {"samples": int(found[1]), "seconds": time.perf_counter()}
            if torch.cuda.is_available():
                row["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()


def main() -> None:
    """Train as open_clip does."""
    config, record, *options = sys.argv[1:]
    open_clip.add_model_config(config)
    logging.root.addHandler(Recorder(Path(record)))
    wrapped = parallel.DistributedDataParallel

    def without_devices(module, device_ids=None, **others):
        on_cpu = next(module.parameters()).device.type == "cpu"
        return wrapped(module, device_ids=None if on_cpu else device_ids, **others)

    parallel.DistributedDataParallel = without_devices

    from open_clip_train.main import main as train

    train(options)


if __name__ == "__main__":
    main()
