import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import picture

from winnow.curation import materialise as module
from winnow.curation.annotate import annotate
from winnow.curation.materialise import materialise
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.select import select
from winnow.curation.selections import none
from winnow.data.folder import Folder
from winnow.data.selection import Selection
from winnow.data.sources import open_reader, open_source
from winnow.types import InputError

KINDS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp", "tiff": "tif"}


def write_raw(folder):
    """Two tars of 7 and 6 pairs in all formats, one with URLs and uids, and two broken pairs."""
    for number, count in enumerate((7, 6)):
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"raw{number}.tar", "w") as tar:
            for index in range(count):
                kind = list(KINDS)[index % len(KINDS)]
                image = picture(10 * number + index, format=kind)
                metadata = {
                    "url": f"https://example.com/{number}/{index}",
                    "uid": uid(number, index),
                }
                members = {kind: image if index != 3 else image[:50], "txt": caption(number, index)}
                if number == 0:
                    members["json"] = json.dumps(metadata).encode()
                for extension, data in members.items():
                    # Keys come again in the next shard, as they do where sets are joined.
                    header = tarfile.TarInfo(f"very.odd/kéy {index}.{extension}")
                    header.size = len(data)
                    tar.addfile(header, io.BytesIO(data))


def uid(number, index):
    return f"{number:016x}{index:016x}"


