from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import picture

from winnow.data.columns import Columns
from winnow.data.ledger import Address
from winnow.data.parquet import scan
from winnow.data.sources import open_reader
from winnow.types import InputError


def write(path: Path, columns: dict, *, rows: int = 3, **options) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=rows, **options)
    return str(path)


def hugging_face(count: int) -> dict:
    images = [{"bytes": picture(n), "path": f"{n}.jpg"} for n in range(count)]
    return {"image": images, "text": [f"caption {n}" for n in range(count)]}


def test_the_hugging_face_layout_is_read_and_every_picture_found_again(tmp_path):
    shard = write(tmp_path / "0.parquet", hugging_face(7))
    samples = list(scan(shard))
    assert [s.key for s in samples] == [f"{n}.jpg" for n in range(7)]
    assert [(s.offset, s.size) for s in samples] == [(n // 3, n % 3) for n in range(7)]
    assert [s.image for s in samples] == [picture(n) for n in range(7)]
    assert [s.caption for s in samples] == [f"caption {n}" for n in range(7)]
    addresses = [Address(*s[:3]) for s in samples]
    with open_reader(shard) as reader:
        reader.will_need(addresses[0], addresses[-1])
        for n in (6, 0, 3, 1, 6):
            assert reader.read(addresses[n]) == picture(n)


def test_plain_bytes_with_keys_and_metadata_are_read(tmp_path):
    columns = {
        "jpg": [picture(1), picture(2)],
        "key": ["a", "b"],
        "caption": pa.array(["x", "y"]).dictionary_encode(),
        "uid": ["0" * 32, None],
        "similarity": [0.25, 0.5],
        "vector": [[1.0], [2.0]],
    }
    first, second = scan(write(tmp_path / "0.parquet", columns))
    assert (first.key, first.caption, first.image) == ("a", "x", picture(1))
    assert first.metadata == {"key": "a", "caption": "x", "uid": "0" * 32, "similarity": 0.25}
    assert "uid" not in second.metadata


def test_columns_can_be_told_and_the_error_lists_those_found(tmp_path):
    columns = {"photo": [picture()], "blip": ["x"], "image": ["not bytes"]}
    shard = write(tmp_path / "0.parquet", columns)
    (sample,) = scan(shard, columns=Columns(image="photo", caption="blip"))
    assert (sample.error, sample.caption) == (None, "x")
    with open_reader(shard, columns=Columns(image="photo", caption="blip")) as reader:
        assert reader.read(Address(*sample[:3])) == picture()
    with pytest.raises(InputError, match="'photo', 'blip', 'image'"):
        list(scan(shard, columns=Columns(image="photo")))
    with pytest.raises(InputError, match="'image' holds string, not pictures"):
        list(scan(shard, columns=Columns(caption="blip")))


def test_what_a_row_lacks_is_its_error(tmp_path):
    columns = {
        "image": [{"bytes": None, "path": "a"}, None, {"bytes": b"x", "path": "c"}],
        "text": ["x", "y", None],
    }
    errors = [s.error for s in scan(write(tmp_path / "0.parquet", columns))]
    assert errors == ["missing picture: image has no bytes"] * 2 + ["missing caption: text is null"]


def test_text_that_is_no_utf8_is_an_error_of_its_row(tmp_path):
    raw = pa.array([b"good", b"\xff\xfe"], pa.binary())
    text = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    columns = {"image": [b"x", b"y"], "text": text}
    first, second = scan(write(tmp_path / "0.parquet", columns))
    assert first.error is None
    assert second.error == "caption is not UTF-8: byte 0"


def test_a_file_that_is_no_parquet_is_one_error(tmp_path):
    whole = Path(write(tmp_path / "0.parquet", hugging_face(3))).read_bytes()
    for data in (b"", b"PAR1" * 10, whole[:-20]):
        (tmp_path / "cut.parquet").write_bytes(data)
        (row,) = scan(str(tmp_path / "cut.parquet"))
        assert row.error.startswith("broken shard: ") and row.key == "cut.parquet"


def test_the_rows_of_a_broken_row_group_are_errors_and_the_others_are_read(tmp_path):
    path = Path(write(tmp_path / "0.parquet", hugging_face(9), compression="zstd"))
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xee" * column.total_compressed_size
    path.write_bytes(data)
    samples = list(scan(str(path)))
    assert [s.error is None for s in samples] == [True] * 3 + [False] * 3 + [True] * 3
    assert [(s.offset, s.size) for s in samples[3:6]] == [(1, 0), (1, 1), (1, 2)]
    with open_reader(str(path)) as reader:
        assert reader.read(Address("8", 2, 2)) == picture(8)
        for gone in (Address("4", 1, 1), Address("x", 9, 0), Address("x", 0, 99)):
            with pytest.raises(InputError, match="curate the shard again"):
                reader.read(gone)


def test_ten_thousand_rows_are_scanned_in_memory_that_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "0.parquet"
    random = np.random.default_rng(0)
    schema = pa.schema({"image": pa.binary(), "text": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        pictures = [random.bytes(8 * 1024) for _ in range(10_000)]
        table = pa.table({"image": pictures, "text": ["a caption"] * 10_000}, schema=schema)
        writer.write_table(table, row_group_size=10_000)
        del pictures, table
    assert path.stat().st_size > 80e6
    before = pa.total_allocated_bytes()
    count = peak = 0
    for sample in scan(str(path)):
        count += sample.error is None
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert count == 10_000
    assert 0 < peak < 24e6


@pytest.mark.parametrize("repeated", ["image", "caption", "note"])
def test_two_columns_of_one_name_are_refused(tmp_path, repeated):
    names = ["image", "caption", "note", repeated]
    arrays = [pa.array([b"x"] if name == "image" else ["x"]) for name in names]
    path = str(tmp_path / "0.parquet")
    pq.write_table(pa.Table.from_arrays(arrays, names), path)
    for read in (lambda: list(scan(path)), lambda: open_reader(path)):
        with pytest.raises(InputError, match=f"more than one column '{repeated}'"):
            read()
