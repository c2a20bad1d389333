import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from data_makers import picture, sample_members, write_tar

from winnow.data.columns import Columns
from winnow.data.ledger import Address
from winnow.data.sources import open_reader, open_source
from winnow.data.tar import scan
from winnow.types import InputError


def errors(shard: str) -> dict[str, str | None]:
    return {sample.key: sample.error for sample in scan(shard)}


def test_a_sample_carries_picture_caption_metadata_and_address(tmp_path):
    members = sample_members("000", seed=1, url="http://x") + sample_members("001", seed=2)
    shard = write_tar(tmp_path / "0.tar", members)
    first, second = scan(shard)
    assert (first.key, first.caption, first.error) == ("000", "caption of 000", None)
    assert first.image == members[0][1] and first.metadata["url"] == "http://x"
    data = Path(shard).read_bytes()
    assert data[second.offset : second.offset + second.size] == second.image == members[3][1]


def test_members_may_come_in_any_order_and_apart(tmp_path):
    samples = [sample_members(f"{n:03d}", seed=n) for n in range(5)]
    jpgs, txts, jsons = zip(*samples, strict=True)
    shard = write_tar(tmp_path / "0.tar", [*txts, *reversed(jpgs), *jsons])
    found = list(scan(shard))
    assert [s.key for s in found] == ["004", "003", "002", "001", "000"]  # order of the pictures
    assert all(s.caption == f"caption of {s.key}" and s.error is None for s in found)
    assert [s.image for s in found] == [data for _, data in reversed(jpgs)]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.jpg", "a"),
        ("folder.v1/a.jpg", "folder.v1/a"),
        ("./a.jpg", "./a"),
        ("a.JPG", "a"),
        ("é/ü.jpg", "é/ü"),
        ("deep/" * 40 + "a.jpg", "deep/" * 40 + "a"),
    ],
)
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_the_key_is_everything_before_the_first_dot_of_the_last_component(
    tmp_path, name, key, format
):
    members = [(name, picture()), (key + ".txt", b"x")]
    (sample,) = scan(write_tar(tmp_path / "0.tar", members, format=format))
    assert (sample.key, sample.error, sample.caption) == (key, None, "x")
    with open_reader(str(tmp_path / "0.tar")) as reader:
        assert reader.read(Address(*sample[:3])) == picture()


def test_files_that_are_no_samples_are_passed_over(tmp_path):
    extra = [("._000.jpg", b"mac"), (".DS_Store", b"mac"), ("README", b"x"), ("d/.x.jpg", b"y")]
    shard = write_tar(tmp_path / "0.tar", extra + sample_members("000"))
    assert errors(shard) == {"000": None}


def test_every_picture_extension_is_read(tmp_path):
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
    kinds |= {"bmp": "BMP", "tif": "TIFF"}
    members = []
    for extension, kind in kinds.items():
        members += [(f"{extension}.{extension}", picture(kind=kind)), (f"{extension}.txt", b"x")]
    assert errors(write_tar(tmp_path / "0.tar", members)) == dict.fromkeys(kinds)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ([("0.txt", b"x")], "missing picture: only txt"),
        ([("0.jpg", b"x")], "missing caption: only jpg"),
        ([("0.v2.jpg", b"x"), ("0.txt", b"x")], "missing picture: only txt, v2.jpg"),
        ([("0.jpg", b"x"), ("0.json", b'{"caption": null}')], "missing caption: only jpg, json"),
        ([("0.jpg", b"x"), ("0.txt", b"\xff\xfe")], "caption is not UTF-8: byte 0"),
        ([("0.jpg", b"x"), ("0.txt", b"x"), ("0.json", b"{")], "metadata is not json"),
        ([("0.jpg", b"x"), ("0.json", b'{"caption": "\\ud800"}')], "metadata is not json"),
        ([("0.jpg", b"x"), ("0.json", b"[" * 100_000)], "metadata is not json"),
        ([("0.jpg", b"x"), ("0.json", b"[1]")], "metadata is not a json object: list"),
        ([("0.jpg", b"x"), ("0.txt", b"y" * (1 << 20) + b"y")], "txt too long"),
    ],
)
def test_what_is_missing_or_broken_is_an_error_of_its_sample(tmp_path, members, error):
    shard = write_tar(tmp_path / "0.tar", [*members, *sample_members("good")])
    broken, good = scan(shard)
    assert broken.key == "0" and broken.error.startswith(error) and broken.image is None
    assert (good.key, good.error) == ("good", None)


