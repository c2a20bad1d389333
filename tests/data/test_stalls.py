"""What the loader says and does when reading is slow, stands still, or dies; nobody sleeps here."""

import os
import re
import select
import signal
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from data_makers import sample_members, select_all, write_tar

from winnow.data import loader, workers
from winnow.data.augmentation import Augmentation
from winnow.data.batch import Batch
from winnow.data.loader import load_batches
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.data.sources import open_reader
from winnow.data.watch import Notes, Waiting, Watch, name_of_death
from winnow.types import InputError

PATIENCE = 60.0


def tokenize(captions: list[str]) -> torch.Tensor:
    return torch.tensor([[len(caption), ord(caption[-1])] for caption in captions])


@pytest.fixture(scope="module")
def selection(tmp_path_factory) -> Selection:
    directory = tmp_path_factory.mktemp("stalls")
    members = [part for n in range(24) for part in sample_members(f"k{n}", seed=n)]
    return select_all([write_tar(directory / "0.tar", members)], directory / "selection")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(workers, "_GRACE_SECONDS", 0.1)
    yield
    assert not active_children()


def batches(selection, **options):
    order = Order(shard_counts=selection.shard_counts, seed=3, run_length=8, window_runs=3)
    facts = {
        "tokenize": tokenize,
        "image_size": 16,
        "augmentation": Augmentation(),
        "batch_size": 4,
        "first_step": 0,
        "last_step": 6,
        "patience": PATIENCE,
    }
    return load_batches(selection, order, **facts | options)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(left, right)
        for batch, its_twin in zip(one, other, strict=True)
        for left, right in zip(batch, its_twin, strict=True)
        if left is not None
    )


class Gate:
    """Reads wait here until they are let through; time passes only while one waits."""

    def __init__(self, seconds_a_look: float) -> None:
        self.seconds, self.now = seconds_a_look, 0.0
        self._arrived, self._arrive = os.pipe()
        self._go, self._let_go = os.pipe()

    def wait(self) -> None:
        os.write(self._arrive, b".")
        os.read(self._go, 1)

    def has_arrived(self) -> bool:
        return bool(select.select([self._arrived], [], [], 0)[0])

    def let_one_through(self) -> None:
        os.read(self._arrived, 1)
        os.write(self._let_go, b".")

    def clock(self) -> float:
        if self.has_arrived():
            self.now += self.seconds
        return self.now


class Reads:
    """A reader that does something before it reads some keys."""

    def __init__(self, reader, before, keys) -> None:
        self._reader, self._before, self._keys = reader, before, keys

    def read(self, address) -> bytes:
        if address.key in self._keys:
            self._before()
        return self._reader.read(address)

    def will_need(self, *addresses) -> None:
        self._reader.will_need(*addresses)

    def __enter__(self):
        self._reader.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._reader.__exit__(*error)


def do_before(monkeypatch, before, keys) -> None:
    monkeypatch.setattr(
        loader,
        "open_reader",
        lambda shard, **options: Reads(open_reader(shard, **options), before, keys),
    )


def keys_of(selection: Selection, batch: Batch) -> list[str]:
    return [sample.address.key for sample in selection.samples(batch.row_B.numpy())]


@pytest.mark.parametrize("count", [1, 2])
def test_a_reader_that_stands_still_is_named_and_given_up(selection, monkeypatch, count):
    expected, gate, lines = list(batches(selection, workers=0)), Gate(5.0), []
    keys = keys_of(selection, expected[3])
    stuck = keys[2]
    do_before(monkeypatch, gate.wait, {stuck})
    found = []

    def clock() -> float:
        return gate.clock() if len(found) == 3 else 0.0

    with pytest.raises(InputError) as raised:
        for batch in batches(selection, workers=count, say=lines.append, clock=clock):
            found.append(batch)
    assert same(found, expected[:3])
    order = [key for _, key in sorted(zip(expected[3].row_B.tolist(), keys, strict=True))]
    state = (
        rf"worker {3 % count} \(process \d+\) has been reading {selection.shards[0]} "
        rf"\(key {stuck}\) for %s s, with {order.index(stuck)} of 4 pictures read"
    )
    raised.match(r"^reading stands still at step 3: " + state % r"6\d" + r"\. See whether")
    assert [line.split(" s ")[0] for line in lines] == ["waiting 10", "waiting 20", "waiting 40"]
    for line in lines:
        assert re.search(r" s for data: " + state % r"\d+" + "$", line)


