import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_makers import sample_members, select_all, write_tar

from winnow.data.captions import CaptionChoice, Captions
from winnow.data.loader import image_random
from winnow.data.mixture import Mixture
from winnow.data.selection import KEPT_SCHEMA, Selection, write_selection
from winnow.types import InputError

UIDS = [f"{n % 7:x}{n:031x}" for n in range(40)]
OTHER = "f" * 32


@pytest.fixture
def selection(tmp_path) -> Selection:
    """Forty pairs in two shards, with the captions `own 0` to `own 39`."""
    rows = [
        {"key": str(n), "offset": 512 * n, "size": 9, "uid": uid, "caption": f"own {n}"}
        for n, uid in enumerate(UIDS)
    ]
    schema = pa.schema(list(KEPT_SCHEMA)[1:])
    tables = [pa.Table.from_pylist(part, schema=schema) for part in (rows[:25], rows[25:])]
    write_selection(tmp_path / "selection", ["a.tar", "b.tar"], tables)
    return Selection.open(tmp_path / "selection")


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def samples_of(selection):
    return selection.samples(np.arange(len(selection)))


def parquet(path: Path, columns: dict, **options) -> str:
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


def chosen(captions, selection, epoch=0, *, seed=1, original=0.5, rows=None):
    samples = selection.samples(np.arange(len(selection)) if rows is None else rows)
    epochs = np.full(len(samples), epoch)
    return captions.choose(samples, epochs, seed=seed, choice=CaptionChoice(original=original))


def test_texts_and_lists_of_several_columns_and_rows_meet_by_uid(selection, tmp_path, cache):
    path = parquet(
        tmp_path / "c.parquet",
        {
            "uid": [UIDS[3].upper(), UIDS[5], UIDS[3], OTHER, UIDS[6]],
            "short": ["b", "e", "b", "z", None],
            "long": [["d", None, "a"], ["  ", ""], None, ["z"], ["grün", "grün"]],
            "url": ["u"] * 5,
        },
        row_group_size=2,
    )
    captions = Captions.open([f"{path}:short,long"], selection=selection, cache=cache)
    assert captions.alternatives(UIDS[3]) == ["a", "b", "d"]
    assert captions.alternatives(UIDS[5]) == ["e"]
    assert captions.alternatives(UIDS[6]) == ["grün"]
    assert captions.alternatives(UIDS[0]) == captions.alternatives(OTHER) == []
    facts = captions.facts
    assert (facts.num_uids, facts.num_with, facts.num_captions) == (40, 3, 5)
    assert str(captions) == (
        "3 of 40 pairs have other captions, 1.67 on average; 37 keep their own alone"
    )