def test_the_caption_comes_from_txt_else_from_json_else_from_the_field_told(tmp_path):
    facts = json.dumps({"caption": "from json", "alt": "from alt"}).encode()
    members = [("0.jpg", b"x"), ("0.txt", b"from txt"), ("0.json", facts)]
    members += [("1.jpg", b"x"), ("1.json", facts)]
    shard = write_tar(tmp_path / "0.tar", members)
    assert [s.caption for s in scan(shard)] == ["from txt", "from json"]
    told = scan(shard, columns=Columns(caption="alt"))
    assert [s.caption for s in told] == ["from alt", "from alt"]


def test_a_key_that_comes_twice_is_two_samples_only_where_its_members_stand_together(tmp_path):
    first, second = sample_members("000", seed=1), sample_members("000", seed=2)
    together = list(scan(write_tar(tmp_path / "0.tar", first + second)))
    assert [s.image for s in together] == [first[0][1], second[0][1]]
    assert [s.error for s in together] == [None, None]
    for mixed in [
        [first[0], second[0], first[1], second[1]],
        [first[1], second[1], second[0], first[0]],
        [*first[:2], *sample_members("001"), second[0], *sample_members("002"), second[1]],
    ]:
        found = [s for s in scan(write_tar(tmp_path / "1.tar", mixed)) if s.key == "000"]
        assert len(found) >= 2 and all(s.error.startswith("ambiguous key") for s in found)


def test_tars_strung_together_are_read_to_the_end(tmp_path):
    one = Path(write_tar(tmp_path / "0.tar", sample_members("000"))).read_bytes()
    two = Path(write_tar(tmp_path / "1.tar", sample_members("001"))).read_bytes()
    (tmp_path / "both.tar").write_bytes(one + two)
    assert errors(str(tmp_path / "both.tar")) == {"000": None, "001": None}


def test_a_tar_cut_anywhere_yields_what_is_whole_and_one_row_for_the_rest(tmp_path):
    members = [m for n in range(4) for m in sample_members(f"{n:03d}", seed=n)]
    whole = Path(write_tar(tmp_path / "0.tar", members)).read_bytes()
    samples = list(scan(str(tmp_path / "0.tar")))
    cut_file = tmp_path / "cut.tar"
    end = samples[-1].offset + samples[-1].size + 4 * 512
    for cut in [1, 511, 512, 700, *range(2000, end, 937)]:
        cut_file.write_bytes(whole[:cut])
        found = list(scan(str(cut_file)))
        assert found[-1].key == "cut.tar" and found[-1].error.startswith("broken shard: ")
        good = [s for s in found if s.error is None]
        # A sample whose json was cut off is still a pair.
        assert [s._replace(metadata={}) for s in good] == [
            s._replace(metadata={}) for s in samples[: len(good)]
        ]
        complete = sum(s.offset + s.size + 2 * 512 + 512 <= cut for s in samples)
        assert complete - 1 <= len(good) <= complete + 1


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>" * 100, b"\xff" * 5000])
def test_what_is_no_tar_is_one_error(tmp_path, data):
    (tmp_path / "0.tar").write_bytes(data)
    (row,) = scan(str(tmp_path / "0.tar"))
    assert row.error.startswith("broken shard: ")


def test_a_header_broken_in_the_middle_is_an_error_not_a_silent_end(tmp_path):
    members = [m for n in range(4) for m in sample_members(f"{n:03d}", seed=n)]
    path = Path(write_tar(tmp_path / "0.tar", members))
    third = list(scan(str(path)))[2].offset - 512
    data = bytearray(path.read_bytes())
    data[third : third + 512] = b"\xab" * 512
    path.write_bytes(data)
    found = list(scan(str(path)))
    assert [s.key for s in found if s.error is None] == ["000", "001"]
    assert f"nothing after byte {third} could be read" in found[-1].error


