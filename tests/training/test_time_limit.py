import subprocess
import sys
import time

import pytest

from winnow.training import time_limit
from winnow.training.time_limit import TimeLimit, seconds_gone, seconds_of
from winnow.types import InputError


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("3:50:00", 13_800),
        ("0:00:30", 30),
        ("1-12:00:00", 129_600),
        ("90m", 5400),
        ("3.5h", 12_600),
        ("45 s", 45),
        ("2d", 172_800),
    ],
)
def test_lengths_of_time_as_schedulers_and_people_write_them(limit, seconds):
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize("limit", ["", "90", "3:50", "1:60:00", "1:00:60", "-1h", "soon", "nan h"])
def test_anything_else_is_refused_with_examples(limit):
    with pytest.raises(InputError, match=r"is no length of time: write 3:50:00"):
        seconds_of(limit)


@pytest.mark.parametrize("limit", ["0:00:00", "0m"])
def test_no_time_at_all_is_refused(limit):
    with pytest.raises(InputError, match="leaves no time"):
        seconds_of(limit)


def test_time_is_up_when_the_clock_says_so():
    now = [100.0]
    limit = TimeLimit("2m", clock=lambda: now[0])
    for at, is_up in ((100, False), (219.9, False), (220, True), (400, True)):
        now[0] = at
        assert limit.is_up is is_up


def test_without_a_limit_it_never_is():
    assert not TimeLimit(None, clock=lambda: float("inf")).is_up


def test_what_went_before_a_restart_counts(monkeypatch):
    monkeypatch.setattr(time_limit, "seconds_gone", lambda: 50.0)
    now = [100.0]
    limit = TimeLimit("2m", clock=lambda: now[0])
    for at, is_up in ((100, False), (169.9, False), (170, True)):
        now[0] = at
        assert limit.is_up is is_up


CHILD = """
import time
from winnow.training.time_limit import seconds_gone
print(time.clock_gettime(time.CLOCK_BOOTTIME) - seconds_gone())
"""
PARENT = """
import os, subprocess, sys, time
print(time.clock_gettime(time.CLOCK_BOOTTIME))
for count in "01":
    environment = os.environ | {"TORCHELASTIC_RESTART_COUNT": count}
    command = [sys.executable, "-c", sys.argv[1]]
    print(subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip())
"""


def test_a_process_that_is_started_again_counts_from_its_parent_s_start():
    """As said by both: torchrun is the parent of those it starts."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system does not tell")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    said = subprocess.check_output([sys.executable, "-c", PARENT, CHILD], text=True)
    begun, first_life, second_life = map(float, said.split())
    tick = 0.02  # the system counts in hundredths of a second
    assert before - tick <= second_life <= begun + tick and begun < first_life
    assert seconds_gone() == 0.0
