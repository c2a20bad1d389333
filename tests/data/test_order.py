import pickle
import tracemalloc

import numpy as np
import pytest

from winnow.data.order import Order
from winnow.types import InputError

COUNTS = np.array([1000, 0, 37, 1, 640, 999, 5, 512])


def order(**options) -> Order:
    facts = {"shard_counts": COUNTS, "seed": 0, "run_length": 16, "window_runs": 8} | options
    return Order(**facts)


def epoch(of: Order, number: int) -> np.ndarray:
    return of.rows(np.arange(number * len(of), (number + 1) * len(of)))


@pytest.mark.parametrize("options", [{}, {"run_length": 1}, {"window_runs": 1}, {"seed": -3}])
@pytest.mark.parametrize("number", [0, 1, 1000])
def test_each_epoch_is_every_row_once(options, number):
    rows = epoch(order(**options), number)
    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(COUNTS.sum()))


def test_a_position_has_one_row_whatever_was_asked_before():
    total = int(COUNTS.sum())
    positions = np.arange(3 * total)
    expected = order().rows(positions)
    random = np.random.default_rng(0)
    asked = order()
    for size in (1, 7, 100, 4000):
        for _ in range(20):
            some = random.choice(positions, size=size)
            assert np.array_equal(asked.rows(some), expected[some])
    for batch in (1, 13, 256):
        one = order()
        parts = [one.rows(positions[i : i + batch]) for i in range(0, 2 * total, batch)]
        joined = np.concatenate(parts)
        assert np.array_equal(joined, expected[: len(joined)])
    assert order().rows(np.array([5 * total])).item() == epoch(order(), 5)[0]
    grid = positions[:12].reshape(3, 4)
    assert np.array_equal(order().rows(grid), expected[:12].reshape(3, 4))


def test_the_order_is_the_one_it_was_when_this_was_written():
    # Resuming a run of an older version must go on in the same order.
    small = Order(shard_counts=np.array([40, 24]), seed=7, run_length=8, window_runs=3)
    assert small.rows(np.arange(60, 72)).tolist() == [
        48,
        62,
        54,
        56,
        48,
        58,
        62,
        60,
        54,
        61,
        36,
        57,
    ]


def test_seeds_and_epochs_differ():
    one = epoch(order(), 0)
    for other in (epoch(order(seed=1), 0), epoch(order(), 1)):
        assert np.mean(one == other) < 0.01
        # Not the same sequence shifted, and not the same runs beside each other.
        assert np.mean(np.diff(one) == np.diff(other)) < 0.02


def test_a_window_is_whole_runs_and_no_run_is_in_two():
    whole = order()
    total, seen = len(whole), []
    bounds = [tuple(run) for run in whole.runs(0, total)]
    assert sorted(row for start, end in bounds for row in range(start, end)) == list(range(total))
    shard_ends = np.cumsum(COUNTS)
    for start, end in bounds:
        assert 1 <= end - start <= 16
        assert np.searchsorted(shard_ends, start, "right") == np.searchsorted(
            shard_ends, end - 1, "right"
        )
    rows, place = epoch(whole, 0), 0
    for first in range(0, len(bounds), 8):
        window = [row for start, end in bounds[first : first + 8] for row in range(start, end)]
        assert sorted(rows[place : place + len(window)]) == sorted(window)
        place += len(window)
        seen += window
    assert place == total and len(set(seen)) == total


def test_the_shuffle_is_wide():
    wide = Order(shard_counts=np.array([50_000] * 4), seed=0, run_length=64, window_runs=64)
    rows = epoch(wide, 0)
    # Globally: a uniform permutation displaces by a third of the length on average.
    displaced = np.abs(rows - np.arange(len(rows))).mean() / len(rows)
    assert 0.25 < displaced < 0.42
    # Within a window: 256 rows come from nearly all of its 64 runs, and from all four shards.
    for start in range(0, 100_000, 9_973):
        batch = rows[start : start + 256]
        assert len(np.unique(batch // 64)) > 50
        assert len(np.unique(batch // 50_000)) == 4
    # Rows of one run do not come in their order.
    run = rows[(rows >= 640) & (rows < 704)]
    assert 0.3 < np.mean(np.diff(run) > 0) < 0.7


def test_what_is_announced_a_window_ahead_covers_every_step_and_no_run_twice():
    whole, batch = order(), 100
    ahead = whole.window
    announced = [tuple(run) for run in whole.runs(0, ahead)]
    for start in range(0, 2 * len(whole), batch):
        announced += [tuple(run) for run in whole.runs(start + ahead, start + ahead + batch)]
        for row in whole.rows(np.arange(start, start + batch)):
            assert any(first <= row < end for first, end in announced)
    assert announced == [tuple(run) for run in whole.runs(0, start + ahead + batch)]
    assert len(whole.runs(5, 5)) == 0


def test_memory_is_runs_and_a_window_not_rows():
    counts = np.full(4_000, 100_000)  # 400 million rows: their numbers alone would be 3.2 GB
    tracemalloc.start()
    rows = Order(shard_counts=counts, seed=0).rows(np.arange(10**8, 10**8 + 256))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(np.unique(rows)) == 256
    assert peak < 0.2e9


def test_it_can_be_sent_to_another_process():
    asked = order()
    expected = asked.rows(np.arange(100))
    sent = pickle.loads(pickle.dumps(asked))  # noqa: S301 - our own bytes
    assert np.array_equal(sent.rows(np.arange(100)), expected)


@pytest.mark.parametrize(
    "wrong", [{"shard_counts": np.array([0, 0])}, {"run_length": 0}, {"window_runs": 0}]
)
def test_what_makes_no_order_is_refused(wrong):
    with pytest.raises(InputError):
        order(**wrong)
