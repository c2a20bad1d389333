import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from data_makers import sample_members, select_all, write_tar

from winnow.data.mixture import MixedOrder, Mixture
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.types import InputError

COUNTS = (np.array([300, 0, 77]), np.array([40]), np.array([5, 1000, 6]))
WEIGHTS = (Fraction(1, 2), Fraction(1, 10), Fraction(2, 5))


def parts() -> tuple[Order, ...]:
    facts = {"run_length": 16, "window_runs": 4}
    return tuple(
        Order(shard_counts=counts, seed=seed, **facts) for seed, counts in enumerate(COUNTS)
    )


def mixed_order(**options) -> MixedOrder:
    facts = {"orders": parts(), "weights": WEIGHTS, "seed": 3, "block": 64}
    return MixedOrder(**facts | options)


@pytest.mark.parametrize("block", [11, 64, 100])
def test_every_source_has_its_share_of_every_number_of_blocks(block):
    sources = mixed_order(block=block).places(np.arange(200 * block)).sources
    for blocks in range(1, 201):
        seen = sources[: blocks * block]
        previous = Fraction()
        for source, weight in enumerate(WEIGHTS):
            count = int((seen == source).sum())
            end = previous + weight
            share = math.floor(len(seen) * end) - math.floor(len(seen) * previous)
            assert count == share
            assert abs(count - weight * len(seen)) < 1
            previous = end


@pytest.mark.parametrize("position", [0, 1, 63, 64, 65, 1000])
def test_the_positions_before_one_are_counted_by_source(position):
    sources = mixed_order().places(np.arange(position)).sources
    assert mixed_order().counts(position) == [int((sources == k).sum()) for k in range(3)]
    assert parts()[0].counts(position) == [position]


