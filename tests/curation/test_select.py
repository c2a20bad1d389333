import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import picture, write_shard

from winnow.curation.annotate import annotate
from winnow.curation.corpus import Corpus
from winnow.curation.rules.caption_file_name import CaptionFileName
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.duplicates import DuplicatePair, DuplicatePicture
from winnow.curation.rules.rule import Rule
from winnow.curation.select import select
from winnow.curation.selections import clean, none
from winnow.curation.summary import Summary
from winnow.curation.verdicts import VERDICT_SCHEMA
from winnow.data.ledger import Address
from winnow.data.selection import Selection
from winnow.data.sources import Columns, open_reader, open_source
from winnow.types import InputError


@pytest.fixture
def ledger(shards: Path, tmp_path: Path) -> Path:
    """A directory with the ledger of `shards`."""
    out = tmp_path / "curated"
    annotate(open_source(str(shards)), out, workers=1)
    return out


def read_verdicts(out: Path, name: str) -> dict[str, tuple[bool, str | None, list[str]]]:
    """By key: kept, the first reason, all reasons."""
    files = sorted((out / "selections" / name / "verdicts").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {row["key"]: (row["kept"], row["reason"], row["reasons"]) for row in rows}


def uid_of(out: Path, key: str) -> str:
    """The uid that the ledger has for a key of its first shard."""
    rows = pq.read_table(out / "ledger" / "00000.parquet").to_pylist()
    return next(row["uid"] for row in rows if row["key"] == key)


def test_every_sample_is_accounted_for(ledger):
    summary = select(ledger, clean(), name="clean")
    assert (summary.seen, summary.kept, summary.errors) == (21, 3, 3)
    assert {code: n for code, n in summary.dropped.items() if n} == {
        "picture-too-small": 1,
        "caption-file-name": 1,
        "caption-repeated": 11,
        "duplicate-pair": 1,
        "duplicate-picture": 1,
    }
    assert summary.seen == summary.kept + sum(summary.dropped.values()) + summary.errors
    assert sum(summary.errors_by_code.values()) == 3
    assert summary == Summary.read(ledger / "selections" / "clean")


def test_account_that_does_not_add_up_is_refused():
    with pytest.raises(AssertionError, match="5 samples seen, 4 accounted for"):
        Summary(
            selection="clean",
            ledger="",
            seen=5,
            kept=1,
            errors=1,
            errors_by_code={"empty picture": 1},
            dropped={"caption-url": 2},
            fired={"caption-url": 2},
            only={"caption-url": 2},
            rules=[],
            shards=[],
        )


def test_funnel_stands_in_the_order_of_the_rules(ledger):
    rules = (DuplicatePicture(), CaptionFileName(), CaptionLength())
    select(ledger, rules, name="mine")
    summary = json.loads((ledger / "selections" / "mine" / "summary.json").read_text())
    codes = ["duplicate-picture", "caption-file-name", "caption-too-short", "caption-too-long"]
    assert list(summary["dropped"]) == codes
    assert [rule["rule"] for rule in summary["rules"]] == [rule.name() for rule in rules]
    assert summary["rules"][2]["min_characters"] == 3


def test_no_rule_keeps_every_readable_pair(ledger):
    summary = select(ledger, none(), name="none")
    assert (summary.seen, summary.kept, summary.errors) == (21, 18, 3)
    assert summary.dropped == {}


def test_verdicts_stand_row_for_row_beside_the_ledger(ledger):
    select(ledger, clean(), name="clean")
    for number in range(3):
        rows = pq.read_table(ledger / "ledger" / f"{number:05d}.parquet")
        path = ledger / "selections" / "clean" / "verdicts" / f"{number:05d}.parquet"
        verdicts = pq.read_table(path)
        assert verdicts.schema == VERDICT_SCHEMA
        for column in ("uid", "key", "error"):
            assert verdicts[column].equals(rows[column])


def test_all_reasons_of_a_sample_are_kept_and_errors_have_none(ledger):
    rules = (CaptionLength(min_words=3), CaptionFileName(), DuplicatePicture())
    summary = select(ledger, rules, name="mine")
    verdicts = read_verdicts(ledger, "mine")
    kept = f"row 1 of 00000, uid {uid_of(ledger, '0000001')}"
    assert verdicts["0000000"] == (
        False,
        "caption-too-short",
        ["caption-too-short", "caption-file-name", f"duplicate-picture: of {kept}"],
    )
    assert verdicts["0000001"] == (True, None, [])
    assert verdicts["0000003"] == (False, None, [])
    assert summary.fired["caption-file-name"] == 1
    assert summary.dropped["caption-file-name"] == 0


def test_kept_copy_is_the_first_that_no_earlier_rule_drops(ledger):
    select(ledger, (CaptionFileName(), DuplicatePair(), DuplicatePicture()), name="late")
    select(ledger, (DuplicatePair(), DuplicatePicture(), CaptionFileName()), name="early")
    late, early = read_verdicts(ledger, "late"), read_verdicts(ledger, "early")
    # The first copy is called IMG_2041.JPG: rules that judge captions belong before duplicates.
    assert [late[key][0] for key in ("0000000", "0000001", "0010000")] == [False, True, False]
    first, second = (uid_of(ledger, key) for key in ("0000000", "0000001"))
    assert late["0010000"][1] == f"duplicate-pair: of row 1 of 00000, uid {second}"
    assert late["0010001"][1] == f"duplicate-picture: of row 1 of 00000, uid {second}"
    assert [early[key][0] for key in ("0000000", "0000001", "0010000")] == [False, False, False]
    assert early["0000001"][1] == f"duplicate-picture: of row 0 of 00000, uid {first}"


def test_selection_opens_for_training_and_its_addresses_hold_the_pictures(ledger, shards):
    select(ledger, clean(), name="clean")
    selection = Selection.open(ledger / "selections" / "clean")
    assert selection.table["caption"].to_pylist() == [
        "a red apple on a table",
        "two green pears",
        "a grey cat",
    ]
    assert selection.shard_counts.tolist() == [2, 0, 1]
    row = selection.table.slice(2, 1).to_pylist()[0]
    with open_reader(selection.shards[row["shard"]]) as reader:
        address = Address(row["key"], row["offset"], row["size"])
        assert reader.read(address) == picture(5)


@pytest.mark.slow
def test_selection_is_the_same_bytes_whatever_the_number_of_workers(shards, tmp_path):
    written = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        annotate(open_source(str(shards)), out, workers=workers)
        select(out, clean(), name="clean")
        files = sorted(path for path in (out / "selections").rglob("*") if path.is_file())
        written.append({str(path.relative_to(out)): path.read_bytes() for path in files})
    assert len(written[0]) == 7
    assert written[0].keys() == written[1].keys()
    for name in written[0].keys() - {"selections/clean/summary.json"}:
        assert written[0][name] == written[1][name]


def test_selecting_again_replaces_the_selection_as_a_whole(ledger):
    select(ledger, none(), name="mine")
    summary = select(ledger, (CaptionLength(min_words=3),), name="mine")
    assert summary.dropped["caption-too-short"] == 13
    assert len(Selection.open(ledger / "selections" / "mine")) == summary.kept == 5
    assert [path.name for path in (ledger / "selections").iterdir()] == ["mine"]


@dataclass(frozen=True, kw_only=True)
class Failing(Rule):
    codes: ClassVar[tuple[str, ...]] = ("failing",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        raise RuntimeError("a rule that fails")


def test_rule_that_fails_leaves_the_old_selection(ledger):
    before = select(ledger, none(), name="mine")
    with pytest.raises(RuntimeError, match="a rule that fails"):
        select(ledger, (Failing(),), name="mine")
    assert Summary.read(ledger / "selections" / "mine") == before
    assert [path.name for path in (ledger / "selections").iterdir()] == ["mine"]
    assert select(ledger, none(), name="mine") == before
    assert [path.name for path in (ledger / "selections").iterdir()] == ["mine"]


@dataclass(frozen=True, kw_only=True)
class Meddling(Rule):
    """While it judges, somebody else makes a selection of the same name."""

    codes: ClassVar[tuple[str, ...]] = ("meddling",)

    out: Path

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        select(self.out, none(), name="mine")
        return pa.array(["meddling"] * rows.num_rows, pa.string())


def test_of_two_selections_at_once_the_last_stays_whole(ledger):
    summary = select(ledger, (Meddling(out=ledger),), name="mine")
    assert (summary.kept, summary.dropped) == (0, {"meddling": 18})
    assert Summary.read(ledger / "selections" / "mine") == summary
    assert len(Selection.open(ledger / "selections" / "mine")) == 0
    assert not any(read_verdicts(ledger, "mine")[key][0] for key in ("0000000", "0020000"))
    assert [path.name for path in (ledger / "selections").iterdir()] == ["mine"]


def test_unfinished_ledger_is_refused(ledger):
    (ledger / "ledger" / "00001.json").unlink()
    with pytest.raises(InputError, match=r"unfinished \(2 of 3 shards\)"):
        select(ledger, none(), name="none")


def test_directory_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no ledger"):
        select(tmp_path, none(), name="none")


@pytest.mark.parametrize("name", ["../other", "", ".hidden", "a/b"])
def test_name_that_is_no_file_name_is_refused(ledger, name):
    with pytest.raises(InputError, match="cannot be called"):
        select(ledger, none(), name=name)


def test_shard_without_samples_is_selected_too(shards, tmp_path):
    write_shard(shards / "003.tar", [])
    annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    summary = select(tmp_path / "out", clean(), name="clean")
    assert (summary.seen, summary.kept) == (21, 3)
    assert len(summary.shards) == 4


def test_columns_that_were_told_reach_whoever_reads_the_selection(tmp_path):
    pictures = {"front": [picture(1)], "back": [picture(2)], "says": ["a red apple"]}
    pq.write_table(pa.table(pictures), tmp_path / "0.parquet")
    told = Columns(image="back", caption="says")
    annotate(open_source(str(tmp_path), columns=told), tmp_path / "curated", workers=1)
    select(tmp_path / "curated", none(), name="none")
    selection = Selection.open(tmp_path / "curated" / "selections" / "none")
    (sample,) = selection.samples(np.array([0]))
    with open_reader(sample.shard, columns=selection.columns) as reader:
        assert reader.read(sample.address) == picture(2)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"seen": '])
def test_damaged_account_is_named(ledger, content):
    select(ledger, none(), name="mine")
    directory = ledger / "selections" / "mine"
    (directory / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json"):
        Summary.read(directory)