def caption(number, index):
    return f"caption №{index} of shard {number}\n".encode()


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A folder with a ledger of both shards, and the selection of all readable pairs."""
    root = tmp_path_factory.mktemp("curated")
    write_raw(root / "raw")
    annotate(open_source(str(root / "raw")), root / "out", workers=1)
    select(root / "out", none(), name="all")
    return root / "out"


@pytest.fixture
def selection(curated):
    return Selection.open(curated / "selections" / "all")


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_winnow_reads_back_what_was_kept(selection, tmp_path):
    result = materialise(selection, tmp_path / "new", samples_per_shard=4)
    assert (result.shards, result.shards_written, result.samples) == (3, 3, 11)
    kept = selection.samples(np.arange(11))
    source = open_source(str(tmp_path / "new"))
    assert [Path(shard).name for shard in source.shards] == [f"00000{n}.tar" for n in range(3)]
    found = [sample for shard in source.shards for sample in source.scan(shard)]
    assert [sample.error for sample in found] == [None] * 11
    assert [sample.key for sample in found] == [f"{n:012d}" for n in range(11)]
    for old, new in zip(kept, found, strict=True):
        with open_reader(old.shard) as reader:
            assert new.image == reader.read(old.address)
        number = int(old.shard[-5])
        index = int(old.address.key[-1])
        assert new.caption.encode() == old.caption.encode() == caption(number, index)
        assert new.metadata == {
            "uid": old.uid,
            "url": f"https://example.com/0/{index}" if number == 0 else None,
            "original_shard": old.shard,
            "original_key": f"very.odd/kéy {index}",
        }
        assert number == 1 or old.uid == uid(number, index)


def test_curating_the_new_shards_keeps_the_uids(selection, tmp_path):
    materialise(selection, tmp_path / "new", samples_per_shard=5)
    annotate(open_source(str(tmp_path / "new")), tmp_path / "out", workers=1)
    select(tmp_path / "out", none(), name="all")
    again = Selection.open(tmp_path / "out" / "selections" / "all")
    assert again.table["uid"].equals(selection.table["uid"])
    assert again.table["caption"].equals(selection.table["caption"])


def test_webdataset_reads_it_too(selection, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    materialise(selection, tmp_path / "new", samples_per_shard=4)
    urls = str(tmp_path / "new" / "{000000..000002}.tar")
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in found] == [f"{n:012d}" for n in range(11)]
    extensions = list(KINDS.values())
    for sample, kept in zip(found, selection.samples(np.arange(11)), strict=True):
        extension = extensions[int(kept.address.key[-1]) % len(extensions)]
        assert {name for name in sample if not name.startswith("__")} == {extension, "json", "txt"}
        with open_reader(kept.shard) as reader:
            assert sample[extension] == reader.read(kept.address)
        assert sample["txt"].decode() == kept.caption
        assert json.loads(sample["json"])["uid"] == kept.uid


def test_the_bytes_do_not_depend_on_workers_or_on_when(selection, tmp_path, monkeypatch):
    materialise(selection, tmp_path / "one", samples_per_shard=3, workers=1)
    monkeypatch.setattr("time.time", lambda: 2e9)
    materialise(selection, tmp_path / "two", samples_per_shard=3, workers=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / "000000.tar") as tar:
        members = tar.getmembers()
    assert [m.name for m in members[:3]] == ["000000000000." + x for x in ("jpg", "json", "txt")]
    owners = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members}
    assert owners == {(0, 0, 0, "", "", 0o644)}


def test_the_manifest_is_the_sum_of_the_shards(selection, tmp_path):
    result = materialise(selection, tmp_path / "new", samples_per_shard=4)
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["selection"] == selection.fingerprint
    assert manifest["samples"] == 11 == sum(shard["samples"] for shard in manifest["shards"])
    assert [shard["samples"] for shard in manifest["shards"]] == [4, 4, 3]
    for shard in manifest["shards"]:
        data = (tmp_path / "new" / shard["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert result.bytes == sum(shard["bytes"] for shard in manifest["shards"])


def test_it_goes_on_where_it_was_stopped(selection, tmp_path, monkeypatch):
    materialise(selection, tmp_path / "whole", samples_per_shard=3)
    expected, out = bytes_of(tmp_path / "whole"), tmp_path / "new"
    write = module._write

    def stop_at_the_third(unit):
        if unit.number == 2:
            raise KeyboardInterrupt
        return write(unit)

    monkeypatch.setattr(module, "_write", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        materialise(selection, out, samples_per_shard=3)
    assert not (out / "manifest.json").exists()
    monkeypatch.setattr(module, "_write", write)
    assert materialise(selection, out, samples_per_shard=3).shards_written == 2
    assert bytes_of(out) == expected


@pytest.mark.parametrize("harm", ["flip", "cut", "tar", "stats", "half stats"])
def test_a_shard_that_is_not_whole_is_written_again(selection, tmp_path, harm):
    out = tmp_path / "new"
    materialise(selection, out, samples_per_shard=3)
    expected = bytes_of(out)
    tar, stats = out / "000001.tar", out / "000001_stats.json"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    {
        "flip": lambda: tar.write_bytes(data),
        "cut": lambda: tar.write_bytes(data[:-512]),
        "tar": tar.unlink,
        "stats": stats.unlink,
        "half stats": lambda: stats.write_text('{"samples": 3'),
    }[harm]()
    assert materialise(selection, out, samples_per_shard=3).shards_written == 1
    assert bytes_of(out) == expected
    assert materialise(selection, out, samples_per_shard=3).shards_written == 0
    assert bytes_of(out) == expected


def test_the_folder_of_another_selection_is_refused(curated, selection, tmp_path):
    out = tmp_path / "new"
    materialise(selection, out, samples_per_shard=3)
    before = bytes_of(out)
    select(curated, (CaptionLength(min_words=1000),), name="other")
    other = Selection.open(curated / "selections" / "other")
    for chosen, size in ((other, 3), (selection, 4)):
        with pytest.raises(InputError, match="holds another selection, or the same in shards of"):
            materialise(chosen, out, samples_per_shard=size)
    assert bytes_of(out) == before
    for plan in ("[]", "{}", '{"samples": 3}'):
        (out / "plan.json").write_text(plan)
        with pytest.raises(InputError, match=r"new/plan\.json is no plan of shards"):
            materialise(selection, out, samples_per_shard=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    with pytest.raises(InputError, match=r"is not empty \(thesis\.tex is there\)"):
        materialise(selection, tmp_path / "mine")
    with pytest.raises(InputError, match="samples_per_shard is 0"):
        materialise(selection, tmp_path / "zero", samples_per_shard=0)


def test_a_selection_of_nothing_is_a_manifest(curated, tmp_path):
    select(curated, (CaptionLength(min_words=1000),), name="nothing")
    nothing = Selection.open(curated / "selections" / "nothing")
    assert materialise(nothing, tmp_path / "new").shards == 0
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["shards"] == []


def test_raw_shards_or_a_ledger_that_changed_stop_it(curated, tmp_path):
    root = tmp_path / "copy"
    write_raw(root / "raw")
    annotate(open_source(str(root / "raw")), root / "out", workers=1)
    select(root / "out", none(), name="all")
    selection = Selection.open(root / "out" / "selections" / "all")
    select(root / "out", (CaptionLength(min_words=1000),), name="all")
    with pytest.raises(InputError, match="was selected anew meanwhile"):
        materialise(selection, tmp_path / "a")
    select(root / "out", none(), name="all")
    (root / "raw" / "raw1.tar").write_bytes((root / "raw" / "raw0.tar").read_bytes())
    with pytest.raises(InputError, match=r"raw1\.tar has changed since its ledger was made"):
        materialise(selection, tmp_path / "b")
    ledger = pq.read_table(root / "out" / "ledger" / "00000.parquet")
    uids = pa.array(["0" * 32] * ledger.num_rows)
    pq.write_table(
        ledger.set_column(0, ledger.schema.field(0), uids),
        root / "out" / "ledger" / "00000.parquet",
    )
    with pytest.raises(InputError, match="is no longer that of"):
        materialise(selection, tmp_path / "c")


def test_without_a_ledger_there_are_no_urls(selection, tmp_path):
    alone = tmp_path / "far" / "away" / "selection"
    shutil.copytree(selection.directory, alone)
    materialise(Selection.open(alone), tmp_path / "new")
    source = open_source(str(tmp_path / "new"))
    found = [sample.metadata for shard in source.shards for sample in source.scan(shard)]
    assert {metadata["url"] for metadata in found} == {None}
    assert [m["uid"] for m in found] == selection.table["uid"].to_pylist()


def test_other_sources_are_materialised_alike(tmp_path):
    images = [picture(n, format="jpeg") for n in range(5)]
    table = pa.table(
        {
            "image": [{"bytes": i, "path": None} for i in images],
            "text": [f"no. {n}" for n in range(5)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    annotate(open_source(str(tmp_path / "a.parquet")), tmp_path / "out", workers=1)
    select(tmp_path / "out", none(), name="all")
    selection = Selection.open(tmp_path / "out" / "selections" / "all")
    materialise(selection, Folder.at(tmp_path / "new"), samples_per_shard=2)
    source = open_source(str(tmp_path / "new"))
    found = [sample for shard in source.shards for sample in source.scan(shard)]
    assert [(s.image, s.caption) for s in found] == [(i, f"no. {n}") for n, i in enumerate(images)]


def test_a_store_takes_the_shards_too(selection, tmp_path):
    materialise(selection, tmp_path / "here", samples_per_shard=4)
    materialise(selection, "memory://materialised/there", samples_per_shard=4)
    assert (
        materialise(selection, "memory://materialised/there", samples_per_shard=4).shards_written
        == 0
    )
    there = Folder.at("memory://materialised/there")
    assert {name: there.read(name) for name in there.names()} == bytes_of(tmp_path / "here")