def test_each_source_is_its_own_order_uninterrupted():
    """Epochs, too: every row once in each, the small source's more often."""
    places = mixed_order().places(np.arange(6400))
    starts = np.cumsum([0, *(len(part) for part in parts())])
    for source, part in enumerate(parts()):
        own = places.rows[places.sources == source] - starts[source]
        assert np.array_equal(own, part.rows(np.arange(len(own))))
        epochs = places.epochs[places.sources == source]
        assert np.array_equal(epochs, np.arange(len(own)) // len(part))
    assert places.epochs[places.sources == 1].max() == 640 // 40 - 1
    assert places.epochs[places.sources == 2].max() == 2560 // 1011


def test_sources_are_scattered_within_a_block_and_otherwise_in_each():
    sources = mixed_order().places(np.arange(64 * 50)).sources.reshape(50, 64)
    assert len({row.tobytes() for row in sources}) == 50
    # Neighbours are of one source as often as chance has it.
    assert 0.30 < np.mean(sources[:, 1:] == sources[:, :-1]) < 0.54  # expected: 0.42
    other = mixed_order(seed=4).places(np.arange(64 * 50)).sources.reshape(50, 64)
    assert np.mean(sources == other) < 0.54


def test_a_place_is_the_same_whatever_was_asked_before():
    positions = np.arange(3000)
    expected = mixed_order().places(positions)
    random = np.random.default_rng(0)
    asked = mixed_order()
    for size in (1, 5, 100, 2000):
        for _ in range(10):
            some = random.choice(positions, size=size)
            found = asked.places(some)
            assert all(np.array_equal(a, b[some]) for a, b in zip(found, expected, strict=True))
    for batch in (1, 13, 256):
        one = mixed_order()
        rows = [one.places(positions[i : i + batch]).rows for i in range(0, 3000, batch)]
        assert np.array_equal(np.concatenate(rows), expected.rows)


def test_the_mixture_is_the_one_it_was_when_this_was_written():
    # Resuming a run of an older version must go on in the same order.
    places = mixed_order(block=16).places(np.arange(100, 116))
    assert places.sources.tolist() == [2, 0, 0, 1, 0, 2, 1, 2, 2, 0, 0, 0, 2, 2, 2, 0]
    assert places.rows[:6].tolist() == [555, 164, 268, 403, 264, 438]


def test_of_one_source_it_is_that_sources_order():
    (order, *_), positions = parts(), np.arange(1000)
    alone = MixedOrder(orders=(order,), weights=(Fraction(1),), seed=order.seed, block=64)
    for mine, its in zip(alone.places(positions), order.places(positions), strict=True):
        assert np.array_equal(mine, its)
    assert np.array_equal(alone.next_runs(100, 300), order.next_runs(100, 300))
    assert np.array_equal(alone.first_runs(100, 300), order.first_runs(100, 300))


@pytest.mark.parametrize("span", [(0, 50), (1000, 1050), (1000, 1000), (63, 500)])
def test_each_source_announces_what_its_own_order_would(span):
    sources = mixed_order().places(np.arange(span[1])).sources
    starts = np.cumsum([0, *(len(part) for part in parts())])
    expected = {"first_runs": [], "next_runs": []}
    for source, part in enumerate(parts()):
        own = [int((sources[:position] == source).sum()) for position in span]
        for name, runs in expected.items():
            runs += (getattr(part, name)(*own) + starts[source]).tolist()
    for name, runs in expected.items():
        assert getattr(mixed_order(), name)(*span).tolist() == runs
    assert span[0] == span[1] or expected["first_runs"]


@pytest.fixture(scope="module")
def selections(tmp_path_factory) -> dict[str, Selection]:
    """Of 30, 6 and 12 pairs."""
    folder, found = tmp_path_factory.mktemp("mixture"), {}
    for name, counts in {"large": (20, 10), "small": (6,), "middle": (12,)}.items():
        shards = []
        for shard, count in enumerate(counts):
            keys = [f"{name}-{shard}-{n}" for n in range(count)]
            members = [part for n, key in enumerate(keys) for part in sample_members(key, seed=n)]
            shards.append(write_tar(folder / f"{name}-{shard}.tar", members))
        found[name] = select_all(shards, folder / name)
    return found


def test_samples_come_back_from_their_sources(selections):
    mixture = Mixture.of(selections)
    assert len(mixture) == 48
    rows = np.random.default_rng(0).permutation(48)
    keys = [sample.address.key for sample in mixture.samples(rows)]
    expected = [
        sample.address.key
        for selection in selections.values()
        for sample in selection.samples(np.arange(len(selection)))
    ]
    assert keys == [expected[row] for row in rows]
    order = mixture.order(0)
    for place, source in zip(*order.places(np.arange(200))[::2], strict=True):
        (sample,) = mixture.samples(np.array([place]))
        assert sample.address.key.startswith(mixture.names[source])


def test_weights_are_taken_as_written_or_by_size(selections):
    assert Mixture.of(selections).weights == (Fraction(5, 8), Fraction(1, 8), Fraction(1, 4))
    asked = {"middle": 0.1, "large": 0.7, "small": 0.2}
    assert Mixture.of(selections, asked).weights == (
        *(Fraction(7, 10), Fraction(1, 5)),
        Fraction(1, 10),
    )
    twice = {name: 20 * weight for name, weight in asked.items()}
    assert Mixture.of(selections, twice).weights == Mixture.of(selections, asked).weights


def test_a_batch_may_be_no_larger_than_the_smallest_source_lets_it(selections):
    weights = {"large": 1, "small": 2, "middle": 1}
    assert Mixture.of(selections, weights).largest_batch == 12
    assert selections["large"].largest_batch == 30


def test_two_sources_of_one_size_are_not_walked_through_side_by_side(selections):
    one = selections["large"]
    order = Mixture.of({"a": one, "b": one}).order(5)
    first, second = (part.rows(np.arange(30)) for part in order.orders)
    assert np.array_equal(first, one.order(5).rows(np.arange(30)))
    assert np.mean(first == second) < 0.3


def test_a_fingerprint_is_of_the_parts_and_their_weights(selections):
    mixture = Mixture.of(selections)
    renamed = Mixture.of({name.upper(): part for name, part in selections.items()})
    assert renamed.fingerprint == mixture.fingerprint
    turned = Mixture.of(dict(reversed(selections.items())))
    weighted = Mixture.of(selections, dict.fromkeys(selections, 1))
    one = Mixture.of({"large": selections["large"]})
    assert len({m.fingerprint for m in (mixture, turned, weighted, one)}) == 4
    assert "62.5% large" in mixture.description


def test_it_can_be_sent_to_another_process(selections):
    mixture = Mixture.of(selections)
    sent = pickle.loads(pickle.dumps(mixture))  # noqa: S301 - our own bytes
    assert sent.fingerprint == mixture.fingerprint
    positions = np.arange(100)
    order = pickle.loads(pickle.dumps(mixture.order(1)))  # noqa: S301 - our own bytes
    for here, there in zip(
        mixture.order(1).places(positions), order.places(positions), strict=True
    ):
        assert np.array_equal(here, there)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"large": 1, "small": 1, "middle": 1, "tiny": 1}, "'tiny', which is no source"),
        ({"large": 1, "small": 1}, "'middle' has no weight"),
        ({"large": 1, "small": 0, "middle": 1}, "'small' is 0: it must be above 0"),
        ({"large": 1, "small": -1, "middle": 1}, "'small' is -1"),
        ({"large": 1, "small": float("nan"), "middle": 1}, "'small' is nan"),
        ({"large": 1, "small": float("inf"), "middle": 1}, "'small' is inf"),
        ({"large": 5000, "small": 1, "middle": 1}, r"'small' would have 0.0002 .* one in 4,096"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(selections, weights, message):
    with pytest.raises(InputError, match=message):
        Mixture.of(selections, weights)


def test_an_empty_source_is_refused_by_name(selections, tmp_path):
    empty = select_all([write_tar(tmp_path / "0.tar", [])], tmp_path / "empty")
    with pytest.raises(InputError, match="'nothing' holds no pairs"):
        Mixture.of({**selections, "nothing": empty})
