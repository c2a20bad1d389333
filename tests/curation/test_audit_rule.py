"""The rule that drops what a trained model does not believe."""

import json
import pickle
import re
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import ledger_rows, picture, write_shard

from winnow.curation.corpus import Corpus
from winnow.curation.materialise import materialise
from winnow.curation.rule_specs import from_settings, read_rules
from winnow.curation.rules.audit import Audit
from winnow.curation.rules.score import Score
from winnow.data.audit import AUDIT_SCHEMA
from winnow.data.selection import Selection
from winnow.recipes.data import curate
from winnow.types import InputError

LATE = [0.9, 0.02, 0.5, None, 0.02, 0.7, 0.3, 0.02, 0.1, 0.6]


def write_audit(path, uids, **numbers):
    """An audit of `uids`; a number that is not given is null everywhere."""
    count = len(uids)
    texts = {name: ["x"] * count for name in ("shard", "key", "caption")}
    given = {"times": [3] * count, "own_probability": [0.5] * count} | numbers
    columns = {"uid": uids, **texts} | given
    arrays = [columns.get(name, [None] * count) for name in AUDIT_SCHEMA.names]
    metadata = {"fingerprint": "f", "steps": "9", "version": "0", "segments": "s"}
    schema = AUDIT_SCHEMA.with_metadata({f"winnow.{k}": v for k, v in metadata.items()})
    pq.write_table(pa.table(arrays, schema=schema), path)
    return path


@pytest.fixture
def rows():
    """Twelve pairs, of which the audit knows the first ten."""
    return ledger_rows(*({} for _ in range(12)))


@pytest.fixture
def file(rows, tmp_path):
    uids = rows["uid"].to_pylist()[:10]
    first = [0.1 * n for n in range(10)]
    return write_audit(tmp_path / "audit.parquet", uids, own_probability_late=LATE, not_first=first)


def judged(rule, *batches):
    corpus = Corpus(lambda: batches)
    return [reason for rows in batches for reason in rule.verdicts(rows, corpus).to_pylist()]


def dropped(rule, *batches):
    return [n for n, reason in enumerate(judged(rule, *batches)) if reason is not None]


def test_a_limit_drops_what_is_beyond_it_and_says_so(file, rows):
    found = judged(Audit(file=file, least=0.1), rows)
    below = "audit: own_probability_late 0.02 is below 0.1"
    assert found == [None, below, None, None, below, None, None, below, *[None] * 4]
    assert dropped(Audit(file=file, most=0.7, column="not_first"), rows) == [8, 9]
    assert judged(Audit(file=file, most=0.85, column="not_first"), rows)[9] == (
        "audit: not_first 0.9 is above 0.85"
    )


def test_a_share_is_of_the_pairs_with_numbers_and_exact_among_equals(file, rows):
    """Nine have one: floor(0.25 * 9) = 2 of the three at 0.02, those with the smaller uids."""
    found = judged(Audit(file=file, drop=0.25), rows)
    equal = sorted((rows["uid"][n].as_py(), n) for n in (1, 4, 7))
    assert [n for n, reason in enumerate(found) if reason] == sorted(n for _, n in equal[:2])
    assert {reason for reason in found if reason} == {
        "audit: own_probability_late 0.02 is among the lowest 25 %, as others begin at 0.02"
    }
    assert dropped(Audit(file=file, drop=0.1), rows) == []
    assert dropped(Audit(file=file, drop=0.5), rows) == [1, 4, 7, 8]
    # 0.7 of ten is seven, which in binary it is not.
    assert dropped(Audit(file=file, drop=0.7, column="not_first"), rows) == [3, 4, 5, 6, 7, 8, 9]
    assert judged(Audit(file=file, drop=0.7, column="not_first"), rows)[3] == (
        "audit: not_first 0.3 is among the highest 70 %, as others begin at 0.2"
    )


def test_the_order_and_number_of_shards_change_nothing(file, rows):
    rule = Audit(file=file, drop=0.25)
    whole = dict(zip(rows["uid"].to_pylist(), judged(rule, rows), strict=True))
    parts = [rows.slice(7), rows.slice(0, 2), rows.slice(2, 5), rows.slice(0, 0)]
    again = judged(pickle.loads(pickle.dumps(rule)), *parts)  # noqa: S301 - our own bytes
    uids = [uid for part in parts for uid in part["uid"].to_pylist()]
    assert dict(zip(uids, again, strict=True)) == whole


def test_a_pair_without_a_number_is_kept_unless_it_is_said_otherwise(file, rows):
    assert judged(Audit(file=file, least=0.0, unseen="drop"), rows) == [
        *[None] * 3,
        "audit-unseen: no own_probability_late",
        *[None] * 6,
        "audit-unseen: no own_probability_late",
        "audit-unseen: no own_probability_late",
    ]
    assert dropped(Audit(file=file, least=0.0), rows) == []


def test_codes_measures_and_words(file, rows):
    rule = Audit(file=file, drop=0.25, unseen="drop")
    codes = {reason.partition(":")[0] for reason in judged(rule, rows) if reason}
    assert codes == set(rule.codes)
    (measure,) = rule.measures(rows, Corpus(lambda: [rows]))
    assert measure.name == "own_probability_late"
    assert measure.values.to_pylist() == [*pa.array(LATE, pa.float32()).to_pylist(), None, None]
    assert (measure.least, measure.most) == (pytest.approx(0.02), None)
    (read,) = read_rules([f"audit:file={file},drop=0.25,unseen=drop"])
    assert read == rule
    assert from_settings(rule.settings(), where="here") == rule
    before = rule.identity()
    file.write_bytes(file.read_bytes() + b" ")
    assert rule.identity() != before


