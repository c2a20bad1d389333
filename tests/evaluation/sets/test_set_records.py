import os
import re

import pytest
from set_makers import emoji, write_lists, write_pair_table, write_pair_tars

from winnow.evaluation.sets import evaluation_set, open_set, reading, records
from winnow.types import InputError


@pytest.fixture
def readings(monkeypatch):
    """Counts how often a split is read through."""
    done = []
    read = evaluation_set.read_through

    def counted(contents, **options):
        done.append(contents)
        return read(contents, **options)

    monkeypatch.setattr(evaluation_set, "read_through", counted)
    return done


def touch(path):
    """Another time of modification, the same bytes."""
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("layout", ["webdataset", "image_folder", "karpathy", "statements"])
def test_a_set_whose_files_are_as_they_were_is_not_read_again(request, tmp_path, readings, layout):
    folder, split = request.getfixturevalue(layout), "val" if layout == "image_folder" else "test"
    kept = tmp_path / "records"
    first = open_set(folder, split=split, records=kept)
    second = open_set(folder, split=split, records=kept)
    assert len(readings) == 1
    same = ("fingerprint", "num_samples", "has_captions", "has_statements", "captions_each")
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]
    assert list(second.samples()) == list(first.samples())
    open_set(folder, split=split)
    assert len(readings) == 2
    open_set(folder, split="train" if layout != "statements" else split, records=kept)
    assert len(readings) == 2 + (layout != "statements")


@pytest.mark.parametrize("file", ["test/1.tar", "classnames.txt", "test/nshards.txt"])
def test_a_file_of_the_same_size_and_another_time_is_read_again(
    webdataset, tmp_path, readings, file
):
    open_set(webdataset, records=tmp_path / "records")
    touch(webdataset / file)
    open_set(webdataset, records=tmp_path / "records")
    open_set(webdataset, records=tmp_path / "records")
    assert len(readings) == 2


def test_a_file_of_the_same_size_and_time_and_other_bytes_is_read_again(
    image_folder, tmp_path, readings
):
    kept, file = tmp_path / "records", next((image_folder / "val").rglob("*.PNG"))
    first = open_set(image_folder, split="val", records=kept)
    facts, content = file.stat(), file.read_bytes()
    # The clock of a file system has ticks, and this has to be another one.
    while file.stat().st_ctime_ns == facts.st_ctime_ns:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    second = open_set(image_folder, split="val", records=kept)
    assert first.fingerprint != second.fingerprint
    assert len(readings) == 2


def test_what_changed_is_found(image_folder, tmp_path, readings):
    kept = tmp_path / "records"
    first = open_set(image_folder, split="val", records=kept)
    added = image_folder / "val" / "1f34c" / "second.png"
    added.write_bytes(emoji()[0].png)
    second = open_set(image_folder, split="val", records=kept)
    assert (first.num_samples, second.num_samples) == (6, 7)
    added.unlink()
    assert open_set(image_folder, split="val", records=kept).fingerprint == first.fingerprint
    assert len(readings) == 3


def test_a_set_that_broke_is_refused_in_spite_of_its_record(webdataset, tmp_path):
    open_set(webdataset, records=tmp_path / "records")
    write_lists(webdataset, names=["one", "two"])
    with pytest.raises(InputError, match="none of the 2 classes"):
        open_set(webdataset, records=tmp_path / "records")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"version": 1}', b"\xff"])
def test_a_damaged_record_is_as_good_as_none(webdataset, tmp_path, readings, damage):
    open_set(webdataset, records=tmp_path / "records")
    (record,) = (tmp_path / "records").iterdir()
    record.write_bytes(damage)
    open_set(webdataset, records=tmp_path / "records")
    open_set(webdataset, records=tmp_path / "records")
    assert len(readings) == 2


def test_an_old_record_is_as_good_as_none(webdataset, tmp_path, readings, monkeypatch):
    open_set(webdataset, records=tmp_path / "records")
    monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
    open_set(webdataset, records=tmp_path / "records")
    assert len(readings) == 2


def test_a_set_that_is_not_whole_leaves_no_record(webdataset, tmp_path):
    (webdataset / "classnames.txt").unlink()
    with pytest.raises(InputError):
        open_set(webdataset, records=tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_tars_of_pairs_have_records_and_tables_have_none(tmp_path, readings):
    tars, table = write_pair_tars(tmp_path / "tars"), write_pair_table(tmp_path / "table")
    for folder in (tars, tars, table, table):
        open_set(folder, records=tmp_path / "records")
    assert len(readings) == 3


@pytest.mark.parametrize(
    ("layout", "shown"), [("webdataset", "bytes, .*done"), ("statements", "12/12 pictures, .*done")]
)
def test_a_long_reading_says_how_far_it_is(request, monkeypatch, capsys, layout, shown):
    folder = request.getfixturevalue(layout)
    open_set(folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(reading, "_LONG_BYTES", 0)
    open_set(folder)
    assert re.search(shown, capsys.readouterr().err.replace("\n", " "))


def test_one_picture_at_a_time_is_held(tmp_path):
    """300 pictures of half a megabyte are read through in a fraction of their size."""
    import tracemalloc

    from set_makers import write_shards

    noise = [os.urandom(500_000) for _ in range(3)]
    for number in range(3):
        members = []
        for sample in range(100):
            key = f"{number}-{sample}"
            members += [(f"{key}.png", noise[sample % 3]), (f"{key}.txt", b"noise")]
        write_shards(tmp_path / f"set{number}", [members])
        del members
    tracemalloc.start()
    for number in range(3):
        assert open_set(tmp_path / f"set{number}").num_samples == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
