"""What earlier readings found, kept beside the features so that a set is not read twice for it.

A record is one json by (path, split): every file with its size and times, and the findings. It
counts as long as the same files are in the same state; an old or damaged one is as good as none.
Tables with pictures beside them have no record: only reading tells their files.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from winnow.config import from_dict, read_json, to_json
from winnow.data.files import is_remote, state_of
from winnow.data.folder import Folder
from winnow.evaluation.sets.reading import Findings
from winnow.types import InputError

VERSION = 1
"""Raised when readers find something else in the same files."""

States = dict[str, tuple[int, str]]
"""Size, and times of modification and of change (or entity tag), of every file."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What stands in one json."""

    version: int
    path: str
    split: str
    files: dict[str, tuple[int, str]]
    findings: Findings


def states_of(files: tuple[str, ...]) -> States:
    """As the files are now, without those that are gone: reading says best who misses them."""
    states = {}
    for file in files:
        with suppress(InputError, FileNotFoundError):
            size, changed = state_of(file)
            if not is_remote(file):
                # Whoever copies a file may keep its time of modification, but cannot set this one.
                changed += f" {Path(file).stat().st_ctime_ns}"
            states[file] = size, changed
    return states


def recall(records: Path, path: str, split: str, *, states: States) -> Findings | None:
    """What a reading of the very same files found; None where there was none."""
    try:
        file = records / _name(path, split)
        record = from_dict(Record, read_json(file), where=str(file))
    except InputError:
        return None
    kept = (record.version, record.path, record.split, record.files)
    return record.findings if kept == (VERSION, path, split, states) else None


def keep(records: Path, path: str, split: str, *, states: States, findings: Findings) -> None:
    """Write the record; several processes may do so at once."""
    record = Record(version=VERSION, path=path, split=split, files=states, findings=findings)
    Folder.at(records).write(_name(path, split), to_json(record).encode())


def _name(path: str, split: str) -> str:
    return hashlib.sha256(json.dumps([path, split]).encode()).hexdigest()[:32] + ".json"
