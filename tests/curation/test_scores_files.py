import csv
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import ledger_rows

from winnow.curation.annotators.scores import UserScores
from winnow.curation.engines import local
from winnow.data.keyed import KEY_DTYPE, parse_uids
from winnow.types import InputError

ROWS = ledger_rows(*({} for _ in range(5)))
UIDS = ROWS["uid"].to_pylist()
# The third row has no number, the fourth is not in the file; the last of the file is in no ledger.
LISTED = [UIDS[4], UIDS[0], UIDS[2], UIDS[1], "f" * 32]
AESTHETIC = [0.25, -3.5, float("nan"), 7.0, 1.0]
LIKES = [4, 0, 2, 1, 9]


def write_parquet(path, order=(0, 1, 2, 3, 4)):
    table = pa.table({"uid": LISTED, "aesthetic": AESTHETIC, "likes": LIKES, "text": ["x"] * 5})
    pq.write_table(table.take(list(order)), path)


def write_text(path, delimiter):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["text", "likes", "uid", "aesthetic"])
        for uid, score, likes in zip(LISTED, AESTHETIC, LIKES, strict=True):
            writer.writerow(["x", likes, uid.upper(), "" if np.isnan(score) else score])


def write_npz(path, uids):
    np.savez(path, uid=uids, aesthetic=np.array(AESTHETIC), likes=np.array(LIKES), img=np.eye(5))


WRITERS = {
    "parquet": write_parquet,
    "csv": lambda path: write_text(path, ","),
    "tsv": lambda path: write_text(path, "\t"),
    "npz": lambda path: write_npz(path, np.array(LISTED)),
    "npz.bytes": lambda path: write_npz(path, np.array(LISTED, dtype="S32")),
    "npz.halves": lambda path: write_npz(path, parse_uids(pa.array(LISTED), where="here")),
}


def scores(tmp_path, kind="parquet", **settings):
    path = tmp_path / f"My_scores.{kind.partition('.')[0]}"
    WRITERS[kind](path)
    settings = {"columns": ("aesthetic", "likes"), "cache": tmp_path / "cache"} | settings
    return UserScores(path=path, **settings)


@pytest.mark.parametrize("kind", WRITERS)
def test_numbers_come_to_their_uid_from_every_format(tmp_path, kind):
    annotator = scores(tmp_path, kind)
    found = annotator.open()(ROWS, ())
    assert found.schema.names == ["aesthetic", "likes", "error"]
    assert found.to_pydict() == {
        "aesthetic": [-3.5, 7.0, None, None, 0.25],
        "likes": [0.0, 1.0, 2.0, None, 4.0],
        "error": [None] * 5,
    }
    assert annotator.schema == pa.schema([("aesthetic", pa.float64()), ("likes", pa.float64())])
    assert annotator.name == "scores-my-scores"


def test_the_identity_is_that_of_the_numbers(tmp_path):
    identities = {scores(tmp_path, kind).identity() for kind in WRITERS}
    write_parquet(tmp_path / "other.parquet", order=(3, 1, 0, 4, 2))
    settings = {"columns": ("aesthetic", "likes"), "cache": tmp_path / "cache"}
    identities.add(UserScores(path=tmp_path / "other.parquet", **settings).identity())
    assert len(identities) == 1
    others = {
        scores(tmp_path, columns=columns).identity() for columns in (("likes",), ("aesthetic",))
    }
    assert len(identities | others) == 3


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path):
    annotator = scores(tmp_path)
    first = annotator.identity()
    (index,) = (tmp_path / "cache").glob("*.npy")
    made = index.stat().st_ino
    assert pickle.loads(pickle.dumps(annotator)).identity() == first  # noqa: S301
    assert annotator.open()(ROWS, ()).num_rows == 5
    assert index.stat().st_ino == made
    pq.write_table(
        pa.table({"uid": LISTED, "aesthetic": AESTHETIC, "likes": [0] * 5}), annotator.path
    )
    assert annotator.identity() != first
    assert annotator.open()(ROWS, ())["likes"].to_pylist() == [0.0, 0.0, 0.0, None, 0.0]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_an_index_that_was_not_finished_is_made_again(tmp_path):
    annotator = scores(tmp_path)
    whole = annotator.identity()
    (index,), (facts,) = ((tmp_path / "cache").glob(f"*.{kind}") for kind in ("npy", "json"))
    index.write_bytes(index.read_bytes()[:100])
    facts.unlink()
    assert annotator.identity() == whole
    assert annotator.open()(ROWS, ())["likes"].to_pylist() == [0.0, 1.0, 2.0, None, 4.0]


def look_up(annotator):
    return annotator.identity(), annotator.open()(ROWS, ())["likes"].to_pylist()


