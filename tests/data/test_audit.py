"""What training saw of pairs, added up: against loops, in any order, from any segments."""

import json
import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data.audit import AUDIT_SCHEMA, NUMBERS, AuditTable, aggregate, is_current
from winnow.data.audit_segments import (
    SEGMENT_SCHEMA,
    SegmentFacts,
    drop_segments_beyond,
    segments_in,
    write_segment,
)
from winnow.data.mixture import Mixture
from winnow.data.selection import KEPT_SCHEMA, Selection, write_selection
from winnow.types import InputError

STEPS, BATCH = 9, 8


def selection_of(directory, uids, *, shards=3):
    rows = [
        {
            "key": f"k{n}",
            "offset": 512 * n,
            "size": 9,
            "uid": uid,
            "caption": f"a <b>{n}</b> \u202e",
        }
        for n, uid in enumerate(uids)
    ]
    parts = np.array_split(np.arange(len(rows)), shards)
    schema = pa.schema(list(KEPT_SCHEMA)[1:])
    tables = [pa.Table.from_pylist([rows[i] for i in part], schema=schema) for part in parts]
    write_selection(directory, [f"/data/{n}.tar" for n in range(shards)], tables)
    return Selection.open(directory)


def uids_of(count, *, prefix=0):
    return [f"{(prefix + 7919 * n) % 65536:04x}{n:028x}" for n in range(count)]


def write_data(run, selection, *, sources=()):
    run.mkdir(exist_ok=True)
    facts = {"selection": str(getattr(selection, "directory", "a mixture"))}
    facts["fingerprint"] = selection.fingerprint
    facts["sources"] = [
        {"selection": str(one.directory), "fingerprint": one.fingerprint} for one in sources
    ]
    (run / "data.json").write_text(json.dumps(facts))


@pytest.fixture
def selection(tmp_path):
    """Twenty rows, of which 3 and 17 are copies of one pair."""
    uids = uids_of(20)
    uids[17] = uids[3]
    return selection_of(tmp_path / "selection", uids)


@pytest.fixture
def seen():
    """Nine steps of eight rows of the first 19: some with numbers missing."""
    random = np.random.default_rng(0)
    row = np.concatenate([random.permutation(19)[:BATCH] for _ in range(STEPS)])
    count = len(row)
    found = {
        "step": np.repeat(np.arange(STEPS, dtype=np.int32), BATCH),
        "row": row,
        "own_probability": random.random(count).astype(np.float32) ** 8,
        "margin": random.uniform(-0.2, 0.2, count).astype(np.float32),
        "is_first": random.random(count) < 0.5,
        "target_other_mass": random.random(count).astype(np.float32),
    }
    found["margin"][5] = found["target_other_mass"][7] = found["own_probability"][11] = np.nan
    return pa.table(found, SEGMENT_SCHEMA)