@pytest.mark.parametrize("count", [0, 1])
def test_a_slow_disk_is_spoken_of_and_not_given_up(selection, monkeypatch, count):
    """40 s a picture, and a patience of 60: each of them moves."""
    expected, gate, lines = list(batches(selection, workers=0)), Gate(40.0), []
    do_before(monkeypatch, gate.wait, {f"k{n}" for n in range(24)})

    def clock() -> float:
        now = gate.clock()
        if gate.has_arrived():
            gate.let_one_through()
        return now

    found = list(batches(selection, workers=count, say=lines.append, clock=clock))
    assert same(found, expected)
    assert gate.now == 24 * 40.0
    assert any(line.startswith("waiting ") and "0.tar (key k" in line for line in lines)
    assert any(line.startswith("data again at step ") for line in lines)


def test_without_workers_a_stuck_read_is_told_of_and_waited_for(selection, monkeypatch):
    expected, gate, lines = list(batches(selection, workers=0)), Gate(5.0), []
    stuck = keys_of(selection, expected[1])[0]
    do_before(monkeypatch, gate.wait, {stuck})

    def clock() -> float:
        if gate.has_arrived() and gate.clock() == 100.0:
            gate.let_one_through()
        return gate.now

    assert same(list(batches(selection, workers=0, say=lines.append, clock=clock)), expected)
    assert lines[0].startswith("waiting 10 s for data: this process has been reading ")
    (told,) = [line for line in lines if line.startswith("reading stands still")]
    assert f"(key {stuck})" in told
    assert told.endswith("With --runtime.workers 1 or more it would have been given up")
    assert lines[-1].startswith("data again at step 1, after ")


def test_a_worker_that_is_killed_between_batches_costs_nothing(selection):
    """Its end is noticed where data is waited for, and nowhere else."""
    expected, lines = list(batches(selection, workers=0, last_step=24)), []
    loading = batches(selection, workers=2, last_step=24, say=lines.append)
    found = [next(loading), next(loading)]
    for process in active_children():
        os.kill(process.pid, signal.SIGKILL)
        # Left unreaped, as it is for whoever is told of it by a signal.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    found += loading
    assert same(found, expected)
    (line,) = lines
    assert "was ended by SIGKILL (most often for want of memory: " in line
    assert re.search(r": the workers start again at step \d, and nothing is lost$", line)


def test_no_lock_can_go_down_with_a_worker(selection, monkeypatch):
    """torch's loader asks an event that its workers ask too, and one may be killed meanwhile."""
    made, event = [], workers.LocklessEvent()
    monkeypatch.setattr(workers, "LocklessEvent", lambda: made.append(event) or event)
    loading = batches(selection, workers=1, last_step=2)
    next(loading)
    assert made == [event] and not event.is_set()
    loading.close()
    assert event.is_set()


@pytest.mark.slow  # starts a process with torch
def test_whoever_imports_it_still_says_how_processes_are_started():
    script = "import multiprocessing, winnow.data.workers as w; "
    script += "multiprocessing.set_start_method('spawn'); "
    script += "print(isinstance(w._context(), type(multiprocessing.get_context('spawn'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_that_is_killed_while_it_reads_is_named_and_replaced(
    selection, monkeypatch, tmp_path, count
):
    expected, lines = list(batches(selection, workers=0)), []
    fatal, mark = keys_of(selection, expected[2])[1], tmp_path / "died"

    def die_once() -> None:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    do_before(monkeypatch, die_once, {fatal})
    assert same(list(batches(selection, workers=count, say=lines.append)), expected)
    (line,) = lines
    assert f"while reading {selection.shards[0]} (key {fatal}): the workers start again" in line


def test_workers_that_die_again_and_again_are_given_up(selection, monkeypatch):
    expected, lines = list(batches(selection, workers=0)), []
    fatal = keys_of(selection, expected[2])[1]
    do_before(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGBUS), {fatal})
    with pytest.raises(InputError, match=rf"died 3 times .* SIGBUS .*/dev/shm.*{fatal}\)"):
        list(batches(selection, workers=1, say=lines.append))
    assert len(lines) >= 2