def test_another_file_at_the_same_place_is_read_anew(file, rows):
    rule = Audit(file=file, least=0.1)
    assert dropped(rule, rows) == [1, 4, 7]
    uids = rows["uid"].to_pylist()
    write_audit(file, uids, own_probability_late=[1.0, 0.0] * 6)
    assert dropped(rule, rows) == [1, 3, 5, 7, 9, 11]


def test_copies_of_a_pair_go_together(file, rows):
    twice = pa.RecordBatch.from_arrays(
        [pa.concat_arrays([column, column]) for column in rows.columns], schema=rows.schema
    )
    assert dropped(Audit(file=file, least=0.1), twice) == [1, 4, 7, 13, 16, 19]


def test_errors_say_what_where_and_how_to_mend_it(file, rows, tmp_path):
    def refused(words, **fields):
        with pytest.raises(InputError, match=words):
            judged(Audit(**{"file": file, "drop": 0.2} | fields), rows)

    refused(
        "audit.parquet cannot be read.*winnow audit RUN", file=tmp_path / "audit" / "audit.parquet"
    )
    refused("no column 'loss' to drop pairs by: it has own_probability,", column="loss")
    refused("no target_other_mass of any pair", column="target_other_mass")
    refused("is given drop and least", least=0.1)
    refused("is given no limit", drop=None)
    for share in (0.0, 1.0, -0.1, float("nan")):
        refused("a share is above 0 and below 1", drop=share)
    other = write_audit(tmp_path / "other.parquet", ["0" * 32], own_probability_late=[0.5])
    refused("run on other data: none of its 1 pairs", file=other)
    scores = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"uid": rows["uid"]}), scores)
    refused("is no run's audit, its columns are uid", file=scores)
    refused(f"{re.escape(str(tmp_path))} cannot be read as a run's audit", file=tmp_path)
    with pytest.raises(InputError, match="unseen"):
        read_rules([f"audit:file={file},drop=0.2,unseen=maybe"])
    empty = rows.slice(0, 0)
    assert judged(Audit(file=other, drop=0.2), empty) == []


def test_numbers_are_compared_in_their_own_precision(rows, tmp_path):
    values = [float(np.float32(0.7)), 0.6999]
    file = write_audit(tmp_path / "a.parquet", rows["uid"].to_pylist()[:2], margin=values)
    assert float(np.float32(0.7)) < 0.7
    assert dropped(Audit(file=file, column="margin", least=0.7), rows) == [1]
    assert Audit(file=file, least=0.7) != Score(column="margin", least=0.7)


def test_a_second_selection_leaves_out_what_the_first_one_s_run_doubts(tmp_path):
    for number in range(2):
        pairs = [(picture(10 * number + n), f"caption {number} {n}") for n in range(5)]
        write_shard(tmp_path / "shards" / f"{number}.tar", pairs)
    where = (str(tmp_path / "shards"), tmp_path / "curated")
    first = Selection.open(curate(*where, rules=(), name="first", workers=1).directory)
    uids = first.table["uid"].to_pylist()
    margins = [-0.3, 0.1, 0.2, -0.2, 0.3, 0.1, None, -0.4, 0.2, 0.1]
    file = write_audit(tmp_path / "audit.parquet", uids, margin=margins)
    rules = read_rules([f"audit:file={file},column=margin,drop=0.4"])
    second = curate(*where, rules=rules, name="second", workers=1)
    assert second.summary.kept == 7 and second.summary.seen == 10
    kept = Selection.open(second.directory).table["uid"].to_pylist()
    assert kept == [uid for n, uid in enumerate(uids) if n not in (0, 3, 7)]


def test_what_is_doubted_may_count_for_less_instead(file, rows):
    light = Audit(file=file, least=0.1, weight=0.25)
    assert dropped(light, rows) == [] and light.weighs
    weights = light.weights(rows, Corpus(lambda: [rows]))
    doubted = dropped(Audit(file=file, least=0.1), rows)
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.25 if n in doubted else 1.0 for n in range(12)]
    assert not Audit(file=file, least=0.1).weighs
    for weight in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(InputError, match="a weight is above 0 and below 1"):
            Audit(file=file, least=0.1, weight=weight)


def test_weights_of_several_rules_multiply_and_go_with_the_kept_pairs(tmp_path):
    pairs = [(picture(n), f"caption {n}") for n in range(4)]
    write_shard(tmp_path / "shards" / "0.tar", pairs)
    where = (str(tmp_path / "shards"), tmp_path / "curated")
    plain = Selection.open(curate(*where, rules=(), name="plain", workers=1).directory)
    uids = plain.table["uid"].to_pylist()
    numbers = {"margin": [-0.3, 0.1, -0.2, 0.4], "own_probability_late": [0.1, 0.1, 0.9, 0.0]}
    file = write_audit(tmp_path / "audit.parquet", uids, **numbers)
    rules = read_rules(
        [
            f"audit:file={file},column=margin,least=0,weight=0.5",
            f"audit:file={file},least=0.5,weight=0.25",
            f"audit:file={file},column=margin,most=0.3",
        ]
    )
    weighed = Selection.open(curate(*where, rules=rules, name="weighed", workers=1).directory)
    assert [s.weight for s in weighed.samples(np.arange(3))] == [0.125, 0.25, 0.5]
    assert weighed.is_weighted and not plain.is_weighted
    assert weighed.table["uid"].to_pylist() == uids[:3]
    materialise(weighed, tmp_path / "tars")
    with tarfile.open(tmp_path / "tars" / "000000.tar") as tar:
        told = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    assert [facts["weight"] for facts in told] == [0.125, 0.25, 0.5]
