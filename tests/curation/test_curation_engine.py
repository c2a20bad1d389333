import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from winnow.curation.engines import local
from winnow.curation.engines.slices import WHOLE, parse_slice
from winnow.types import InputError


def double(number: int) -> int:
    return 2 * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("three")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_every_unit_has_one_result():
    assert list(local.run(double, range(7), workers=1)) == [0, 2, 4, 6, 8, 10, 12]
    assert sorted(local.run(double, range(7), workers=2)) == [0, 2, 4, 6, 8, 10, 12]
    assert list(local.run(double, [], workers=2)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_is_raised_here(workers):
    with pytest.raises(InputError, match="three"):
        list(local.run(refuse_three, range(7), workers=workers))


def test_a_worker_that_is_killed_is_one_sentence():
    done = []
    with pytest.raises(InputError, match="a worker was killed, or ran out of memory") as caught:
        for number in local.run(die_at_three, range(4), workers=2):
            done.append(number)
    assert f"after {len(done)} shards of this run" in str(caught.value)


def test_no_worker_is_an_input_error():
    with pytest.raises(InputError, match="workers is 0"):
        local.run(double, [1], workers=0)


def test_units_are_asked_for_only_as_workers_come_free():
    asked = []

    def units() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    for workers in (1, 2):
        asked.clear()
        run = local.run(double, units(), workers=workers)
        next(run)
        assert len(asked) <= 2 * workers
        run.close()


def test_workers_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(
        "import sys, threading\n"
        "from winnow.curation.engines import local\n"
        "def wait_forever(unit):\n"
        "    print('at work', flush=True)\n"
        "    threading.Event().wait()\n"
        "if __name__ == '__main__':\n"
        "    list(local.run(wait_forever, range(2), workers=2))\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == [b"at work\n"] * 2
    parent.send_signal(signal.SIGKILL)
    # The pipe ends when the last process that holds it is gone.
    assert parent.communicate(timeout=60) == (b"", None)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_slices_share_the_shards_out_and_leave_none(count):
    slices = [parse_slice(f"{index}/{count}") for index in range(count)]
    taken = [[number for number in range(17) if number in one] for one in slices]
    assert sorted(number for numbers in taken for number in numbers) == list(range(17))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert [str(one) for one in slices] == [f"{index}/{count}" for index in range(count)]


def test_the_whole_is_the_only_slice_of_one():
    assert parse_slice("0/1") == WHOLE


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/2", "2/2", "3/2", "0/0", "-1/2", "1.0/2", "a/b", "1/2/3", " 0/2"]
)
def test_what_is_no_slice_is_refused_by_name(text):
    with pytest.raises(InputError) as error:
        parse_slice(text)
    assert repr(text) in str(error.value)
