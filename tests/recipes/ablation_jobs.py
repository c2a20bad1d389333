"""Jobs that processes of their own can carry out in milliseconds."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from winnow.types import InputError, Interrupted


@dataclass(frozen=True)
class Job:
    log: Path

    @property
    def folder(self):
        return self.log.parent

    def do(self):
        """Say which process does it, with how many threads."""
        print(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}", flush=True)


class Refused(Job):
    def do(self):
        raise InputError("shard 3 is empty: leave it out")


class Broken(Job):
    def do(self):
        raise ZeroDivisionError("nobody expected this")


class Killed(Job):
    def do(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Endless(Job):
    """Says through the pipe called `begun` that it has begun, and saves when it is stopped."""

    def do(self):
        try:
            (self.folder / "begun").write_text("yes")
            while True:
                signal.pause()
        except Interrupted:
            (self.folder / "saved").write_text("yes")
            raise