def write_run(run, table, selection, *, cuts=(0, STEPS), ranks=1):
    """The table in segments of [cuts), each batch shared by ranks."""
    run.mkdir(exist_ok=True)
    facts = SegmentFacts(STEPS, selection.fingerprint)
    step, place = table["step"].to_numpy(), np.arange(len(table)) % BATCH
    for first, end in pairwise(cuts):
        for rank in range(ranks):
            own = (step >= first) & (step < end) & (place * ranks // BATCH == rank)
            write_segment(run, table.filter(pa.array(own)), facts, first=first, end=end, rank=rank)
    return run


def by_loop(table, uids):
    """uid -> numbers, added up one by one."""
    found = {}
    for row in table.to_pylist():
        if math.isnan(row["own_probability"]):
            continue
        one = found.setdefault(uids[row["row"]], {name: [] for name in NUMBERS})
        one["own_probability"].append(row["own_probability"])
        if row["step"] >= STEPS / 2:
            one["own_probability_late"].append(row["own_probability"])
        one["not_first"].append(not row["is_first"])
        for name in ("margin", "target_other_mass"):
            if not math.isnan(row[name]):
                one[name].append(row[name])
    return found


def test_means_are_those_of_a_loop(selection, seen, tmp_path):
    run = write_run(tmp_path / "run", seen, selection)
    audit = AuditTable.open(aggregate(run, selection=selection))
    uids = selection.table["uid"].to_pylist()
    expected = by_loop(seen, uids)
    assert audit.table.schema.equals(AUDIT_SCHEMA)
    assert len(audit) == len(expected) and len(expected) < 19
    for row in audit.table.to_pylist():
        numbers = expected[row["uid"]]
        assert row["times"] == len(numbers["own_probability"])
        for name, values in numbers.items():
            wanted = None if not values else pytest.approx(np.mean(values), rel=1e-6, abs=1e-12)
            assert row[name] == wanted, name
    assert None in audit.table["own_probability_late"].to_pylist()
    copied = audit.table.to_pylist()[audit.rows_of(pa.array([uids[17]]))[0]]
    assert copied["key"] == "k3" and copied["times"] > 1


def test_rows_say_which_pair_it_is_and_are_found_by_uid(selection, seen, tmp_path):
    run = write_run(tmp_path / "run", seen, selection)
    audit = AuditTable.open(aggregate(run, selection=selection))
    assert (audit.fingerprint, audit.steps) == (selection.fingerprint, STEPS)
    uids = audit.table["uid"].to_pylist()
    samples = {sample.uid: sample for sample in reversed(selection.samples(np.arange(20)))}
    for row in audit.table.to_pylist():
        sample = samples[row["uid"]]
        assert (row["shard"], row["key"]) == (sample.shard, sample.address.key)
        assert row["caption"] == sample.caption
    asked = [uids[4], "f" * 32, uids[0].upper(), uids[-1]]
    assert audit.rows_of(pa.array(asked)).tolist() == [4, -1, 0, len(audit) - 1]
    assert audit.rows_of(pa.array([], pa.string())).tolist() == []
    margins = audit.table["margin"].to_pylist()
    wanted = [np.nan if value is None else value for value in margins]
    np.testing.assert_array_equal(audit.column("margin"), np.array(wanted, dtype=np.float32))


@pytest.mark.parametrize(
    ("cuts", "ranks"), [((0, 4, 9), 1), ((0, 1, 2, 3, 8, 9), 1), ((0, 9), 2), ((0, 2, 5, 9), 4)]
)
def test_cuts_and_ranks_change_no_bit(cuts, ranks, selection, seen, tmp_path):
    whole = write_run(tmp_path / "whole", seen, selection)
    other = write_run(tmp_path / "other", seen, selection, cuts=cuts, ranks=ranks)
    tables = [AuditTable.open(aggregate(run, selection=selection)).table for run in (whole, other)]
    assert tables[0].equals(tables[1])


def test_a_lost_future_is_dropped(selection, seen, tmp_path):
    run = write_run(tmp_path / "run", seen, selection, cuts=(0, 3, 6, 9), ranks=2)
    (run / "audit" / "steps-00000006-00000009-rank-5.partial").write_bytes(b"cut short")
    drop_segments_beyond(run, 6)
    assert [(one.first, one.end, one.rank) for one in segments_in(run)] == [
        (0, 3, 0),
        (0, 3, 1),
        (3, 6, 0),
        (3, 6, 1),
    ]
    assert len(list((run / "audit").iterdir())) == 4
    table = AuditTable.open(aggregate(run, selection=selection))
    assert table.steps == 6
    drop_segments_beyond(tmp_path / "never", 0)


def test_it_is_made_again_only_when_there_are_other_segments(selection, seen, tmp_path):
    run = write_run(tmp_path / "run", seen, selection, cuts=(0, 3))
    assert not is_current(run)
    path = aggregate(run, selection=selection)
    before = path.stat().st_mtime_ns
    assert is_current(run) and aggregate(run).stat().st_mtime_ns == before
    write_run(run, seen, selection, cuts=(3, 9))
    assert not is_current(run)
    aggregate(run, selection=selection)
    assert is_current(run) and AuditTable.open(path).steps == STEPS
    for segment in segments_in(run):
        segment.path.unlink()
    assert is_current(run) and aggregate(run) == path


def test_what_the_run_was_trained_on_is_found(selection, seen, tmp_path):
    run = write_run(tmp_path / "run", seen, selection)
    write_data(run, selection)
    found = AuditTable.open(aggregate(run)).table
    again = write_run(tmp_path / "again", seen, selection)
    assert found.equals(AuditTable.open(aggregate(again, selection=selection)).table)


def test_rows_of_a_mixture_are_its_sources_one_after_another(seen, tmp_path):
    """A pair that is in both sources is one pair."""
    uids = [uids_of(12), [*uids_of(12, prefix=5)[:7], uids_of(12)[2]]]
    parts = [selection_of(tmp_path / f"s{n}", own, shards=2) for n, own in enumerate(uids)]
    mixture = Mixture.of({"a": parts[0], "b": parts[1]}, {"a": 1, "b": 2})
    run = write_run(tmp_path / "run", seen, mixture)
    write_data(run, mixture, sources=parts)
    audit = AuditTable.open(aggregate(run)).table
    expected = by_loop(seen, uids[0] + uids[1])
    assert sorted(audit["uid"].to_pylist()) == sorted(expected)
    for row in audit.to_pylist():
        values = expected[row["uid"]]["own_probability"]
        assert row["own_probability"] == pytest.approx(np.mean(values), rel=1e-6)
    both = audit.to_pylist()[audit["uid"].to_pylist().index(uids[0][2])]
    assert both["shard"] == "/data/0.tar" and both["key"] == "k2"


def test_errors_say_what_where_and_how_to_mend_it(selection, seen, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no audit to read.*--runtime.no-audit"):
        aggregate(tmp_path / "empty")
    run = write_run(tmp_path / "run", seen, selection, cuts=(0, 3, 9))
    other = selection_of(tmp_path / "other", uids_of(20))
    with pytest.raises(InputError, match="is not what the run was trained on"):
        aggregate(run, selection=other)
    write_data(run, selection)
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"selection": str(other.directory)}))
    with pytest.raises(InputError, match="is not the one any more"):
        aggregate(run)
    (run / "data.json").write_text(json.dumps(data | {"selection": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="holds no complete selection"):
        aggregate(run)
    first, second = (one.path for one in segments_in(run))
    whole = second.read_bytes()
    second.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="is no segment of a run's audit"):
        aggregate(run, selection=selection)
    foreign = SegmentFacts(STEPS + 1, selection.fingerprint)
    write_segment(run, seen, foreign, first=3, end=9, rank=0)
    with pytest.raises(InputError, match="is of another run than"):
        aggregate(run, selection=selection)
    assert not (run / "audit.parquet").exists()
    assert not list(run.glob("*.partial"))
    with pytest.raises(InputError, match="cannot be read as a run's audit"):
        AuditTable.open(tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match="is no run's audit"):
        AuditTable.open(first)
    pq.write_table(pa.table({"uid": ["x"]}), tmp_path / "scores.parquet")
    with pytest.raises(InputError, match="is no run's audit, its columns are uid"):
        AuditTable.open(tmp_path / "scores.parquet")
