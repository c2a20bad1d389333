import hashlib

import numpy as np

from winnow.evaluation.few_shot.shots import class_orders, take_shots

KEYS = [f"picture-{n}" for n in range(60)]
LABELS = np.arange(60) % 3


def keys_of(keys, labels, k, seed=0, fingerprint="d", num_classes=3):
    orders = class_orders(keys, labels, num_classes=num_classes, fingerprint=fingerprint, seed=seed)
    subset = take_shots(orders, k)
    return [keys[row] for row in subset.shots], [keys[row] for row in subset.further]


def test_the_order_is_that_of_the_hashes():
    expected = []
    for label in range(3):
        members = [key for key, of in zip(KEYS, LABELS, strict=True) if of == label]
        members.sort(key=lambda key: hashlib.sha256(f"d\0{4}\0{key}".encode()).digest())
        expected += members[:5]
    assert keys_of(KEYS, LABELS, 5, seed=4)[0] == expected


def test_neither_the_order_of_rows_nor_the_global_generator_matters():
    shuffle = np.random.default_rng(1).permutation(60)
    shuffled = keys_of([KEYS[row] for row in shuffle], LABELS[shuffle], 4)
    np.random.seed(3)  # the very thing that must not matter
    assert shuffled == keys_of(KEYS, LABELS, 4)


def test_subsets_and_data_sets_differ():
    first = keys_of(KEYS, LABELS, 4)
    assert keys_of(KEYS, LABELS, 4, seed=1) != first
    assert keys_of(KEYS, LABELS, 4, fingerprint="e") != first


def test_fewer_shots_are_among_more_and_further_shots_are_no_shots():
    kept = set()
    for k in (1, 2, 4, 8, 16):
        shots, further = keys_of(KEYS, LABELS, k)
        assert len(shots) == 3 * k
        assert len(further) == 3 * min(k, 4)
        assert kept <= set(shots)
        assert not set(shots) & set(further)
        kept = set(shots)


def test_small_and_empty_classes_give_what_they_have_and_are_counted():
    labels = np.array([0] * 7 + [1] * 3 + [3] * 4)
    keys = KEYS[:14]
    orders = class_orders(keys, labels, num_classes=5, fingerprint="d", seed=0)
    subset = take_shots(orders, 4)
    assert sorted(labels[subset.shots]) == [0] * 4 + [1] * 3 + [3] * 4
    assert sorted(labels[subset.further]) == [0] * 3
    assert (subset.short, subset.absent) == (1, 2)
