import numpy as np
import pytest

from winnow.curation import hamming
from winnow.curation.hamming import HammingIndex, check_radius, choose_apart
from winnow.types import InputError


def clustered(seed: int, centres: int, copies: int, flips: int) -> np.ndarray:
    """Random hashes and, of each, copies with at most so many bits flipped; in random order."""
    random = np.random.default_rng(seed)
    hashes = np.repeat(random.integers(0, 1 << 63, centres, dtype=np.uint64), copies)
    for _ in range(flips):
        bits = np.uint64(1) << random.integers(0, 64, len(hashes)).astype(np.uint64)
        hashes ^= np.where(random.random(len(hashes)) < 0.7, bits, np.uint64(0))
    return random.permutation(hashes)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one[:, None] ^ other[None]).astype(int)


def literally_kept(hashes: np.ndarray, radius: int) -> list[bool]:
    kept: list[int] = []
    for row, value in enumerate(hashes.tolist()):
        if all((value ^ int(hashes[k])).bit_count() > radius for k in kept):
            kept.append(row)
    return [row in set(kept) for row in range(len(hashes))]


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 7, 10])
def test_nearest_is_that_of_all_pairs(radius):
    hashes = clustered(1, 60, 5, 4)
    asked = np.concatenate([hashes[:50], clustered(1, 60, 5, 6), clustered(9, 50, 1, 0)])
    near = HammingIndex(hashes, radius=radius).nearest(asked)
    table = distances(asked, hashes)
    least = table.min(axis=1)
    is_near = least <= radius
    assert 0 < is_near.sum() < len(asked)
    assert near.distance.tolist() == np.where(is_near, least, -1).tolist()
    assert near.place.tolist() == np.where(is_near, table.argmin(axis=1), -1).tolist()


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 7, 10])
def test_what_is_kept_is_what_a_double_loop_keeps(radius):
    for seed in range(3):
        hashes = clustered(seed, 40, 8, 5)
        assert choose_apart(hashes, radius=radius).tolist() == literally_kept(hashes, radius)


@pytest.mark.parametrize("blocks", range(3, 9))
def test_no_pair_is_lost_whatever_the_number_of_blocks(monkeypatch, blocks):
    monkeypatch.setattr(hamming, "_choose_masks", lambda _, radius: hamming._masks(blocks, radius))
    hashes = clustered(5, 30, 8, 3)
    near = HammingIndex(hashes, radius=2).nearest(hashes[::-1])
    assert near.place.tolist() == distances(hashes[::-1], hashes).argmin(axis=1).tolist()
    assert choose_apart(hashes, radius=2).tolist() == literally_kept(hashes, 2)


def test_a_chain_keeps_every_link_that_is_far_from_those_kept_before():
    chain = np.array([(1 << n) - 1 for n in range(12)], dtype=np.uint64)
    kept = np.flatnonzero(choose_apart(chain, radius=2)).tolist()
    assert kept == [0, 3, 6, 9]  # 1 and 2 are near 0; 3 is near 1 and 2, but not near 0


@pytest.mark.parametrize("candidates", [64, 1 << 21])
def test_crowds_are_thinned_out_in_pieces_with_the_same_result(monkeypatch, candidates):
    hashes = np.concatenate([clustered(2, 2, 400, 4), clustered(3, 100, 1, 0)])
    expected = literally_kept(hashes, 3)
    assert sum(expected) < 600
    monkeypatch.setattr(hamming, "_FEW_PAIRS", 50)
    halved = []
    settle = hamming._settle
    monkeypatch.setattr(
        hamming, "_settle", lambda h, rows, r: halved.append(len(rows)) or settle(h, rows, r)
    )
    monkeypatch.setattr(hamming, "_CANDIDATES", candidates)
    assert choose_apart(hashes, radius=3).tolist() == expected
    assert len(halved) > 5


def test_equal_hashes_cost_one():
    hashes = np.full(200_000, 12345, dtype=np.uint64)
    assert np.flatnonzero(choose_apart(hashes, radius=10)).tolist() == [0]


def test_an_index_holds_what_it_says_it_holds():
    hashes = np.random.default_rng(0).integers(0, 1 << 63, 20_000, dtype=np.uint64)
    index = HammingIndex(hashes, radius=3)
    per_hash = sum(t.keys.nbytes + t.places.nbytes for t in index._tables) / len(hashes)
    assert per_hash == 12 * len(index._tables)
    assert len(index._tables) <= 20


def test_cost_stays_near_linear_in_candidates():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 1 << 63, 200_000, dtype=np.uint64)
    masks = hamming._choose_masks(hashes, 3)
    candidates = 0
    for mask in masks:
        _, sizes = np.unique(hashes & mask, return_counts=True)
        candidates += int((sizes * (sizes - 1) // 2).sum())
    assert candidates < 20 * len(hashes)  # all pairs would be 100,000 a hash


def test_nothing_and_one():
    none = np.empty(0, dtype=np.uint64)
    one = np.array([(1 << 64) - 1], dtype=np.uint64)
    assert choose_apart(none, radius=3).tolist() == []
    assert choose_apart(one, radius=3).tolist() == [True]
    assert HammingIndex(none, radius=3).nearest(one).place.tolist() == [-1]
    assert HammingIndex(one, radius=3).nearest(none).place.tolist() == []
    assert HammingIndex(one, radius=3).nearest(one - np.uint64(4)).distance.tolist() == [1]


@pytest.mark.parametrize("radius", [-1, 11, 64])
def test_radius_out_of_range_is_refused(radius):
    with pytest.raises(InputError, match="a radius is 0 to 10 bits"):
        check_radius(radius, of="NearDuplicate")
