"""A curation that is killed at a chosen operation on a file, in a process of its own."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from made_up import CountBytes, ManyLetters

from winnow.curation.annotate import AnnotateResult, annotate
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.duplicates import DuplicatePicture
from winnow.curation.select import select
from winnow.curation.stages import plan_stages
from winnow.data.sources import open_source

RULES = (CaptionLength(min_words=2), DuplicatePicture(), ManyLetters())
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR


def curate(shards: Sequence[str], out: Path) -> AnnotateResult:
    """Ledger, sidecars and selection of the shards; pictures that are looked at are noted."""
    stages = plan_stages(RULES, [CountBytes(log=out.with_name("looked-at.txt"))])
    result = annotate(open_source(shards), out, workers=1, stages=stages)
    select(out, RULES, name="some")
    return result


def curate_and_count(shards: Sequence[str], out: Path, counted: Path) -> None:
    """The same, noting how many operations change a file or a folder beside `out`."""
    operations: list[str] = []
    _watch(out.parent, operations.append)
    curate(shards, out)
    counted.write_text("\n".join(operations))


def curate_and_die(shards: Sequence[str], out: Path, last: int) -> None:
    """The same, killed as operation number `last` (from 0) is about to begin."""
    seen: list[str] = []

    def count(operation: str) -> None:
        if len(seen) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(operation)

    _watch(out.parent, count)
    curate(shards, out)


def _watch(folder: Path, note) -> None:
    """Tell `note` of every change to a file below `folder`, before it happens."""

    def audit(event: str, arguments: tuple) -> None:
        if event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING):
            path = arguments[0]
            if isinstance(path, str | Path) and str(path).startswith(f"{folder}/"):
                note(f"{event} {path}")

    sys.addaudithook(audit)
