"""SIGKILL at every operation on a file, and again: the bytes of a run that nothing disturbed."""

import json
import multiprocessing
import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import killing
import pytest

from winnow.data.selection import Selection

ORDERS = {
    "new": ([], ["000", "001", "002"]),
    "added before": (["001", "002"], ["000", "001", "002"]),
    "another order": (["000", "001", "002"], ["002", "000", "001"]),
}
"""Which shards were curated before, and which are while the process is killed."""


@pytest.fixture(scope="module")
def context():
    """Processes that start in milliseconds, from one that has imported all but run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killing"])
    return context


def run(context, function, *arguments) -> int | None:
    """The exit code of a process that calls `function`."""
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def contents(out: Path) -> dict[str, bytes]:
    """Every file of `out`, hidden ones too, but for the seconds that records tell."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): _without_seconds(path) for path in paths}


def _without_seconds(path: Path) -> bytes:
    if path.suffix != ".json" or not path.stem.isdecimal():
        return path.read_bytes()
    return json.dumps(json.loads(path.read_bytes()) | {"seconds": None}).encode()


def finished_files(out: Path) -> dict[Path, tuple[int, int]]:
    """The inode and time of every file of work that is done: other ones where it is redone."""
    records = [path for path in out.rglob("*.json") if path.stem.isdecimal()]
    files = [file for record in records for file in (record, record.with_suffix(".parquet"))]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def kept(out: Path) -> str | None:
    """The fingerprint of the selection, read whole; None where there is none."""
    folder = out / "selections" / "some"
    return Selection.open(folder).fingerprint if folder.exists() else None


class Undisturbed(NamedTuple):
    """A curation to compare with."""

    before: Path
    """What is there before a run that is killed."""
    shards: Sequence[str]
    contents: dict[str, bytes]
    """What is there after one that is not."""
    selections: set[str | None]
    """Those that may be found at any time."""
    operations: list[str]


@pytest.fixture(params=ORDERS)
def undisturbed(request, context, shards, tmp_path) -> Undisturbed:
    before, now = ([str(shards / f"{n}.tar") for n in names] for names in ORDERS[request.param])
    first, whole = tmp_path / "first" / "out", tmp_path / "whole" / "out"
    first.mkdir(parents=True)
    if before:
        killing.curate(before, first)
    shutil.copytree(first, whole)
    counted = tmp_path / "counted"
    assert run(context, killing.curate_and_count, now, whole, counted) == 0
    operations = counted.read_text().splitlines()
    return Undisturbed(first, now, contents(whole), {kept(first), kept(whole), None}, operations)


def kill_and_go_on(context, undisturbed: Undisturbed, out: Path, last: int) -> None:
    """Be killed before operation `last`, go on, and compare."""
    shutil.copytree(undisturbed.before, out)
    code = run(context, killing.curate_and_die, undisturbed.shards, out, last)
    assert code == -signal.SIGKILL
    assert kept(out) in undisturbed.selections
    finished = finished_files(out)
    killing.curate(undisturbed.shards, out)
    assert contents(out) == undisturbed.contents, undisturbed.operations[last]
    if kept(undisturbed.before) is None:
        assert finished.items() <= finished_files(out).items(), undisturbed.operations[last]
    else:
        # Shards change places, and their files with them: the rows that were read stay the same.
        read = {facts for path, facts in finished.items() if path.parent.name == "ledger"}
        assert read <= set(finished_files(out).values()), undisturbed.operations[last]


def test_killed_at_some_operations_it_goes_on_to_the_same_bytes(context, undisturbed, tmp_path):
    assert len(undisturbed.operations) > 20
    for last in random.Random(0).sample(range(len(undisturbed.operations)), 3):
        kill_and_go_on(context, undisturbed, tmp_path / f"{last}" / "out", last)


@pytest.mark.slow
def test_killed_at_any_operation_it_goes_on_to_the_same_bytes(context, undisturbed, tmp_path):
    for last in range(len(undisturbed.operations)):
        kill_and_go_on(context, undisturbed, tmp_path / f"{last}" / "out", last)