def test_what_goes_wrong_in_a_worker_is_not_taken_for_its_death(selection):
    def fail(captions: list[str]) -> torch.Tensor:
        raise RuntimeError("a tokenizer without words")

    with pytest.raises(RuntimeError, match="a tokenizer without words"):
        list(batches(selection, workers=1, tokenize=fail))


def test_closing_ends_a_worker_that_stands_still(selection, monkeypatch):
    expected, gate = list(batches(selection, workers=0)), Gate(1.0)
    do_before(monkeypatch, gate.wait, {keys_of(selection, expected[1])[0]})
    loading = batches(selection, workers=1)
    assert same([next(loading)], expected[:1])
    loading.close()
    assert not active_children()


@pytest.mark.slow
def test_a_program_that_fails_between_batches_ends(selection):
    """Though nobody closes the loader: the traceback holds it to the last."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_stalls import Selection, batches
loading = batches(Selection.open(Path({str(selection.directory)!r})), workers=2)
next(loading)
raise RuntimeError("enough")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == 1 and done.stderr.endswith(b"RuntimeError: enough\n")


@pytest.mark.parametrize("count", [0, 1])
def test_shards_that_vanish_while_they_are_read_are_named(tmp_path, count):
    """More than are open at once, so that some must be opened again."""
    shards = [
        write_tar(tmp_path / f"{n:02d}.tar", sample_members(f"{n}", seed=n)) for n in range(40)
    ]
    selection = select_all(shards, tmp_path / "selection")
    loading = batches(selection, workers=count, last_step=100)
    next(loading)
    for shard in shards:
        Path(shard).unlink()
    with pytest.raises(InputError, match=r"\d\d\.tar cannot be read: No such file"):
        list(loading)


def waiting(times: list[float], lines: list[str]) -> tuple[Waiting, Notes]:
    notes = Notes(2)
    notes.begin(1, 7, 4)
    notes.at(1, "reading a.tar (key k)")
    clock = iter(times).__next__
    return Waiting(7, notes, Watch(patience=60.0, say=lines.append, clock=clock)), notes


def test_a_clock_that_goes_back_loses_only_the_step_back():
    lines = []
    watched, _ = waiting([1000, 1006, 0, 6, 12], lines)
    assert [watched.look() for _ in range(4)] == [None] * 4
    watched.over()
    assert [line.split(":")[0] for line in lines] == [
        "waiting 12 s for data",
        "data again at step 7, after 18 s",
    ]


def test_an_hour_in_which_the_run_was_stopped_is_nobodys_fault():
    watched, notes = waiting([0.0, *range(3600, 3700)], lines := [])
    assert watched.look() is None
    notes.has_read(1)
    assert watched.look() is None
    errors = [watched.look() for _ in range(60)]
    assert errors[:59] == [None] * 59
    assert "for 60 s, with 1 of 4 pictures read" in str(errors[59])
    assert lines[0].startswith("waiting 3600 s for data: this process ")


def test_what_nobody_has_begun_is_said_to_be_so():
    notes, lines = Notes(2), []
    watched = Waiting(
        7, notes, Watch(patience=9.0, say=lines.append, clock=iter(range(99)).__next__)
    )
    errors = [watched.look() for _ in range(10)]
    assert errors[:9] == [None] * 9
    assert "no worker has begun the batch" in str(errors[9])


def test_notes_take_any_name():
    notes = Notes(1)
    notes.begin(0, 1, 1)
    notes.at(0, "reading " + "ü" * 1000)
    assert "ü" * 400 in notes.describe(1, still_seconds=1)
    notes.at(0, "reading \udcff.tar")
    assert "reading ?.tar for 2 s" in notes.describe(1, still_seconds=2)
    assert notes.of_process(os.getpid()) == " while reading ?.tar"
    assert notes.of_process(-5) == ""


def test_how_a_process_ended_is_named():
    assert name_of_death(3) == "ended with status 3"
    assert name_of_death(-11) == "was ended by SIGSEGV"
    assert "--shm-size" in name_of_death(-7)