def test_processes_share_one_index(tmp_path):
    annotator = scores(tmp_path)
    found = list(local.run(look_up, [annotator] * 4, workers=2))
    assert found == [(annotator.identity(), [0.0, 1.0, 2.0, None, 4.0])] * 4
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_all_columns_are_taken_where_none_are_named(tmp_path):
    path = tmp_path / "risk.csv"
    path.write_text(f"uid,risk,is_nude\n{UIDS[0]},0.5,true\n{UIDS[1]},1,false\n")
    found = UserScores(path=path, cache=tmp_path / "cache").open()(ROWS, ())
    assert found["risk"].to_pylist() == [0.5, 1.0, None, None, None]
    assert found["is_nude"].to_pylist() == [1.0, 0.0, None, None, None]


def test_fractions_may_begin_far_down_a_csv_file(tmp_path):
    path, many = tmp_path / "late.csv", 40_000
    lines = [f"{n:032x},{n}" for n in range(many)]
    path.write_text("\n".join(["uid,likes", *lines, f"{UIDS[0]},0.5"]) + "\n")
    assert path.stat().st_size > 1 << 20  # beyond the block that types are guessed from
    found = UserScores(path=path, cache=tmp_path / "cache").open()(ROWS, ())
    assert found["likes"].to_pylist() == [0.5, None, None, None, None]


def test_a_uid_may_come_twice_with_the_same_numbers_only(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"uid,risk\n{UIDS[0]},0\n{UIDS[1]},\n{UIDS[0]},-0.0\n{UIDS[1]},NaN\n")
    found = UserScores(path=path, cache=tmp_path / "cache").open()(ROWS, ())
    assert found["risk"].to_pylist() == [0.0, None, None, None, None]
    path.write_text(f"uid,risk\n{UIDS[0]},0\n{UIDS[0]},0.5\n")
    with pytest.raises(InputError, match=f"scores.csv has the uid {UIDS[0]} twice with different"):
        UserScores(path=path, cache=tmp_path / "cache").identity()
    assert not list((tmp_path / "cache").glob(".*"))


def csv_file(text):
    return lambda path: path.with_suffix(".csv").write_text(text)


@pytest.mark.parametrize(
    ("write", "columns", "said"),
    [
        (csv_file("id,risk\n"), (), r"has no column 'uid'; its columns are 'id', 'risk'"),
        (csv_file(f"uid,risk\n{'0' * 32},1\n"), ("rsik",), "has no column 'rsik'"),
        (csv_file(f"uid,risk\n{'0' * 32},high\n"), (), "'risk' of .* holds no numbers"),
        (csv_file("uid,risk\n12,1\n"), (), "has the uid '12': a uid is 32 hex digits"),
        (csv_file(f"uid,width\n{'0' * 32},1\n"), (), "'width' of .* name of one of the ledger's"),
        (csv_file(f"uid\n{'0' * 32}\n"), (), "no column but 'uid'"),
        (csv_file(f"uid,risk\n{'0' * 32},1,2\n"), (), "cannot be read as a file of scores"),
        (csv_file(""), (), "cannot be read as a file of scores"),
        (lambda path: path.with_suffix(".npz").write_bytes(b"no zip"), (), "cannot be read as a"),
        (lambda path: path.with_suffix(".parquet").write_bytes(b"no"), (), "cannot be read as a"),
        (lambda path: path.with_suffix(".json").write_text("{}"), (), "give a .parquet, .csv"),
    ],
)
def test_what_cannot_be_joined_is_said_in_a_sentence(tmp_path, write, columns, said):
    write(tmp_path / "scores")
    (path,) = tmp_path.glob("scores.*")
    with pytest.raises(InputError, match=said) as caught:
        UserScores(path=path, columns=columns, cache=tmp_path / "cache").identity()
    assert "\n" not in str(caught.value)


def test_words_below_the_first_rows_of_a_csv_file_are_no_numbers(tmp_path):
    path = tmp_path / "late.csv"
    lines = [f"{n:032x},{n}" for n in range(40_000)]
    path.write_text("\n".join(["uid,likes", *lines, f"{UIDS[0]},many"]) + "\n")
    with pytest.raises(InputError, match=r"cannot be read as a file of scores: .*many"):
        UserScores(path=path, cache=tmp_path / "cache").identity()


def test_a_missing_file_and_a_cache_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read: No such file"):
        UserScores(path=tmp_path / "none.csv", cache=tmp_path).identity()
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(InputError, match=r"no index of .*UserScores\(cache=\.\.\.\)"):
        scores(tmp_path, cache=tmp_path / "taken").identity()


def test_the_index_is_kept_with_the_user_s_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    annotator = scores(tmp_path, cache=None)
    annotator.identity()
    (facts,) = (tmp_path / "caches" / "winnow").glob("scores-my-scores-*.json")
    assert json.loads(facts.read_text()) == {"identity": annotator.identity()}
    rows = np.load(facts.with_suffix(".npy"), mmap_mode="r")
    assert rows.dtype.descr[:2] == KEY_DTYPE.descr


def test_files_of_other_letters_have_names_of_their_own():
    names = [
        UserScores(path=Path(f"{stem}.csv")).name for stem in ("分数", "点数", "分数2", "2020")
    ]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"scores-([0-9]+-)?[0-9a-f]{8}", name) for name in names)
    assert UserScores(path=Path("Schönheit 2.csv")).name == "scores-sch-nheit-2"
