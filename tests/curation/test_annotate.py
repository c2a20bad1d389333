import gzip
import hashlib
import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from curation_samples import picture, write_shard

from winnow.curation import annotate as annotate_module
from winnow.curation import reading
from winnow.curation.annotate import annotate
from winnow.data.ledger import LEDGER_SCHEMA
from winnow.data.sources import Columns, open_source
from winnow.types import InputError


def ledger_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "ledger").glob("*.parquet"))}


def shards_of(out: Path) -> list[str]:
    """The keys' first parts, which are the names of the shards, in ledger order."""
    tables = [pq.read_table(path) for path in sorted((out / "ledger").glob("*.parquet"))]
    return [table["key"][0].as_py()[:3] for table in tables]


def test_every_sample_has_a_row_and_what_cannot_be_read_has_an_error(shards, tmp_path):
    result = annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    table = pq.read_table(tmp_path / "out" / "ledger" / "00000.parquet")
    assert table.schema == LEDGER_SCHEMA
    assert table["key"].to_pylist() == [f"000{index:04d}" for index in range(5)]
    assert table["caption"].to_pylist()[1] == "a red apple on a table"
    assert table["sha256"].to_pylist()[0] == hashlib.sha256(picture(1)).hexdigest()
    assert table["width"].to_pylist() == [48, 48, 48, None, None]
    assert table["height"].to_pylist() == [40, 40, 40, None, None]
    codes = [error and error.partition(":")[0] for error in table["error"].to_pylist()]
    assert codes == [None, None, None, "truncated picture", "empty picture"]
    assert (result.shards, result.shards_read, result.samples) == (3, 3, 21)
    assert result.errors == {
        "truncated picture": 1,
        "empty picture": 1,
        "unknown picture format": 1,
    }


def test_stats_say_what_was_read(shards, tmp_path):
    annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    stats = json.loads((tmp_path / "out" / "ledger" / "00001.json").read_text())
    assert stats["shard"] == str(shards / "001.tar")
    assert stats["bytes"] == (shards / "001.tar").stat().st_size
    assert (stats["rows"], stats["errors"]) == (4, {"unknown picture format": 1})


def test_number_of_workers_does_not_change_a_byte(shards, tmp_path):
    for workers in (1, 2):
        annotate(open_source(str(shards)), tmp_path / str(workers), workers=workers)
    assert len(ledger_bytes(tmp_path / "1")) == 3
    assert ledger_bytes(tmp_path / "1") == ledger_bytes(tmp_path / "2")


def test_only_the_shard_without_stats_is_done_again(shards, tmp_path):
    source, out = open_source(str(shards)), tmp_path / "out"
    annotate(source, out, workers=1)
    before = ledger_bytes(out)
    (out / "ledger" / "00001.json").unlink()
    (out / "ledger" / "00001.parquet").write_bytes(b"half written")
    assert annotate(source, out, workers=1).shards_read == 1
    assert ledger_bytes(out) == before
    assert annotate(source, out, workers=1).shards_read == 0


@contextmanager
def interrupted_track(what, *, total, unit):
    """Ctrl-C as the first shard is done."""

    def advance(count=1, note=""):
        raise KeyboardInterrupt

    yield advance


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_run_leaves_whole_shards_and_goes_on_to_the_same_bytes(
    shards, tmp_path, workers, monkeypatch
):
    source, out, whole = open_source(str(shards)), tmp_path / "out", tmp_path / "whole"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(annotate_module, "track", interrupted_track)
        annotate(source, out, workers=workers)
    done = len(list((out / "ledger").glob("0*.json")))
    assert 1 <= done <= workers
    assert len(ledger_bytes(out)) == done
    assert annotate(source, out, workers=1).shards_read == 3 - done
    annotate(source, whole, workers=1)
    assert ledger_bytes(out) == ledger_bytes(whole)


def test_changed_shard_is_done_again(shards, tmp_path):
    source, out = open_source(str(shards)), tmp_path / "out"
    annotate(source, out, workers=1)
    write_shard(shards / "001.tar", [(picture(7), "a new picture")])
    result = annotate(source, out, workers=1)
    assert (result.shards_read, result.samples) == (1, 18)
    table = pq.read_table(out / "ledger" / "00001.parquet")
    assert table["caption"].to_pylist() == ["a new picture"]


def test_shard_of_the_same_size_but_a_later_time_is_done_again(shards, tmp_path):
    source, out = open_source(str(shards)), tmp_path / "out"
    annotate(source, out, workers=1)
    os.utime(shards / "001.tar", ns=(1, 1))
    assert annotate(source, out, workers=1).shards_read == 1


def test_other_columns_or_another_version_make_the_ledger_stale(shards, tmp_path, monkeypatch):
    out = tmp_path / "out"
    annotate(open_source(str(shards)), out, workers=1)
    columns = Columns(image="png")
    assert annotate(open_source(str(shards), columns=columns), out, workers=1).shards_read == 3
    monkeypatch.setattr(annotate_module, "ANNOTATION_VERSION", -1)
    assert annotate(open_source(str(shards), columns=columns), out, workers=1).shards_read == 3


