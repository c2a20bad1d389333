"""Annotations beside the ledger: what is looked at, what is not, and what is done again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curation_samples import picture, write_shard
from made_up import CountBytes, CountWords, ManyLetters, ManyWords

from winnow.curation import reading
from winnow.curation.annotate import annotate
from winnow.curation.engines.slices import parse_slice
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.duplicates import DuplicatePicture
from winnow.curation.select import select
from winnow.curation.stages import plan_stages
from winnow.curation.sweep import SweepRow, sweep, values_of
from winnow.data.sources import open_source
from winnow.types import InputError

STRICT = (CaptionLength(min_words=3), ManyLetters())
LOOSE = (CaptionLength(min_words=2), ManyLetters())


@pytest.fixture
def curated(shards: Path, tmp_path: Path):
    """A function that annotates the shards for rules; whatever it did before stays."""
    log = tmp_path / "log.txt"

    def run(rules, *, annotator=CountBytes(), asked=(), out="out", **options):  # noqa: B008
        log.write_text("")
        noted = replace(annotator, log=log)
        stages = plan_stages(rules, [noted], asked=[noted] if asked else [])
        options = {"workers": 1} | options
        result = annotate(open_source(str(shards)), tmp_path / out, stages=stages, **options)
        return result, sorted(log.read_text().splitlines())

    run.out = tmp_path / "out"
    return run


def sidecars(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted((out / "annotations").rglob("*.parquet"))
    }


def num_computed(out: Path, number: int) -> int:
    found = pq.read_table(out / "annotations" / "count-bytes" / f"{number:05d}.parquet")
    return sum(found["computed"].to_pylist())


def test_only_what_passes_the_local_rules_before_is_looked_at(curated):
    result, seen = curated(STRICT)
    assert seen == [
        "A red apple  on a table",
        "a grey cat",
        "a red apple on a table",
        "fruit, still life",
        "two green pears",
    ]
    rows = pq.read_table(curated.out / "annotations" / "count-bytes" / "00000.parquet")
    assert rows["computed"].to_pylist() == [False, True, True, False, False]
    assert rows["num_bytes"].to_pylist() == [None, len(picture(1)), len(picture(2)), None, None]
    assert rows["letters"].to_pylist()[2] == sorted(set("two green pears"))
    assert result.computed == {"count-bytes": len(seen)}
    assert all(len(caption.split()) >= 3 for caption in seen)


def test_rules_that_ask_the_corpus_hold_nothing_back(curated):
    _, with_corpus = curated((DuplicatePicture(), *STRICT), out="a")
    _, without = curated(STRICT, out="b")
    assert with_corpus == without


def test_a_wider_gate_costs_only_the_rows_that_it_adds(curated):
    _, strict = curated(STRICT)
    _, added = curated(LOOSE)
    _, at_once = curated(LOOSE, out="at-once")
    assert sorted(strict + added) == at_once
    assert added and not set(added) & set(strict)
    assert sidecars(curated.out) == sidecars(curated.out.with_name("at-once"))
    assert curated(STRICT)[1] == curated(LOOSE)[1] == []


def test_annotators_that_are_asked_for_see_every_readable_row(curated):
    result, seen = curated(STRICT, asked=True)
    assert len(seen) == result.samples - sum(result.errors.values()) == 18
    assert curated(STRICT)[1] == []


def test_another_version_does_it_again_and_says_so(curated):
    _, first = curated(STRICT)
    said: list[str] = []
    _, again = curated(STRICT, annotator=CountBytes(version=2), say=said.append)
    assert again == first
    assert said == [
        "3 shard(s) are annotated again by count-bytes: it was version 1, now it is version 2"
    ]


def test_a_changed_shard_is_read_and_annotated_again_and_no_other(curated, shards):
    curated(STRICT)
    write_shard(shards / "001.tar", [(picture(7), "a new picture of a pear")])
    said: list[str] = []
    result, seen = curated(STRICT, say=said.append)
    assert (result.shards_read, seen) == (1, ["a new picture of a pear"])
    assert said == ["1 shard(s) are read again: changed since"]


def test_only_the_stage_without_a_record_is_done_again(curated):
    curated(STRICT)
    before = sidecars(curated.out)
    (curated.out / "annotations" / "count-bytes" / "00001.json").unlink()
    ledger = (curated.out / "ledger" / "00001.parquet").stat().st_mtime_ns
    result, seen = curated(STRICT)
    assert (result.shards_read, len(seen)) == (1, num_computed(curated.out, 1))
    assert sidecars(curated.out) == before
    assert (curated.out / "ledger" / "00001.parquet").stat().st_mtime_ns == ledger


def test_annotations_follow_shards_that_change_places(curated, shards):
    names = [str(shards / f"00{n}.tar") for n in (1, 2)]
    stages = plan_stages(STRICT, [CountBytes()])
    annotate(open_source(names), curated.out, workers=1, stages=stages)
    result, seen = curated(STRICT)
    assert result.shards_read == 1
    assert seen == ["a red apple on a table", "two green pears"]
    assert select(curated.out, STRICT, name="mine").seen == 21


@pytest.mark.parametrize("workers", [2])
def test_workers_and_slices_write_the_same_bytes(curated, workers):
    curated(STRICT)
    curated(STRICT, workers=workers, out="pool")
    for index in (2, 0, 1):
        part = parse_slice(f"{index}/3")
        result, _ = curated(STRICT, part=part, out="slices")
        assert result.shards == 1
    expected = sidecars(curated.out)
    assert len(expected) == 3
    for other in ("pool", "slices"):
        assert sidecars(curated.out.with_name(other)) == expected


def test_a_failed_annotation_is_an_error_and_no_drop(curated):
    annotator = CountBytes(fails_on="pears")
    result, _ = curated(STRICT, annotator=annotator)
    assert result.errors["counting failed"] == 1
    summary = select(curated.out, STRICT, name="mine")
    assert summary.errors_by_code["counting failed"] == 1
    assert summary.errors == 4
    assert summary.seen == summary.kept + sum(summary.dropped.values()) + summary.errors
    verdicts = pq.read_table(curated.out / "selections" / "mine" / "verdicts" / "00000.parquet")
    assert verdicts["error"].to_pylist()[2] == "counting failed: told to"
    assert verdicts["reason"].to_pylist()[2] is None
    assert not verdicts["kept"].to_pylist()[2]


def test_a_row_that_an_earlier_rule_drops_is_no_error(curated):
    annotator = CountBytes(fails_on="fruit")
    rules = (DuplicatePicture(), ManyLetters())
    curated(rules, annotator=annotator)
    summary = select(curated.out, rules, name="mine")
    assert "counting failed" not in summary.errors_by_code
    assert summary.dropped["duplicate-picture"] == 3


def test_rows_that_were_never_looked_at_are_not_kept_silently(curated):
    curated(STRICT)
    with pytest.raises(InputError, match=r"12 rows that reach a rule have no count-bytes yet"):
        select(curated.out, LOOSE, name="mine")
    assert not (curated.out / "selections" / "mine").exists()


def test_a_rule_without_its_annotations_is_refused(curated):
    curated((CaptionLength(),))
    with pytest.raises(InputError, match="'letters', which is not computed here"):
        select(curated.out, STRICT, name="mine")
    with pytest.raises(InputError, match="'letters', which nothing fills"):
        plan_stages(STRICT, [])


def test_annotations_of_another_ledger_are_refused(curated, shards):
    curated(STRICT)
    write_shard(shards / "001.tar", [(picture(7), "a new picture of a pear")])
    annotate(open_source(str(shards)), curated.out, workers=1)
    with pytest.raises(InputError, match=r"unfinished \(2 of 3 shards"):
        select(curated.out, STRICT, name="mine")


def test_a_shard_without_samples_has_annotations_too(curated, shards):
    write_shard(shards / "003.tar", [])
    curated(STRICT)
    assert select(curated.out, STRICT, name="mine").seen == 21


def test_a_gate_that_reads_what_changed_lets_other_rows_through(curated):
    """The rows behind the second annotator are those of a fresh run, whatever was before."""
    rules = (ManyLetters(least=10), ManyWords())

    def annotate_and_select(annotator, out):
        stages = plan_stages(rules, [annotator, CountWords()])
        source = open_source(str(curated.out.with_name("shards")))
        annotate(source, curated.out.with_name(out), workers=1, stages=stages)
        return select(curated.out.with_name(out), rules, name="mine")

    before = annotate_and_select(CountBytes(skips="e"), "again")
    after = annotate_and_select(CountBytes(), "again")
    assert before.kept < after.kept
    assert after.kept == annotate_and_select(CountBytes(), "fresh").kept


def test_going_between_selections_costs_nothing_the_second_time(curated):
    curated(LOOSE)
    curated(STRICT)
    files = sorted((curated.out / "annotations" / "count-bytes").iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    for rules in (LOOSE, STRICT, LOOSE):
        assert curated(rules)[0].shards_read == 0
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize("folder", ["ledger", "annotations/count-bytes"])
def test_rows_that_changed_places_are_not_taken_for_each_other(curated, shards, folder):
    pairs = [(picture(50 + n), f"a new picture of pear {n}") for n in range(4)]
    write_shard(shards / "002.tar", pairs)  # as many rows as shard 001 has
    curated(STRICT)
    before = sidecars(curated.out)
    one, other = (curated.out / folder / f"0000{n}.parquet" for n in (1, 2))
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])
    assert curated(STRICT)[0].shards_read == 2
    assert sidecars(curated.out) == before


def test_what_an_annotator_reads_may_not_change_under_it(curated, monkeypatch):
    identities = iter(["planned", "changed"])
    monkeypatch.setattr(CountBytes, "identity", lambda self: next(identities))
    with pytest.raises(InputError, match="count-bytes reads has changed since this run began"):
        curated(STRICT, annotator=CountBytes(version=77))


def test_damage_to_what_no_rule_reads_stops_nothing(curated):
    curated(STRICT)
    path = curated.out / "annotations" / "count-bytes" / "00000.parquet"
    path.write_bytes(path.read_bytes()[:100])
    assert select(curated.out, STRICT[:1], name="other").seen == 21
    with pytest.raises(InputError, match="'letters', which is not computed here"):
        select(curated.out, STRICT, name="mine")
    assert curated(STRICT)[0].shards_read == 1


def test_a_damaged_body_is_named(curated):
    curated(STRICT)
    path = curated.out / "ledger" / "00000.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"00000\.parquet is damaged.*delete it, and curate again"):
        select(curated.out, STRICT, name="mine")


def test_long_captions_make_more_groups_and_the_same_rows(curated, monkeypatch):
    curated(STRICT)
    monkeypatch.setattr(reading, "_TEXT_PER_GROUP", 40)
    curated(STRICT, out="split")
    for name in ("ledger", "annotations/count-bytes"):
        for number in range(3):
            whole, split = (
                pq.ParquetFile(curated.out.with_name(out) / name / f"{number:05d}.parquet")
                for out in ("out", "split")
            )
            assert split.num_row_groups > whole.num_row_groups
            assert split.read().equals(whole.read())
    assert select(curated.out.with_name("split"), STRICT, name="mine").seen == 21


def test_too_many_errors_stop_the_run_and_name_the_worst(curated):
    with pytest.raises(
        InputError, match=r"3 of 21 samples are errors \(14\.3%.*000\.tar: 2 of 5.*--max-errors"
    ):
        curated(STRICT, max_errors=0.1)
    assert curated(STRICT, max_errors=0.15)[0].shards_read == 0


def test_sweep_says_what_each_threshold_would_keep(curated):
    curated(STRICT)
    rows = list(sweep(curated.out, STRICT, "caption-length.min_words=2..4"))
    assert [row.value for row in rows] == ["2", "3", "4"]
    assert rows[0].unknown == 12
    kept = select(curated.out, STRICT, name="mine").kept
    assert rows[1] == SweepRow(value="3", kept=kept, dropped=13, other=21 - 13 - kept, unknown=0)
    for row in rows:
        assert row.kept + row.dropped + row.other + row.unknown == 21
    for value in (1, 10, 14):
        rules = (STRICT[0], ManyLetters(least=value))
        expected = select(curated.out, rules, name="mine")
        assert Counter(expected.dropped).total() + expected.kept + expected.errors == 21


@pytest.mark.parametrize(
    ("listed", "values"),
    [
        ("0..3", ["0", "1", "2", "3"]),
        ("0.2..0.3:0.05", ["0.2", "0.25", "0.3"]),
        ("2,4,8", ["2", "4", "8"]),
        ("5", ["5"]),
        ("10..30:10", ["10", "20", "30"]),
        ("-1..1", ["-1", "0", "1"]),
    ],
)
def test_ranges_mean_what_they_say(listed, values):
    assert values_of(listed) == values


@pytest.mark.parametrize("listed", ["0..5000", "1..2:0", "1.2.3..2"])
def test_ranges_that_mean_nothing_are_refused(listed):
    with pytest.raises(InputError, match="is no range"):
        values_of(listed)
