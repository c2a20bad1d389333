import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from winnow.data.concept_targets import (
    UNIT,
    ConceptTargets,
    TargetFacts,
    in_units,
    write_targets,
)
from winnow.types import InputError

FACTS = TargetFacts(
    selection="cat",
    selection_fingerprint="5" * 64,
    vocabulary="a" * 16,
    teacher="made up",
    teacher_identity="b" * 16,
    heads="c" * 16,
    sizes={"objects": 65_536, "attributes": 3},
    top_k=10,
)


def drawn(count, *, seed=0):
    """(uids, by head (concepts, masses)): distinct concepts, masses from even to a single one."""
    random = np.random.default_rng(seed)
    uids = [random.bytes(16).hex() for _ in range(count)]
    heads = {}
    for head, (size, kept) in {"objects": (65_536, 10), "attributes": (3, 3)}.items():
        index = np.stack([random.permutation(size)[:kept] for _ in range(count)])
        mass = random.random((count, kept)) ** (1 + 20 * random.random((count, 1)))
        heads[head] = (index, mass / mass.sum(axis=1, keepdims=True))
    return uids, heads


def sliced(drawn, part):
    uids, heads = drawn
    return uids[part], {head: (index[part], mass[part]) for head, (index, mass) in heads.items()}


def test_targets_come_back_by_uid_in_any_order(tmp_path):
    uids, heads = whole = drawn(500)
    write_targets(tmp_path, [sliced(whole, slice(0, 123)), sliced(whole, slice(123, 500))], FACTS)
    targets = ConceptTargets.open(tmp_path)
    assert len(targets) == 500 and targets.facts == FACTS
    order = np.random.default_rng(1).permutation(500)[:200]
    found = targets.of([uids[place] for place in order])
    assert found.keys() == {"objects", "attributes"}
    for head, (index, mass) in heads.items():
        assert found[head].index_BK.dtype == torch.int64
        assert np.array_equal(found[head].index_BK.numpy(), index[order])
        assert np.abs(found[head].mass_BK.double().numpy() - mass[order]).max() < 1 / UNIT
        total = found[head].mass_BK.double().sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_a_picture_takes_48_bytes_a_head(tmp_path):
    facts = replace(FACTS, sizes={"objects": 5_000, "attributes": 2_000})
    uids, heads = drawn(1_000)
    index, mass = heads["objects"]
    wide = {"objects": (index % 5_000, mass), "attributes": (index % 2_000, mass)}
    write_targets(tmp_path, [(uids, wide)], facts)
    size = (tmp_path / "targets.npy").stat().st_size
    assert size / 1_000 / 2 == pytest.approx(48, abs=0.2)


def test_masses_are_rounded_to_an_exact_whole():
    mass = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    units = in_units(mass)
    # 65,535 / 2 = 32,767.5 and 65,535 / 4 = 16,383.75: the two larger remainders go up.
    assert units.tolist() == [[32767, 16384, 16384], [65535, 0, 0], [21845, 21845, 21845]]
    random = np.random.default_rng(0).dirichlet(np.full(10, 0.1), size=2_000)
    units = in_units(random)
    assert (units.astype(np.int64).sum(axis=1) == UNIT).all()
    assert np.abs(units - random * UNIT).max() < 1


def test_the_bytes_do_not_depend_on_the_batches(tmp_path):
    whole = drawn(300)
    write_targets(tmp_path / "one", [whole], FACTS)
    parts = [sliced(whole, slice(start, start + 7)) for start in range(0, 300, 7)]
    write_targets(tmp_path / "many", reversed(parts), FACTS)
    for name in ("targets.npy", "targets.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def test_exact_copies_are_kept_once_and_different_pictures_of_one_uid_are_refused(tmp_path):
    uids, _ = whole = drawn(10)
    write_targets(tmp_path, [whole, sliced(whole, slice(2, 5))], FACTS)
    assert len(ConceptTargets.open(tmp_path)) == 10
    with pytest.raises(InputError, match=f"two different pictures have the uid {uids[3]}"):
        write_targets(tmp_path, [whole, (uids[3:4], sliced(whole, slice(4, 5))[1])], FACTS)
    with pytest.raises(InputError, match=r"holds no concept targets .*winnow concepts"):
        ConceptTargets.open(tmp_path)


def test_a_sample_without_targets_is_named(tmp_path):
    write_targets(tmp_path, [drawn(10)], FACTS)
    with pytest.raises(InputError, match=r"none for the sample 00000000.*'cat'"):
        ConceptTargets.open(tmp_path).of(["0" * 32])


def test_a_worker_maps_the_file_again(tmp_path):
    uids, _ = whole = drawn(50)
    write_targets(tmp_path, [whole], FACTS)
    targets = ConceptTargets.open(tmp_path)
    packed = pickle.dumps(targets)
    assert len(packed) < 2_000 < targets.rows.nbytes
    again = pickle.loads(packed)  # noqa: S301 - made a line above
    assert isinstance(again.rows, np.memmap)
    assert torch.equal(again.of(uids)["objects"].mass_BK, targets.of(uids)["objects"].mass_BK)


def test_damage_is_seen(tmp_path):
    write_targets(tmp_path, [drawn(50)], FACTS)
    path = tmp_path / "targets.npy"
    octets = bytearray(path.read_bytes())
    octets[-3] ^= 1
    path.write_bytes(octets)
    with pytest.raises(InputError, match=r"targets.npy is missing or damaged \(its sha256"):
        ConceptTargets.open(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"targets.npy is missing or damaged"):
        ConceptTargets.open(tmp_path)
    facts = json.loads((tmp_path / "targets.json").read_text())
    del facts["facts"]["teacher"]
    (tmp_path / "targets.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="teacher"):
        ConceptTargets.open(tmp_path)


def test_more_concepts_than_a_uint16_holds_are_refused(tmp_path):
    with pytest.raises(InputError, match="at most 65,536 concepts"):
        write_targets(tmp_path, [], replace(FACTS, sizes={"objects": 65_537, "attributes": 3}))
