import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_samples import ledger_rows

from winnow.curation.corpus import Corpus
from winnow.curation.rules.exclude import Exclude
from winnow.types import InputError

URLS = [
    "https://example.com/a.jpg",
    "http://cdn.img.Example.com:8080/b.jpg?x=1#top",
    "https://user@bücher.example/c.jpg ",
    "https://notexample.com/d.jpg",
    "https://other.org/https://example.com/a.jpg",
    None,
    "not a url at all",
]


def rows():
    batch = ledger_rows(*({} for _ in URLS))
    place = batch.schema.get_field_index("url")
    return batch.set_column(place, batch.schema.field("url"), pa.array(URLS, pa.string()))


def judged(path, batch=None):
    batch = rows() if batch is None else batch
    return Exclude(path=path).verdicts(batch, Corpus(lambda: [batch])).to_pylist()


def listed(tmp_path, *lines, name="list.txt"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_entries_of_every_kind_drop_their_pair_and_are_named(tmp_path):
    batch = rows()
    uid, sha256 = batch["uid"][5].as_py(), batch["sha256"][6].as_py()
    path = listed(
        tmp_path,
        "\ufeff# taken down in May",
        "",
        f"  {uid.upper()}   # asked for by mail",
        sha256.upper(),
        "https://notexample.com/d.jpg",
        ".EXAMPLE.com",
    )
    assert judged(path) == [
        "excluded: host .example.com",
        "excluded: host .example.com",
        None,
        "excluded: url https://notexample.com/d.jpg",
        None,
        f"excluded: uid {uid}",
        f"excluded: sha256 {sha256}",
    ]


def test_the_first_entry_in_the_order_of_certainty_is_the_detail(tmp_path):
    uid = rows()["uid"][0].as_py()
    path = listed(tmp_path, ".com", URLS[0], uid)
    assert judged(path)[0] == f"excluded: uid {uid}"
    assert judged(listed(tmp_path, ".com", URLS[0], name="b.txt"))[0] == f"excluded: url {URLS[0]}"


@pytest.mark.parametrize(
    ("entry", "dropped"),
    [
        (".example.com", [0, 1]),
        (".img.example.com", [1]),
        (".com", [0, 1, 3]),
        (".bücher.example", [2]),
        (".xn--bcher-kva.example", [2]),
        (".other.org", [4]),
        ("https://example.com/a.jpg", [0]),
        ("https://example.com/A.jpg", []),
        ("https://example.com/a.jpg/", []),
        ("https://user@bücher.example/c.jpg", [2]),
        (".ple.com", []),
        (".cdn", []),
    ],
)
def test_hosts_are_whole_labels_and_urls_exact(tmp_path, entry, dropped):
    reasons = judged(listed(tmp_path, entry))
    assert [n for n, reason in enumerate(reasons) if reason] == dropped


def test_a_url_may_have_a_fragment_but_a_comment_stands_behind_a_space(tmp_path):
    url = "https://example.com/a b.jpg#part"
    batch = rows().slice(0, 1)
    place = batch.schema.get_field_index("url")
    batch = batch.set_column(place, "url", pa.array([url]))
    for line in (url, f"{url} # why", f"{url}\t#why"):
        assert judged(listed(tmp_path, line), batch) == [f"excluded: url {url}"]
    other = "https://example.com/other.jpg"
    assert judged(listed(tmp_path, f"# {url}", f"#{url}", other), batch) == [None]


@pytest.mark.parametrize(
    "line",
    ["example.com", "*.example.com", "0" * 31, "0" * 63, ".", ". com", "a // b", "IMG_1.jpg"],
)
def test_an_entry_that_is_not_understood_stops_everything(tmp_path, line):
    path = listed(tmp_path, "https://example.com/a.jpg", "", line)
    with pytest.raises(InputError, match=r"line 3 of .*list\.txt is ") as caught:
        judged(path)
    assert repr(line) in str(caught.value)


def test_tables_have_columns_by_kind(tmp_path):
    batch = rows()
    uid, sha256 = batch["uid"][5].as_py(), batch["sha256"][6].as_py()
    expected = [URLS[0], uid, sha256, None]
    columns = {
        "url": [URLS[0], None, None, ".notexample.com"],
        "uid": [None, uid, None, None],
        "sha256": [None, None, sha256, None],
        "why": ["x"] * 4,
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "list.parquet")
    from pyarrow import csv

    csv.write_csv(table, tmp_path / "list.csv")
    for name in ("list.parquet", "list.csv"):
        reasons = judged(tmp_path / name)
        assert [n for n, reason in enumerate(reasons) if reason] == [0, 3, 5, 6], expected


def test_a_column_alone_may_be_called_anything(tmp_path):
    uid = rows()["uid"][5].as_py()
    path = listed(tmp_path, "identifier", uid, URLS[0], name="list.csv")
    assert [n for n, reason in enumerate(judged(path)) if reason] == [0, 5]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["name,why", "x,y"], "has none of the columns uid, url, sha256; its columns are 'name'"),
        (["0" * 32, "1" * 32], "begins with the entry '0+', where a table names its columns"),
        (["sha256", "0" * 32], "line 2 of .* is '0+', which is no sha256 .64 hex digits.: correct"),
        (["url", "x//y"], "line 2 of .* is 'x//y', which is no host .* and no URL with '//'"),
        (["uid,url", "0,1,2"], "cannot be read as a list of exclusions"),
    ],
)
def test_tables_that_would_leave_something_out_are_refused(tmp_path, lines, said):
    with pytest.raises(InputError, match=said):
        judged(listed(tmp_path, *lines, name="list.csv"))


def test_files_that_are_no_list_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt cannot be read: No such file"):
        judged(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a list of exclusions"):
        judged(tmp_path / "binary.txt")


def test_an_empty_list_is_refused_and_a_changed_one_is_read_again(tmp_path):
    path = listed(tmp_path, "# nothing yet")
    with pytest.raises(InputError, match="has no entry, so it would exclude nothing"):
        judged(path)
    path.write_text("https://example.com/a.jpg\n")
    assert judged(path)[0] == "excluded: url https://example.com/a.jpg"
    assert judged(path, rows().slice(0, 0)) == []
    with pytest.raises(InputError, match=r"list\.csv has no entry"):
        judged(listed(tmp_path, "url", name="list.csv"))


def test_a_long_list_is_membership(tmp_path):
    digests = [hashlib.sha256(b"%d" % n).hexdigest()[:32] for n in range(70_000)]
    path = listed(tmp_path, *digests)
    batch = rows()
    uids = [digests[0], digests[65_536], digests[-1], *("0" * 31 + f"{n}" for n in range(4))]
    batch = batch.set_column(0, batch.schema.field("uid"), pa.array(uids))
    assert [reason is None for reason in judged(path, batch)] == [False] * 3 + [True] * 4
    assert len(pickle.dumps(Exclude(path=path))) < 1_000


@pytest.mark.slow
def test_ten_million_entries_take_bounded_memory(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "list.txt"
    with path.open("w") as file:
        random = np.random.default_rng(0)
        for _ in range(100):
            digits = random.bytes(16 * 100_000).hex()
            file.writelines(f"{digits[at : at + 32]}\n" for at in range(0, len(digits), 32))
    script = (
        "import resource, sys; from pathlib import Path\n"
        "import winnow.curation.rules.exclude as e\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "p = Path(sys.argv[1]); before = peak(); found = e._read(p, (0, 0))\n"
        "print(len(found['uid']), (peak() - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    entries, megabytes = map(int, done.stdout.split())
    assert entries == 10_000_000
    assert megabytes < 250
