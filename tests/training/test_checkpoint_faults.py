"""A kill at any moment and a full disk: the newest whole checkpoint is there, and is found."""

import re
import signal

import pytest
from checkpoint_processes import (
    forked,
    go_on_from,
    in_new_process,
    save_and_die_after,
    save_four_and_die,
    save_four_and_note,
    save_on_a_full_disk,
)

DECLARING = re.compile(r"os\.rename .*/step-(\d+)\.partial")


def kill_at_every_operation(folder):
    assert forked(save_four_and_note, folder / "whole", folder / "noted") == 0
    operations = (folder / "noted").read_text().splitlines()
    declared = [int(m[1]) if (m := DECLARING.fullmatch(one)) else 0 for one in operations]
    assert list(filter(None, declared)) == [1, 2, 3, 4]
    for last, operation in enumerate(operations):
        directory = folder / f"killed-{last}"
        assert forked(save_four_and_die, directory, last) == -signal.SIGKILL, operation
        # The operation at which it was killed did not happen.
        newest = max(declared[:last], default=0) or None
        assert forked(go_on_from, directory, newest) == 0, operation


def kill_within_a_file(folder):
    for size in (0, 1, 100, 4097, 9999):
        directory = folder / f"killed-after-{size}"
        assert forked(save_and_die_after, directory, size) == -signal.SIGXFSZ
        assert (directory / "step-00000002.partial" / "__0_0.distcp").stat().st_size == size
        assert forked(go_on_from, directory, 1) == 0


def fill_the_disk(folder):
    for size in (0, 4096, 10_000):
        directory, told = folder / f"full-{size}", folder / f"told-{size}"
        assert forked(save_on_a_full_disk, directory, size, told) == 0
        assert re.fullmatch(
            rf"{directory}/step-00000002\.partial/__0_0\.distcp cannot be used for a checkpoint: "
            r"File too large, with \d+\.\d GB free there; once that is mended, the same command "
            r"goes on from step 1",
            told.read_text(),
        )


def kill_and_fill(folder):
    kill_within_a_file(folder)
    fill_the_disk(folder)


# In one process each, of which the others are forked: torch takes seconds to import.
@pytest.mark.slow
def test_killed_within_a_file_or_with_a_full_disk_a_run_goes_on_from_the_one_before(tmp_path):
    in_new_process(kill_and_fill, tmp_path)


@pytest.mark.slow
def test_killed_at_any_operation_on_a_file_a_run_goes_on_from_the_newest_whole_one(tmp_path):
    in_new_process(kill_at_every_operation, tmp_path)