def test_every_format_and_any_order_and_cut_is_the_same(selection, tmp_path, cache):
    rows = [
        {"uid": uid, "text": f'a "quoted", text {n}\nof two lines'}
        for n, uid in enumerate(UIDS[:30])
    ] + [{"uid": UIDS[4], "text": "007"}]
    columns = {name: [row[name] for row in rows] for name in ("uid", "text")}
    specs = [[parquet(tmp_path / "c.parquet", columns)]]
    backwards = {name: values[::-1] for name, values in columns.items()}
    specs.append([parquet(tmp_path / "d.parquet", backwards, row_group_size=3)])
    for number, part in enumerate((rows[:11], rows[11:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / f"{number}.jsonl").write_text(lines)
    specs.append([f"{tmp_path}/{{0..1}}.jsonl:text"])
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        quoted = ['"' + row["text"].replace('"', '""') + '"' for row in rows]
        lines = [f"{text}{delimiter}{row['uid']}\n" for text, row in zip(quoted, rows, strict=True)]
        (tmp_path / f"c{suffix}").write_text(f"text{delimiter}uid\n" + "".join(lines))
        specs.append([f"{tmp_path}/c{suffix}"])
    opened = [Captions.open(spec, selection=selection, cache=cache) for spec in specs]
    assert len({captions.folder for captions in opened}) == 5
    assert len({captions.fingerprint for captions in opened}) == 1
    for captions in opened:
        assert captions.alternatives(UIDS[4]) == ["007", 'a "quoted", text 4\nof two lines']
    other = parquet(tmp_path / "e.parquet", columns | {"text": [*columns["text"][:-1], "008"]})
    assert Captions.open([other], selection=selection, cache=cache).fingerprint != (
        opened[0].fingerprint
    )


def test_lines_within_a_caption_are_no_rows_however_long_the_file(selection, tmp_path, cache):
    """Arrow reads a csv a megabyte at a time, and may begin within a caption."""
    long = [f"{n} " + "a line\n" * 9_000 for n in range(40)]
    rows = "".join(f'{uid},"{text}"\n' for uid, text in zip(UIDS, long, strict=True))
    (tmp_path / "c.csv").write_text("uid,text\n" + rows)
    captions = Captions.open([str(tmp_path / "c.csv")], selection=selection, cache=cache)
    assert [captions.alternatives(uid) for uid in UIDS] == [[text] for text in long]


@pytest.fixture
def captions(selection, tmp_path, cache) -> Captions:
    """Three alternatives for the first 30 pairs."""
    columns = {"uid": UIDS[:30], "text": [[f"{n} a", f"{n} b", f"{n} c"] for n in range(30)]}
    path = parquet(tmp_path / "three.parquet", columns)
    return Captions.open([path], selection=selection, cache=cache)


def test_shares_are_those_of_the_choice(captions, selection):
    """Of 30 pairs in 400 epochs: 12,000 draws, whose shares stray by 0.005."""
    counts = Counter(
        text.split()[-1] if text[0] != "o" else "own"
        for epoch in range(400)
        for text in chosen(captions, selection, epoch, original=0.4, rows=np.arange(30))
    )
    shares = {name: count / 12_000 for name, count in counts.items()}
    assert shares == pytest.approx({"own": 0.4, "a": 0.2, "b": 0.2, "c": 0.2}, abs=0.025)


def test_limits_of_the_choice(captions, selection):
    own = [f"own {n}" for n in range(40)]
    assert chosen(captions, selection, original=1.0) == own
    shown = chosen(captions, selection, original=0.0)
    assert shown[30:] == own[30:]
    assert all(text.split()[0] == str(n) for n, text in enumerate(shown[:30]))
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="a probability is from 0 to 1"):
            CaptionChoice(original=wrong)


def test_a_choice_is_of_seed_epoch_and_uid_alone(captions, selection):
    whole = chosen(captions, selection, 7)
    assert chosen(captions, selection, 7) == whole
    rows = np.array([31, 4, 4, 17])
    assert chosen(captions, selection, 7, rows=rows) == [whole[row] for row in rows]
    assert chosen(captions, selection, 8) != whole
    assert chosen(captions, selection, 7, seed=2) != whole
    epochs = np.arange(40)
    mixed = captions.choose(samples_of(selection), epochs, seed=1, choice=CaptionChoice())
    assert mixed == [chosen(captions, selection, epoch)[epoch] for epoch in range(40)]
    again = pickle.loads(pickle.dumps(captions))  # noqa: S301 - made here
    assert len(pickle.dumps(captions)) < 1_000 and isinstance(again.keys, np.memmap)
    assert chosen(again, selection, 7) == whole


def test_the_choice_is_the_literal_one_and_not_the_pictures_chance(captions, selection):
    expected = []
    for n in range(30):
        upper, lower = int(UIDS[n][:16], 16), int(UIDS[n][16:], 16)
        stream = np.random.Philox(
            key=np.array([1, upper], np.uint64), counter=np.array([0, 1, 3, lower], np.uint64)
        )
        drawn = np.random.Generator(stream).random()
        assert drawn != image_random(seed=1, epoch=3, uid=UIDS[n]).random()
        alternative = "abc"[int(3 * (drawn - 0.25) / 0.75)]
        expected.append(f"own {n}" if drawn < 0.25 else f"{n} {alternative}")
    assert chosen(captions, selection, 3, original=0.25)[:30] == expected


def test_the_join_is_made_once_and_again_where_the_file_is_another(selection, tmp_path, cache):
    path = tmp_path / "c.parquet"
    spec = parquet(path, {"uid": UIDS[:2], "text": ["x", "y"]})
    first = Captions.open([spec], selection=selection, cache=cache)
    before = (first.folder / "captions.arrow").stat()
    assert Captions.open([spec], selection=selection, cache=cache).folder == first.folder
    assert (first.folder / "captions.arrow").stat() == before
    parquet(path, {"uid": UIDS[:2], "text": ["x", "another"]})
    assert Captions.open([spec], selection=selection, cache=cache).alternatives(UIDS[1]) == [
        "another"
    ]
    assert sorted(p.suffix for p in cache.iterdir()) == ["", "", ".lock", ".lock"]


def test_damage_is_seen(captions):
    packed = pickle.dumps(captions)
    for name, data in (
        ("keys.npy", b""),
        ("keys.npy", (captions.folder / "keys.npy").read_bytes()[:-16]),
        ("captions.arrow", b"ARROW1"),
    ):
        (captions.folder / name).unlink()  # it is mapped: never cut it
        (captions.folder / name).write_bytes(data)
        with pytest.raises(InputError, match=r"is damaged .*: remove it, and it will be made"):
            pickle.loads(packed)  # noqa: S301 - made here


def test_a_mixture_has_the_captions_of_all_its_sources(selection, tmp_path, cache):
    shard = write_tar(tmp_path / "m.tar", sample_members("m", uid="e" * 32))
    mixture = Mixture.of({"one": selection, "two": select_all([shard], tmp_path / "two")}, None)
    path = parquet(tmp_path / "c.parquet", {"uid": ["e" * 32, UIDS[1]], "text": ["m", "o"]})
    captions = Captions.open([path], selection=mixture, cache=cache)
    assert (captions.alternatives("e" * 32), captions.alternatives(UIDS[1])) == (["m"], ["o"])
    assert captions.facts.num_uids == 41


@pytest.mark.parametrize(
    "columns, spec, message",
    [
        ({"uid": [OTHER], "text": ["x"]}, "", r"none of the uids is one of .* first is 0000"),
        ({"id": [OTHER], "text": ["x"]}, "", r"has no column 'uid'.*'id', 'text'"),
        ({"uid": UIDS[:1], "text": ["x"], "url": ["u"]}, "", r"has 2 columns of text .*:COLUMN"),
        ({"uid": UIDS[:1], "n": [1]}, "", r"has 0 columns of text"),
        ({"uid": UIDS[:1], "n": [1]}, ":n", r"column 'n' .* holds int64, no captions"),
        ({"uid": UIDS[:1], "n": [[1]]}, ":n", r"column 'n' .* no captions"),
        ({"uid": UIDS[:1], "text": ["x"]}, ":uid", r"column 'uid' .* no captions"),
        ({"uid": UIDS[:1], "text": ["x"]}, ":texts", r"has no column 'texts'"),
        ({"uid": ["cat"], "text": ["x"]}, "", r"has the uid 'cat': a uid is 32 hex digits"),
        ({"uid": [None], "text": ["x"]}, "", r"has the uid None"),
    ],
)
def test_a_file_of_something_else_is_refused(selection, tmp_path, cache, columns, spec, message):
    path = parquet(tmp_path / "c.parquet", columns)
    with pytest.raises(InputError, match=message):
        Captions.open([path + spec], selection=selection, cache=cache)
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []


def test_broken_and_unknown_files_are_named(selection, tmp_path, cache):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "a.jsonl").write_text('{"uid": "0"\n{')
    raw = pa.array([b"a good \xff\xfe beginning and end"], pa.binary())
    text = pa.StringArray.from_buffers(1, raw.buffers()[1], raw.buffers()[2])
    parquet(tmp_path / "b.parquet", {"uid": UIDS[:1], "text": text})
    for name in ("a.parquet", "a.jsonl", "b.parquet"):
        with pytest.raises(InputError, match=f"{name} cannot be read as a file of captions"):
            Captions.open([str(tmp_path / name)], selection=selection, cache=cache)
    for name in ("none.parquet", "notes.txt", "none.parquet:text"):
        with pytest.raises(InputError, match=r"names no file of captions: give .parquet"):
            Captions.open([str(tmp_path / name)], selection=selection, cache=cache)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be joined in .*file.*cache="):
        spec = parquet(tmp_path / "c.parquet", {"uid": UIDS[:1], "text": ["x"]})
        Captions.open([spec], selection=selection, cache=tmp_path / "file" / "x")