def test_added_shards_take_their_place_and_the_others_are_not_read_again(shards, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    names = [str(shards / name) for name in ("001.tar", "002.tar")]
    annotate(open_source(names), out, workers=1)
    assert shards_of(out) == ["001", "002"]
    assert annotate(open_source(str(shards)), out, workers=1).shards_read == 1
    assert shards_of(out) == ["000", "001", "002"]
    annotate(open_source(str(shards)), whole, workers=1)
    assert ledger_bytes(out) == ledger_bytes(whole)
    assert sorted(path.name for path in (out / "ledger").iterdir()) == sorted(
        path.name for path in (whole / "ledger").iterdir()
    )


def test_shards_given_in_another_order_change_places(shards, tmp_path):
    out = tmp_path / "out"
    names = [str(shards / name) for name in ("000.tar", "001.tar", "002.tar")]
    annotate(open_source(names), out, workers=1)
    assert annotate(open_source([names[2], names[0], names[1]]), out, workers=1).shards_read == 0
    assert shards_of(out) == ["002", "000", "001"]


def test_shards_that_are_not_given_again_are_not_forgotten_silently(shards, tmp_path):
    annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    with pytest.raises(InputError, match=r"1 shard.* not given now.*002\.tar"):
        annotate(open_source(str(shards / "00[01].tar")), tmp_path / "out", workers=1)
    assert len(ledger_bytes(tmp_path / "out")) == 3


def test_unreadable_shard_is_named_once_the_others_are_done(shards, tmp_path):
    (shards / "001.tar").write_bytes(gzip.compress((shards / "001.tar").read_bytes()))
    names = [str(shards / name) for name in ("000.tar", "001.tar", "002.tar")]
    with pytest.raises(InputError, match=r"1 of 3 shards cannot be read.*001\.tar is compressed"):
        annotate(open_source(names), tmp_path / "out", workers=2)
    result = annotate(open_source([names[0], names[2]]), tmp_path / "out", workers=1)
    assert result.shards_read == 0
    assert shards_of(tmp_path / "out") == ["000", "002"]


def test_missing_shard_is_named_before_anything_is_written(shards, tmp_path):
    source = open_source(str(shards))
    (shards / "002.tar").unlink()
    with pytest.raises(InputError, match=r"002\.tar cannot be read: No such file"):
        annotate(source, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_bug_in_the_code_is_no_error_of_a_sample(shards, tmp_path, monkeypatch):
    def broken_probe(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(reading, "probe", broken_probe)
    with pytest.raises(ZeroDivisionError):
        annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    assert not list((tmp_path / "out" / "ledger").glob("0*.json"))


def test_cut_shard_keeps_what_could_be_read_and_says_where_it_ends(shards, tmp_path):
    whole = (shards / "002.tar").read_bytes()
    (shards / "002.tar").write_bytes(whole[: len(whole) // 2])
    annotate(open_source(str(shards)), tmp_path / "out", workers=1)
    errors = pq.read_table(tmp_path / "out" / "ledger" / "00002.parquet")["error"].to_pylist()
    assert errors[:3] == [None, None, None]
    assert Counter(error and error.partition(":")[0] for error in errors)["broken shard"] == 1


@pytest.mark.parametrize("file", ["00001.json", "00001.parquet", "shards.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_damaged_ledger_is_mended_by_annotating_again(shards, tmp_path, file, damage):
    source, out = open_source(str(shards)), tmp_path / "out"
    annotate(source, out, workers=1)
    before, path = ledger_bytes(out), out / "ledger" / file
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    result = annotate(source, out, workers=1)
    assert result.shards_read == (0 if file == "shards.json" else 1)
    assert ledger_bytes(out) == before


def test_rows_of_another_number_than_the_stats_say_are_done_again(shards, tmp_path):
    source, out = open_source(str(shards)), tmp_path / "out"
    annotate(source, out, workers=1)
    before, path = ledger_bytes(out), out / "ledger" / "00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    assert annotate(source, out, workers=1).shards_read == 1
    assert ledger_bytes(out) == before


@pytest.mark.parametrize("out", ["elsewhere", "table", "table/curated"])
def test_table_is_done_again_when_a_picture_beside_it_changes_or_appears(tmp_path, out):
    folder, out = tmp_path / "table", tmp_path / out
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "0.png").write_bytes(picture(0))
    (folder / "pairs.csv").write_text("path,caption\npictures/0.png,one\npictures/1.png,two\n")
    source = open_source(str(folder / "pairs.csv"))
    assert annotate(source, out, workers=1).errors == {"missing picture": 1}
    assert annotate(source, out, workers=1).shards_read == 0
    (folder / "pictures" / "1.png").write_bytes(picture(1))
    assert annotate(source, out, workers=1).errors == {}
    (folder / "pictures" / "0.png").write_bytes(b"no picture")
    assert annotate(source, out, workers=1).errors == {"unknown picture format": 1}
    assert annotate(source, out, workers=1).shards_read == 0
