import json
from pathlib import Path

import pytest
from data_makers import picture

from winnow.data.columns import Columns
from winnow.data.ledger import Address
from winnow.data.sources import open_reader, open_source
from winnow.data.table import scan
from winnow.types import InputError


def folder(path: Path, table: str, text: str | bytes, pictures: int = 3) -> str:
    (path / "images").mkdir(exist_ok=True)
    for n in range(pictures):
        (path / "images" / f"{n}.jpg").write_bytes(picture(n))
    (path / table).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path / table)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize(
    ("image", "caption"), [("filepath", "title"), ("file_name", "text"), ("Image", "Caption")]
)
def test_delimiter_and_columns_are_found(tmp_path, delimiter, image, caption):
    rows = [[image, caption, "url"]] + [[f"images/{n}.jpg", f"no {n}", "u"] for n in range(3)]
    text = "\ufeff" + "\n".join(delimiter.join(row) for row in rows)
    shard = folder(tmp_path, "t.csv", text)
    samples = list(scan(shard))
    assert [s.key for s in samples] == [f"images/{n}.jpg" for n in range(3)]
    assert [s.image for s in samples] == [picture(n) for n in range(3)]
    assert [s.caption for s in samples] == ["no 0", "no 1", "no 2"]
    assert {s.error for s in samples} == {None} and samples[0].metadata["url"] == "u"
    with open_reader(shard) as reader:
        addresses = [Address(*s[:3]) for s in samples]
        reader.will_need(addresses[0], addresses[2])
        assert reader.read(addresses[2]) == picture(2)


def test_jsonl_as_an_image_folder_has_it_is_read(tmp_path):
    lines = [json.dumps({"file_name": f"images/{n}.jpg", "text": f"no {n}"}) for n in range(2)]
    shard = folder(tmp_path, "metadata.jsonl", "\n".join([*lines, "", "{", '"x"']))
    assert open_source(str(tmp_path)).shards == (shard,)
    samples = list(scan(shard))
    assert [s.caption for s in samples] == ["no 0", "no 1", None, None]
    assert [s.error is None for s in samples] == [True, True, False, False]


def test_quoted_captions_may_hold_delimiters_and_line_breaks(tmp_path):
    text = 'filepath,title\nimages/0.jpg,"red, green\nand ""blue"""\nimages/1.jpg,x'
    first, second = scan(folder(tmp_path, "t.csv", text))
    assert first.caption == 'red, green\nand "blue"' and second.caption == "x"


def test_columns_can_be_told_and_the_error_lists_those_found(tmp_path):
    shard = folder(tmp_path, "t.csv", "where@what\nimages/0.jpg@x")
    with pytest.raises(InputError, match=r"'where@what'.*Columns\(image="):
        list(scan(shard))
    told = Columns(image="where", caption="what", delimiter="@")
    (sample,) = scan(shard, columns=told)
    assert (sample.key, sample.caption, sample.error) == ("images/0.jpg", "x", None)
    with pytest.raises(InputError, match="no column 'else'"):
        list(scan(shard, columns=Columns(image="where", caption="else", delimiter="@")))
    with pytest.raises(InputError, match="one character"):
        Columns(delimiter="\\t")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "../secret.jpg",
        "images/../../secret.jpg",
        "https://x/y.jpg",
        "images\0.jpg",
    ],
)
def test_a_path_that_leaves_the_folder_is_an_error_and_is_not_read(tmp_path, path):
    (tmp_path / "secret.jpg").write_bytes(picture())
    (tmp_path / "data").mkdir()
    shard = folder(tmp_path / "data", "t.csv", f"filepath,title\n{path},x\nimages/0.jpg,y")
    hostile, good = scan(shard)
    assert hostile.error.startswith("unsafe path: ") and hostile.image is None
    assert good.error is None


def test_an_absolute_path_inside_the_folder_is_taken_relative_to_it(tmp_path):
    shard = folder(tmp_path, "t.csv", f"filepath,title\n{tmp_path}/images/0.jpg,x")
    (sample,) = scan(shard)
    assert (sample.key, sample.error) == ("images/0.jpg", None)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (b"images/none.jpg,x", "missing picture: images/none.jpg: No such file"),
        (b"images,x", "missing picture: images: Is a directory"),
        (b",x", "missing picture: column filepath is empty"),
        (b"images/0.jpg", "missing caption: column title is empty"),
        (b"images/0.jpg,x,y", "broken row: 3 values for 2 columns"),
        (b"images/0.jpg,\xff", "caption is not UTF-8: byte 0"),
        (b"\xff.jpg,x", "path is not UTF-8"),
        (b"images/0.jpg," + b"x" * 200_000, "broken row: field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_row_is_its_error_and_the_next_is_read(tmp_path, row, error):
    shard = folder(tmp_path, "t.csv", b"filepath,title\n" + row + b"\nimages/1.jpg,good\n")
    broken, good = scan(shard)
    assert broken.error.startswith(error)
    assert (good.caption, good.error) == ("good", None)


def test_bytes_that_are_no_text_never_reach_the_metadata(tmp_path):
    shard = folder(tmp_path, "t.csv", b"filepath,title,url\nimages/0.jpg,x,http://\xff\n")
    (sample,) = scan(shard)
    assert sample.metadata["url"].encode() == b"http://\\xff"


def test_a_reader_refuses_a_picture_that_changed_or_went(tmp_path):
    shard = folder(tmp_path, "t.csv", "filepath,title\nimages/0.jpg,x\nimages/1.jpg,y")
    first, second = (Address(*s[:3]) for s in scan(shard))
    (tmp_path / first.key).write_bytes(picture() + b"more")
    (tmp_path / second.key).unlink()
    with open_reader(shard) as reader:
        for address in (first, second):
            with pytest.raises(InputError, match=address.key):
                reader.read(address)


def test_an_empty_table_says_that_it_has_no_columns(tmp_path):
    with pytest.raises(InputError, match="its columns are none"):
        list(scan(folder(tmp_path, "t.csv", "")))