@pytest.mark.parametrize("type", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-(2**20), -1, 2**40])
def test_a_hostile_size_neither_loops_nor_fills_the_memory(tmp_path, type, size):
    info = tarfile.TarInfo("000.jpg")
    info.type, info.size = type, size
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "0.tar").write_bytes(header + b"x" * 4096)
    assert list(scan(str(tmp_path / "0.tar")))[-1].error.startswith("broken shard: ")


@pytest.mark.parametrize(
    "records", [b"99 path=x\n", b"abc", b"9999999999999999999999999999 path=x\n", b"12 size=\xb2\n"]
)
def test_a_hostile_extended_header_is_an_error(tmp_path, records):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    data = info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + b"\0" * 1024
    (tmp_path / "0.tar").write_bytes(data)
    (row,) = scan(str(tmp_path / "0.tar"))
    assert row.error.startswith("broken shard: ")


def test_links_and_directories_give_no_samples_and_nothing_is_written(tmp_path):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for type, name, target in [
            (tarfile.SYMTYPE, "000.jpg", "/etc/hostname"),
            (tarfile.LNKTYPE, "001.jpg", "../outside"),
            (tarfile.DIRTYPE, "folder", ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type, target
            tar.addfile(info)
        for name, data in [("../../escape.jpg", b"x"), ("../../escape.txt", b"x")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert errors(str(path)) == {"../../escape": None}
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_utf8_become_keys_that_can_be_written(tmp_path):
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    members = [(name + ".jpg", b"x"), (name + ".txt", b"x")]
    shard = write_tar(tmp_path / "0.tar", members, format=tarfile.GNU_FORMAT)
    (sample,) = scan(shard)
    assert sample.key.encode() == b"\\xff\\xfe" and sample.error is None


def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path):
    whole = Path(write_tar(tmp_path / "0.tar", sample_members("000"))).read_bytes()
    (tmp_path / "0.tar").unlink()
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress(whole))
    for spec in (tmp_path, tmp_path / "0.tar.gz"):
        with pytest.raises(InputError, match="gunzip"):
            open_source(str(spec))
    (tmp_path / "named.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match="gunzip"):
        list(scan(str(tmp_path / "named.tar")))


def test_a_reader_refuses_a_shard_that_changed(tmp_path):
    shard = write_tar(tmp_path / "0.tar", sample_members("000", seed=1) + sample_members("001"))
    address = Address(*list(scan(shard))[1][:3])
    with open_reader(shard) as reader:
        assert reader.read(address) == picture()
        reader.will_need(address, address)
    write_tar(tmp_path / "0.tar", sample_members("000", seed=7, url="longer " * 90))
    with open_reader(shard) as reader, pytest.raises(InputError, match=r"001.*curate"):
        reader.read(address)


@pytest.mark.slow
def test_ten_thousand_rows_are_scanned_in_memory_that_does_not_grow_with_the_pictures(tmp_path):
    payload = b"\xff\xd8" + bytes(8 * 1024)
    members = (
        member
        for n in range(10_000)
        for member in ((f"{n:05d}.jpg", payload), (f"{n:05d}.txt", b"a caption"))
    )
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            tar.members.clear()
    assert path.stat().st_size > 90e6
    tracemalloc.start()
    count = sum(sample.error is None for sample in scan(str(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 16e6


def test_a_picture_of_two_sizes_is_an_error_since_no_reader_would_take_it(tmp_path):
    data = picture()
    record = b"size=%d\n" % len(data)
    record = b"%d %s" % (len(record) + 3, record)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    member = tarfile.TarInfo("000.jpg")
    member.size = len(data) - 1
    caption = tarfile.TarInfo("000.txt")
    caption.size = 5
    blocks = [
        header.tobuf(tarfile.USTAR_FORMAT) + record,
        member.tobuf(tarfile.USTAR_FORMAT) + data,
        caption.tobuf(tarfile.USTAR_FORMAT) + b"words",
    ]
    whole = b"".join(block.ljust(-(-len(block) // 512) * 512, b"\0") for block in blocks)
    (tmp_path / "0.tar").write_bytes(whole + b"\0" * 1024)
    (row,) = scan(str(tmp_path / "0.tar"))
    assert row.error.startswith("two sizes: ")
