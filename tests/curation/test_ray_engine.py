"""The Ray engine on a cluster of this machine: starting one takes most of a minute."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up import CountBytes, ManyLetters

from winnow.curation.annotate import annotate
from winnow.curation.engines import local
from winnow.curation.engines import ray as ray_engine
from winnow.curation.engines.slices import parse_slice
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.stages import plan_stages
from winnow.data.sources import open_source
from winnow.types import InputError


def double(number: int) -> int:
    return 2 * number


def die_once(marker: Path) -> str:
    """Be killed, as on a node that is taken away, before the second attempt."""
    if not marker.exists():
        marker.write_bytes(b"")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die_always(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("three")
    return number


def threads(_: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def clean_environment(folder: Path) -> dict[str, str]:
    """No cluster but one of our own, which finds this file and leaves nothing in the home."""
    (folder / "token").write_text("0123456789abcdef" * 4)
    ours = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    return {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "OMP_NUM_THREADS")
    } | ours


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two cores that the engine finds started."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)
        for name, value in clean_environment(tmp_path_factory.mktemp("ray")).items():
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="WARNING")
        yield ray
        ray.shutdown()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"winnow-clip\[ray\]"):
        ray_engine.run(double, [1], workers=1)


def test_no_worker_is_an_input_error():
    with pytest.raises(InputError, match="workers is 0"):
        ray_engine.run(double, [1], workers=0)


@pytest.mark.slow
def test_every_unit_has_one_result(cluster):
    for workers in (1, 3):
        results = list(ray_engine.run(double, range(7), workers=workers))
        assert sorted(results) == [0, 2, 4, 6, 8, 10, 12]
    assert list(ray_engine.run(double, [], workers=2)) == []
    assert cluster.is_initialized()


@pytest.mark.slow
def test_what_the_work_raises_is_raised_here_as_it_was(cluster):
    with pytest.raises(InputError) as error:
        list(ray_engine.run(refuse_three, range(7), workers=2))
    assert type(error.value) is InputError
    assert str(error.value) == "three"


@pytest.mark.slow
def test_a_unit_whose_worker_died_is_begun_again(cluster, tmp_path):
    assert list(ray_engine.run(die_once, [tmp_path / "begun"], workers=1)) == ["done"]
    assert (tmp_path / "begun").exists()


@pytest.mark.slow
def test_a_unit_whose_workers_all_die_is_one_sentence(cluster):
    with pytest.raises(InputError, match=r"came to no end \(WorkerCrashedError: .*fewer --workers"):
        list(ray_engine.run(die_always, [0], workers=1))


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "WorkerCrashedError", "ObjectLostError"])
def test_what_ray_cannot_finish_is_one_sentence(kind):
    exceptions = pytest.importorskip("ray.exceptions")
    error = getattr(exceptions, kind).__new__(getattr(exceptions, kind))
    error.__class__ = type(kind, (getattr(exceptions, kind),), {"__str__": lambda _: "one\ntwo"})

    def get(_: object) -> None:
        raise error

    with pytest.raises(InputError) as caught:
        ray_engine._result(SimpleNamespace(get=get, exceptions=exceptions), None)
    assert f"({kind}: one): the same command goes on" in str(caught.value)


@pytest.mark.slow
def test_a_task_has_one_thread(cluster):
    assert list(ray_engine.run(threads, range(3), workers=2)) == ["1"] * 3


@pytest.mark.slow
def test_units_are_asked_for_only_as_tasks_finish(cluster):
    asked = []

    def units() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    run = ray_engine.run(double, units(), workers=3)
    next(run)
    assert len(asked) <= 4
    run.close()
    assert len(asked) <= 4


def annotated(shards: Path, out: Path, **how) -> dict[str, bytes]:
    """The rows of the ledger and of a sidecar, by the name of their file."""
    stages = plan_stages((CaptionLength(min_words=3), ManyLetters()), [CountBytes()])
    annotate(open_source(str(shards)), out, stages=stages, **how)
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.parquet")}


@pytest.mark.slow
def test_every_engine_and_the_slices_together_write_the_same_bytes(cluster, shards, tmp_path):
    alone = annotated(shards, tmp_path / "alone", workers=1)
    assert len(alone) == 6
    assert annotated(shards, tmp_path / "pool", workers=2, engine=local.run) == alone
    assert annotated(shards, tmp_path / "ray", workers=3, engine=ray_engine.run) == alone
    for index in (1, 0):
        part = parse_slice(f"{index}/2")
        sliced = annotated(shards, tmp_path / "slices", workers=1, part=part)
        assert (sliced == alone) is (index == 0)


@pytest.mark.slow
def test_ctrl_c_ends_a_cluster_that_the_run_started_with_all_its_processes(tmp_path):
    pytest.importorskip("ray")
    script = tmp_path / "endless.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "from winnow.curation.engines import ray\n"
        # Ctrl-C is ignored by what a shell started in the background, and by its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait_forever(pipe):\n"
        "    os.write(os.open(pipe, os.O_WRONLY), b'x')\n"
        "    threading.Event().wait()\n"
        "if __name__ == '__main__':\n"
        "    list(ray.run(wait_forever, [sys.argv[1]] * 9, workers=2))\n"
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    parent = subprocess.Popen([sys.executable, script, pipe], env=clean_environment(tmp_path))
    try:
        assert select.select([reader], [], [], 120)[0], "no task has begun"
        assert os.read(reader, 1) == b"x"
        parent.send_signal(signal.SIGINT)
        assert parent.wait(timeout=120) != 0
        # A pipe ends when the last process that holds it is gone; before, this is BlockingIOError.
        while os.read(reader, 1):
            pass
    finally:
        parent.kill()
        parent.wait()
        os.close(reader)
