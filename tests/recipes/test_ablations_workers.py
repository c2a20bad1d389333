"""Processes for cells: reused, replaced where they break, stopped so that they save."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import ablation_jobs
import pytest

from winnow.recipes.ablations.workers import carry_out
from winnow.types import InputError


def job(kind, folder):
    folder.mkdir()
    return getattr(ablation_jobs, kind)(folder / "log.txt")


def test_one_process_takes_all_jobs_and_all_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = [job("Job", tmp_path / name) for name in "abc"]
    outcomes = list(carry_out(jobs, processes=1))
    assert outcomes == [(0, None), (1, None), (2, None)]
    said = {one.log.read_text() for one in jobs}
    assert len(said) == 1
    assert said.pop().split()[1] == str(len(os.sched_getaffinity(0)))
    assert "OMP_NUM_THREADS" not in os.environ
    assert list(carry_out([], processes=4)) == []


def test_processes_share_the_cores_unless_threads_are_given(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("winnow.recipes.ablations.workers._cores", lambda: 7)
    jobs = [job("Job", tmp_path / name) for name in "ab"]
    assert sorted(carry_out(jobs, processes=5)) == [(0, None), (1, None)]
    processes, threads = zip(*(one.log.read_text().split() for one in jobs), strict=True)
    assert len(set(processes)) == 2 and set(threads) == {"3"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    (alone,) = [job("Job", tmp_path / "c")]
    assert list(carry_out([alone], processes=1)) == [(0, None)]
    assert alone.log.read_text().split()[1] == "5"


def test_what_fails_is_told_and_does_not_stop_the_others(tmp_path):
    kinds = ("Refused", "Broken", "Killed", "Job")
    jobs = [job(kind, tmp_path / kind) for kind in kinds]
    outcomes = dict(carry_out(jobs, processes=1))
    assert outcomes == {
        0: "shard 3 is empty: leave it out",
        1: "its process ended with status 1",
        2: "its process was ended by SIGKILL",
        3: None,
    }
    assert jobs[0].log.read_text() == "winnow: shard 3 is empty: leave it out\n"
    assert "ZeroDivisionError: nobody expected this" in jobs[1].log.read_text()


def test_leaving_early_stops_what_is_under_way_and_waits_for_it(tmp_path):
    endless, short = job("Endless", tmp_path / "endless"), job("Job", tmp_path / "short")
    os.mkfifo(endless.folder / "begun")
    with closing(carry_out([endless, short], processes=2)) as outcomes:
        assert next(outcomes) == (1, None)
        assert (endless.folder / "begun").read_text() == "yes"
    assert (endless.folder / "saved").exists()
    assert endless.log.read_text() == "winnow: stopped\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_lets_jobs_save(number, tmp_path):
    """Ctrl-C in a terminal, and how a scheduler ends a job."""
    endless = job("Endless", tmp_path / "endless")
    os.mkfifo(endless.folder / "begun")
    script = (
        "import signal, sys; from pathlib import Path; from ablation_jobs import Endless\n"
        "from winnow import cli; from winnow.recipes.ablations.workers import carry_out\n"
        "if __name__ == '__main__':\n"
        # Whoever is started in the background of a script begins with Ctrl-C ignored.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    sys.argv[1:] = ['ablate', *sys.argv[1:]]\n"
        "    cli.VERBS['ablate'] = lambda a: list(carry_out([Endless(Path(a[0]))], processes=1))\n"
        "    cli.main()\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    child = subprocess.Popen(
        [sys.executable, str(path), str(endless.log)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert (endless.folder / "begun").read_text() == "yes"
    os.killpg(child.pid, number)
    error = child.communicate()[1]
    assert child.returncode == 128 + number
    assert (endless.folder / "saved").exists()
    assert error.startswith("winnow: ") and error.count("\n") == 1, error


def test_no_processes_are_refused(tmp_path):
    with pytest.raises(InputError, match="--jobs is 0: give 1 or more"):
        next(carry_out([job("Job", tmp_path / "a")], processes=0))
