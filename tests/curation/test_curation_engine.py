import signal
import subprocess
import sys

import pytest

from winnow.curation import engine
from winnow.types import InputError


def double(number: int) -> int:
    return 2 * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("three")
    return number


def test_every_unit_has_one_result():
    assert list(engine.run(double, range(7), workers=1)) == [0, 2, 4, 6, 8, 10, 12]
    assert sorted(engine.run(double, range(7), workers=2)) == [0, 2, 4, 6, 8, 10, 12]
    assert list(engine.run(double, [], workers=2)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_is_raised_here(workers):
    with pytest.raises(InputError, match="three"):
        list(engine.run(refuse_three, range(7), workers=workers))


def test_no_worker_is_an_input_error():
    with pytest.raises(InputError, match="workers is 0"):
        engine.run(double, [1], workers=0)


def test_workers_die_with_a_killed_parent(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(
        "import sys, threading\n"
        "from winnow.curation import engine\n"
        "def wait_forever(unit):\n"
        "    print('at work', flush=True)\n"
        "    threading.Event().wait()\n"
        "if __name__ == '__main__':\n"
        "    list(engine.run(wait_forever, range(2), workers=2))\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == [b"at work\n"] * 2
    parent.send_signal(signal.SIGKILL)
    # The pipe ends when the last process that holds it is gone.
    assert parent.communicate(timeout=60) == (b"", None)
