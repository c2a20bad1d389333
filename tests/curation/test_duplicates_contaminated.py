import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import ledger_rows, write_shard
from PIL import Image

from winnow.curation.corpus import Corpus
from winnow.curation.decontamination import (
    INDEX_SCHEMA,
    is_index_of,
    open_evaluation_set,
    open_evaluation_sets,
    write_index,
)
from winnow.curation.rules.contaminated import Contaminated
from winnow.data.images import probe
from winnow.types import InputError

NO_CORPUS = Corpus(list)


def scene(seed: int) -> Image.Image:
    grid = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((96, 96), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_task(folder: Path, pictures: list[bytes]) -> Path:
    """An evaluation set as clip-benchmark lays it out: labels, no captions."""
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("apple\npear\n")
    (folder / "test" / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for number, picture in enumerate(pictures):
            for name, content in ((f"s{number}.png", picture), (f"s{number}.cls", b"0")):
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return folder


def rows_of(*pictures: bytes) -> pa.RecordBatch:
    rows = ledger_rows(*({} for _ in pictures))
    columns = {
        "sha256": pa.array([hashlib.sha256(data).hexdigest() for data in pictures]),
        "picture_hash": pa.array([probe(data).picture_hash for data in pictures], pa.uint64()),
    }
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    return rows


@pytest.fixture
def index(tmp_path: Path) -> Path:
    white = encoded(Image.new("RGB", (40, 40), "white"))
    task = write_task(tmp_path / "fruit", [encoded(scene(1)), white, b"no picture at all"])
    captioned = write_shard(tmp_path / "own" / "0.tar", [(encoded(scene(2)), "a pear")])
    sets = {"fruit": open_evaluation_set(str(task)), "own": open_evaluation_set(str(captioned))}
    assert write_index(sets, tmp_path / "made" / "index.parquet") == 4
    return tmp_path / "made" / "index.parquet"


def test_same_bytes_and_near_pictures_are_dropped_and_named(index):
    again = scene(2).resize((80, 80), Image.Resampling.BICUBIC)
    rows = rows_of(
        encoded(scene(1)),
        encoded(again, "JPEG", quality=70),
        encoded(scene(3)),
        encoded(Image.new("RGB", (40, 40), "white")),
        encoded(Image.new("RGB", (41, 40), "white")),
    )
    same, near, *others = Contaminated(against=index, radius=4).verdicts(rows, NO_CORPUS)
    assert same.as_py() == "contaminated: is s0 of fruit"
    hashes = rows_of(encoded(scene(2)), encoded(again, "JPEG", quality=70))["picture_hash"]
    distance = (hashes[0].as_py() ^ hashes[1].as_py()).bit_count()
    assert near.as_py() == f"contaminated: like 00000 of own, {distance} of 64 bits differ"
    # White pictures have no hash: the same bytes are found, others of one colour are not.
    assert [reason.as_py() for reason in others] == [None, "contaminated: is s1 of fruit", None]


def test_the_rule_asks_no_corpus_and_measures_bits(index):
    rule = Contaminated(against=index, radius=0)
    assert not rule.asks_corpus and rule.needs == ()
    (measure,) = rule.measures(rows_of(encoded(scene(2)), encoded(scene(9))), NO_CORPUS)
    assert measure.values.to_pylist() == [0, None]
    assert measure.least == 1


def test_verdicts_are_those_of_a_double_loop(tmp_path):
    random = np.random.default_rng(0)
    sets = random.integers(0, 1 << 63, 50, dtype=np.uint64)
    table = {
        "sha256": [bytes([n]) * 32 for n in range(50)],
        "picture_hash": sets,
        "key": [str(n) for n in range(50)],
        "set": ["some"] * 50,
    }
    pq.write_table(pa.table(table, schema=INDEX_SCHEMA), tmp_path / "index.parquet")
    asked = sets[random.integers(0, 50, 200)]
    for _ in range(5):
        asked = asked ^ (np.uint64(1) << random.integers(0, 64, 200).astype(np.uint64))
    rows = ledger_rows(*({} for _ in range(200)))
    column = rows.schema.get_field_index("picture_hash")
    rows = rows.set_column(column, "picture_hash", pa.array(asked))
    distances = np.bitwise_count(asked[:, None] ^ sets[None]).astype(int)
    expected = [
        f"contaminated: like {row.argmin()} of some, {row.min()} of 64 bits differ"
        if row.min() <= 4
        else None
        for row in distances
    ]
    rule = Contaminated(against=tmp_path / "index.parquet", radius=4)
    assert rule.verdicts(rows, NO_CORPUS).to_pylist() == expected
    assert 0 < expected.count(None) < 200


def test_a_missing_damaged_or_outdated_index_is_named(index, tmp_path):
    rows = rows_of(encoded(scene(1)))
    with pytest.raises(InputError, match=r"nowhere\.parquet cannot be read"):
        Contaminated(against=tmp_path / "nowhere.parquet").verdicts(rows, NO_CORPUS)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cut\.parquet cannot be read as an index"):
        Contaminated(against=cut).verdicts(rows, NO_CORPUS)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(InputError, match="is no index of pictures"):
        Contaminated(against=other).verdicts(rows, NO_CORPUS)
    old = pq.read_table(index).replace_schema_metadata({"winnow.picture_hash": "0"})
    pq.write_table(old, tmp_path / "old.parquet")
    with pytest.raises(InputError, match="perceptual hashes of version 0"):
        Contaminated(against=tmp_path / "old.parquet").verdicts(rows, NO_CORPUS)


def test_an_index_that_is_written_again_is_read_again(index, tmp_path):
    rows = rows_of(encoded(scene(1)), encoded(scene(5)))
    rule = Contaminated(against=index)
    assert [r is None for r in rule.verdicts(rows, NO_CORPUS).to_pylist()] == [False, True]
    task = write_task(tmp_path / "other", [encoded(scene(5)), encoded(scene(6))])
    write_index({"other": open_evaluation_set(str(task))}, index)
    assert [r is None for r in rule.verdicts(rows, NO_CORPUS).to_pylist()] == [True, False]


def test_a_broken_set_is_refused(tmp_path):
    task = write_task(tmp_path / "fruit", [encoded(scene(n)) for n in range(4)])
    tar = task / "test" / "0.tar"
    tar.write_bytes(tar.read_bytes()[:20_000])
    with pytest.raises(InputError, match="an evaluation set is compared whole"):
        write_index({"fruit": open_evaluation_set(str(task))}, tmp_path / "index.parquet")
    assert not (tmp_path / "index.parquet").exists()
    with pytest.raises(InputError, match="no evaluation set was given"):
        write_index({}, tmp_path / "index.parquet")


def test_sets_of_one_last_name_are_two_sets(tmp_path):
    specs = [
        str(write_task(tmp_path / n / "things", [encoded(scene(i))])) for i, n in enumerate("ab")
    ]
    other = str(write_task(tmp_path / "fruit", [encoded(scene(2))]))
    sets = open_evaluation_sets([*specs, other, f"{specs[0]}/"])
    assert list(sets) == [*specs, "fruit"]
    assert write_index(sets, tmp_path / "index.parquet") == 3
    rows = rows_of(*(encoded(scene(n)) for n in range(3)))
    reasons = Contaminated(against=tmp_path / "index.parquet").verdicts(rows, NO_CORPUS)
    assert reasons.to_pylist() == [
        f"contaminated: is s0 of {specs[0]}",
        f"contaminated: is s0 of {specs[1]}",
        "contaminated: is s0 of fruit",
    ]


def test_an_index_is_that_of_its_sets_until_one_changes(tmp_path):
    task = write_task(tmp_path / "fruit", [encoded(scene(1))])
    more = write_task(tmp_path / "more", [encoded(scene(2))])
    path = tmp_path / "made" / "index.parquet"
    sets = open_evaluation_sets([str(task)])
    assert not is_index_of(path, sets)
    write_index(sets, path)
    assert is_index_of(path, sets)
    assert not is_index_of(path, open_evaluation_sets([str(task), str(more)]))
    assert not is_index_of(path, {"pears": sets["fruit"]})
    os.utime(task / "test" / "0.tar", ns=(1, 1))
    assert not is_index_of(path, sets)
    write_index(sets, path)
    assert is_index_of(path, sets)
    path.write_bytes(path.read_bytes()[:-9])
    assert not is_index_of(path, sets)


def test_pictures_beside_a_table_may_have_changed_without_it(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(encoded(scene(1)))
    (tmp_path / "set" / "0.csv").write_text("image,caption\na.png,an apple\n")
    sets = open_evaluation_sets([str(tmp_path / "set")])
    assert write_index(sets, tmp_path / "index.parquet") == 1
    assert not is_index_of(tmp_path / "index.parquet", sets)


def test_the_identity_of_the_rule_is_what_the_index_holds(tmp_path):
    task = write_task(tmp_path / "fruit", [encoded(scene(1))])
    sets = {"fruit": open_evaluation_set(str(task))}
    first, second = tmp_path / "a.parquet", tmp_path / "elsewhere" / "b.parquet"
    write_index(sets, first)
    rule = Contaminated(against=first)
    identity = rule.identity()
    os.utime(first, ns=(1, 1))
    os.utime(task / "test" / "0.tar", ns=(1, 1))
    write_index(sets, second)
    assert first.read_bytes() != second.read_bytes()
    assert rule.identity() == Contaminated(against=second).identity() == identity
    assert Contaminated(against=first, radius=3).identity() != identity
    write_index({"fruit": sets["fruit"], "again": sets["fruit"]}, first)
    assert rule.identity() != identity


def test_two_that_write_one_index_do_not_touch_each_other_s(tmp_path, monkeypatch):
    task = write_task(tmp_path / "fruit", [encoded(scene(1))])
    sets, path = {"fruit": open_evaluation_set(str(task))}, tmp_path / "made" / "index.parquet"
    write, nested = pq.write_table, []

    def write_and_be_overtaken(table, where):
        write(table, where)
        if not nested:
            nested.append(where)
            assert write_index(sets, path) == 1

    monkeypatch.setattr(pq, "write_table", write_and_be_overtaken)
    assert write_index(sets, path) == 1
    assert is_index_of(path, sets)
    assert [file.name for file in path.parent.iterdir()] == ["index.parquet"]
