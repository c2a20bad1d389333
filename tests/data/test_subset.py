import io
import pickle

import numpy as np
import pyarrow as pa
import pytest

from winnow.data.keyed import (
    KEY_DTYPE,
    KeyConflictError,
    find,
    hex_digits,
    keys_of,
    parse_uids,
    write_sorted,
)
from winnow.data.selection import KEPT_SCHEMA, Selection, write_selection
from winnow.data.subset import Subset, write_subset
from winnow.types import InputError

UIDS = [
    "ffffffffffffffff0000000000000000",
    "00000000000000010000000000000002",
    "00000000000000010000000000000001",
    "0123456789abcdeffedcba9876543210",
    "00000000000000010000000000000002",
]


def selection(directory, uids, *, shards=2):
    schema = pa.schema(list(KEPT_SCHEMA)[1:])
    rows = [
        {"key": f"{n}", "offset": 512 * n, "size": 9, "uid": uid, "caption": "a cat"}
        for n, uid in enumerate(uids)
    ]
    parts = np.array_split(np.arange(len(rows)), shards)
    tables = [pa.Table.from_pylist([rows[i] for i in part], schema=schema) for part in parts]
    write_selection(directory, [f"{n}.tar" for n in range(shards)], tables)
    return Selection.open(directory)


def random_keys(count, *, seed=0, upper=2**64):
    random = np.random.default_rng(seed)
    keys = np.empty(count, dtype=KEY_DTYPE)
    keys["f0"] = random.integers(0, upper, count, dtype=np.uint64, endpoint=False)
    keys["f1"] = random.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)
    return keys


def test_a_subset_is_the_file_that_datacomp_would_write(tmp_path):
    assert write_subset(selection(tmp_path / "kept", UIDS), tmp_path / "subset.npy") == 4
    # As in its apply_filter.py: int(uid[:16], 16), int(uid[16:32], 16), sorted, np.save.
    theirs = np.array(
        [
            (1, 1),
            (1, 2),
            (0x0123456789ABCDEF, 0xFEDCBA9876543210),
            (0xFFFFFFFFFFFFFFFF, 0),
        ],
        np.dtype("u8,u8"),
    )
    file = io.BytesIO()
    np.save(file, theirs)
    assert (tmp_path / "subset.npy").read_bytes() == file.getvalue()
    assert hex_digits(Subset.open(tmp_path / "subset.npy").uids) == sorted(set(UIDS))


def test_the_bytes_depend_on_the_uids_alone(tmp_path):
    for name, uids, shards in (("one", UIDS, 1), ("other", UIDS[::-1], 3)):
        write_subset(selection(tmp_path / name, uids, shards=shards), tmp_path / f"{name}.npy")
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "other.npy").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "one.npy", "other", "other.npy"]


def test_an_empty_selection_is_an_empty_subset(tmp_path):
    assert write_subset(selection(tmp_path / "kept", []), tmp_path / "subset.npy") == 0
    subset = Subset.open(tmp_path / "subset.npy")
    assert len(subset) == 0
    assert not subset.contains(pa.array(UIDS)).any()


@pytest.mark.parametrize("upper", [2**64, 4], ids=["hashes", "equal upper halves"])
def test_lookup_is_membership(upper):
    rows = np.sort(random_keys(2_000, upper=upper))
    asked = np.concatenate([rows[::7], random_keys(500, seed=1, upper=upper)])
    where = {key: place for place, key in reversed(list(enumerate(rows.tolist())))}
    assert find(rows, asked).tolist() == [where.get(key, -1) for key in asked.tolist()]
    assert find(rows[:0], asked).tolist() == [-1] * len(asked)


def test_subset_is_mapped_and_sent_to_workers_as_a_path(tmp_path):
    np.save(tmp_path / "subset.npy", np.sort(random_keys(100_000)))
    subset = Subset.open(tmp_path / "subset.npy")
    assert isinstance(subset.uids, np.memmap)
    assert len(pickle.dumps(subset)) < 1_000
    uids = pa.array([*hex_digits(subset.uids[[0, 99_999]]), UIDS[0]])
    again = pickle.loads(pickle.dumps(subset))  # noqa: S301
    assert again.contains(uids).tolist() == [True, True, False]


@pytest.mark.parametrize("batches", [1, 7])
def test_rows_are_sorted_however_they_come(tmp_path, batches):
    dtype = np.dtype([*KEY_DTYPE.descr, ("values", "<f8", (2,))])
    keys = np.concatenate([random_keys(20_000), random_keys(300, seed=1, upper=2)])
    rows = np.zeros(len(keys), dtype=dtype)
    rows["f0"], rows["f1"] = keys["f0"], keys["f1"]
    rows["values"][:, 1] = np.arange(len(keys))
    again = np.concatenate([rows, rows[::5]])
    count = write_sorted(tmp_path / "rows.npy", np.array_split(again, batches), dtype=dtype)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), np.sort(rows, order=["f0", "f1"]))
    assert count == len(rows)


def test_rows_that_contradict_each_other_leave_no_file(tmp_path):
    dtype = np.dtype([*KEY_DTYPE.descr, ("values", "<f8", (1,))])
    rows = np.array([(1, 2, [0.5]), (1, 2, [0.25])], dtype=dtype)
    with pytest.raises(KeyConflictError, match="00000000000000010000000000000002"):
        write_sorted(tmp_path / "rows.npy", [rows], dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_uids_are_hex_digits_in_either_case():
    keys = parse_uids(pa.array([UIDS[3].upper(), f" {UIDS[3]}\n"]), where="here")
    assert keys.tolist() == [(0x0123456789ABCDEF, 0xFEDCBA9876543210)] * 2
    assert keys_of(bytes(range(16)))["f0"].tolist() == [0x0001020304050607]
    for bad in ("12", "g" * 32, "0" * 33, None):
        with pytest.raises(InputError, match=r"scores\.csv has the uid .* a uid is 32 hex digits"):
            parse_uids(pa.array([UIDS[0], bad], pa.string()), where="scores.csv")


def unsorted(path):
    np.save(path, np.concatenate([np.sort(random_keys(50)), np.sort(random_keys(50, seed=1))]))


def of_one_number(path):
    np.save(path, np.arange(9, dtype=np.uint64))


def an_npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.arange(9))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (unsorted, "is not sorted"),
        (of_one_number, "holds uint64 of 1 axes"),
        (an_npz, "holds an npz"),
        (lambda path: path.write_bytes(b"not numpy's"), "cannot be read as a subset"),
        (lambda path: None, "cannot be read as a subset"),
    ],
    ids=["unsorted", "other dtype", "npz", "other file", "missing"],
)
def test_what_is_no_subset_is_refused(tmp_path, write, said):
    write(tmp_path / "subset.npy")
    with pytest.raises(InputError, match=said):
        Subset.open(tmp_path / "subset.npy")
