import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from winnow.data.columns import Columns
from winnow.data.selection import FACTS_FILE, KEPT_FILE, Selection, write_selection
from winnow.types import InputError


def table(name: str, count: int) -> pa.Table:
    return pa.table(
        {
            "key": [f"{name}{n}" for n in range(count)],
            "offset": np.arange(count) * 1000,
            "size": np.arange(count) + 1,
            "uid": [f"{n:031x}{name}" for n in range(count)],
            "caption": [f"caption {n} of {name}" for n in range(count)],
        }
    )


def write(directory, tables, **options) -> Selection:
    shards = [f"/data/{n}.tar" for n in range(len(tables))]
    write_selection(directory, shards, tables, **options)
    return Selection.open(directory)


def test_what_is_written_is_opened_back_row_by_row(tmp_path):
    tables = [table("a", 3), table("b", 0), table("c", 200), table("d", 0)]
    selection = write(tmp_path, tables, columns=Columns(image="photo"))
    assert len(selection) == 203 and selection.shard_counts.tolist() == [3, 0, 200, 0]
    assert selection.columns == Columns(image="photo")
    rows = np.array([202, 0, 3, 2, 3, 100])
    samples = selection.samples(rows)
    assert [s.address.key for s in samples] == ["c199", "a0", "c0", "a2", "c0", "c97"]
    assert [s.shard for s in samples] == [f"/data/{n}.tar" for n in (2, 0, 2, 0, 2, 2)]
    assert samples[0].address == ("c199", 199_000, 200)
    assert samples[3].uid == f"{2:031x}a" and samples[3].caption == "caption 2 of a"


def test_a_worker_opens_it_again_instead_of_being_sent_it(tmp_path):
    selection = write(tmp_path, [table("a", 50_000)])
    sent = pickle.dumps(selection)
    assert len(sent) < 1000
    again = pickle.loads(sent)  # noqa: S301 - our own bytes
    assert again.samples(np.array([49_999])) == selection.samples(np.array([49_999]))


def changed(column: str, value) -> pa.Table:
    rows = table("a", 3).to_pylist()
    rows[1][column] = value
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize(
    "other",
    [
        [changed("uid", "f" * 32)],
        [changed("offset", 7)],
        [changed("size", 7)],
        [changed("caption", "another caption")],
        [table("a", 2)],
        [table("a", 3), table("b", 0)],
        [table("a", 3).take([1, 0, 2])],
    ],
)
def test_the_fingerprint_changes_with_any_row_or_shard(tmp_path, other):
    one = write(tmp_path / "one", [table("a", 3)])
    assert write(tmp_path / "same", [table("a", 3)]).fingerprint == one.fingerprint
    assert write(tmp_path / "other", other).fingerprint != one.fingerprint


def test_the_fingerprint_changes_with_the_columns(tmp_path):
    one = write(tmp_path / "one", [table("a", 3)])
    other = write(tmp_path / "other", [table("a", 3)], columns=Columns(image="photo"))
    assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize("file", [FACTS_FILE, KEPT_FILE])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "{}"])
def test_a_damaged_selection_is_to_be_curated_again(tmp_path, file, damage):
    path = tmp_path / file
    write(tmp_path, [table("a", 3)])
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "{}": b"{}"}[damage])
    with pytest.raises(InputError, match="winnow curate"):
        Selection.open(tmp_path)


def test_rows_of_another_selection_are_refused(tmp_path):
    write(tmp_path / "one", [table("a", 3)])
    write(tmp_path / "other", [table("a", 4)])
    (tmp_path / "other" / KEPT_FILE).replace(tmp_path / "one" / KEPT_FILE)
    with pytest.raises(InputError, match="not the table of 3 rows"):
        Selection.open(tmp_path / "one")


def test_a_selection_half_written_is_no_selection(tmp_path):
    def breaks():
        yield table("a", 3)
        raise KeyboardInterrupt

    write(tmp_path, [table("b", 3)])
    with pytest.raises(KeyboardInterrupt):
        write_selection(tmp_path, ["/data/0.tar", "/data/1.tar"], breaks())
    with pytest.raises(InputError, match="no complete selection"):
        Selection.open(tmp_path)
    assert len(write(tmp_path, [table("a", 3)])) == 3


def test_facts_that_are_not_its_own_are_refused(tmp_path):
    write(tmp_path, [table("a", 3)])
    facts = json.loads((tmp_path / FACTS_FILE).read_text())
    facts["columns"] = {"picture": "x"}
    (tmp_path / FACTS_FILE).write_text(json.dumps(facts))
    with pytest.raises(InputError, match="selection"):
        Selection.open(tmp_path)


def test_weights_are_part_of_what_a_selection_is(tmp_path):
    rows = table("a", 3)
    weighted = rows.append_column("weight", pa.array([1.0, 0.25, 0.5], pa.float32()))
    plain = write(tmp_path / "plain", [rows])
    first = write(tmp_path / "first", [weighted], weighted=True)
    others = rows.append_column("weight", pa.array([1.0, 0.25, 0.75], pa.float32()))
    second = write(tmp_path / "second", [others], weighted=True)
    assert [s.weight for s in first.samples(np.array([2, 0, 1]))] == [0.5, 1.0, 0.25]
    assert [s.weight for s in plain.samples(np.arange(3))] == [1.0, 1.0, 1.0]
    assert (plain.is_weighted, first.is_weighted) == (False, True)
    assert len({plain.fingerprint, first.fingerprint, second.fingerprint}) == 3
    # A table with weights is written without them unless they are asked for.
    assert write(tmp_path / "again", [weighted]).fingerprint == plain.fingerprint
