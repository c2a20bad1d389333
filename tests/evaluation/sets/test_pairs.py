import pytest
from set_makers import (
    captioned,
    emoji,
    joined,
    pair_members,
    write_pair_parquet,
    write_pair_table,
    write_pair_tars,
    write_tar,
)

from winnow.data.ledger import make_uid
from winnow.data.selection import Selection, write_selection
from winnow.data.sources import open_source
from winnow.evaluation.sets import open_set, splits_of
from winnow.types import InputError

WRITERS = [write_pair_tars, write_pair_parquet, write_pair_table]
UIDS = [make_uid(one.png, one.captions[0], {}) for one in emoji()]


def select(folder, shards, keep):
    """The selection of some rows of `shards`, as `winnow curate` writes it."""
    import pyarrow as pa

    source, tables, row = open_source(str(shards)), [], -1
    for shard in source.shards:
        kept = []
        for raw in source.scan(shard):
            row += 1
            uid = make_uid(raw.image, raw.caption, raw.metadata)
            facts = {"key": raw.key, "offset": raw.offset, "size": raw.size}
            if row in keep:
                kept.append(facts | {"uid": uid, "caption": raw.caption})
        columns = ("key", "offset", "size", "uid", "caption")
        tables.append(pa.table({name: [one[name] for one in kept] for name in columns}))
    write_selection(folder, list(source.shards), tables)
    return Selection.open(folder)


@pytest.mark.parametrize("write", WRITERS)
def test_a_pair_is_a_picture_with_one_caption(tmp_path, write):
    folder = write(tmp_path / "pairs")
    assert splits_of(folder) == ("test",)
    found = open_set(folder)
    assert (found.name, found.label_kind, found.captions_each) == ("pairs", "none", (1, 1))
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.key for s in samples] == UIDS
        assert [s.image for s in samples] == [one.png for one in emoji()]
        assert [s.captions for s in samples] == [one.captions[:1] for one in emoji()]


def test_the_same_pairs_are_the_same_set_in_any_format(tmp_path):
    folders = [write(tmp_path / write.__name__) for write in WRITERS]
    folders.append(write_pair_tars(tmp_path / "one", per_tar=12))
    select(tmp_path / "all", folders[0], range(12))
    folders += [tmp_path / "all", folders[0] / "{00000..00002}.tar", folders[2] / "pairs.csv"]
    assert len({open_set(folder).fingerprint for folder in folders}) == 1


@pytest.mark.parametrize("write", WRITERS)
def test_a_selection_is_what_it_kept(tmp_path, write):
    folder = write(tmp_path / "pairs")
    select(tmp_path / "kept", folder, (1, 4, 5, 11))
    found = open_set(tmp_path / "kept")
    assert (found.num_samples, found.name) == (4, "kept")
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.key for s in samples] == [UIDS[row] for row in (1, 4, 5, 11)]
        assert [s.image for s in samples] == [emoji()[row].png for row in (1, 4, 5, 11)]


def test_an_exact_copy_counts_on(tmp_path):
    one = emoji()[0]
    copies = [
        [(name.replace(one.name, key), data) for name, data in captioned(one)] for key in "abc"
    ]
    write_tar(tmp_path / "0000.tar", joined(copies))
    keys = [s.key for s in open_set(tmp_path).samples()]
    uid = keys[0]
    assert keys == [uid, f"{uid}-2", f"{uid}-3"]


def test_an_unreadable_pair_is_named_with_what_drops_it(tmp_path):
    members = pair_members(emoji()[1])
    write_tar(tmp_path / "0000.tar", [*pair_members(emoji()[0]), members[0]])
    with pytest.raises(
        InputError, match=r"0000\.tar, sample twemoji-1f34e .*missing caption.*curate"
    ):
        open_set(tmp_path)


def test_a_table_without_the_columns_says_which_it_has(tmp_path):
    (tmp_path / "pairs.csv").write_text("file,words\na.png,an apple\n")
    with pytest.raises(InputError, match=r"pairs\.csv has none of caption.*'file', 'words'"):
        open_set(tmp_path)


def test_a_blank_caption_is_named(tmp_path):
    one = emoji()[0]
    write_tar(tmp_path / "0000.tar", [(f"{one.name}.png", one.png), (f"{one.name}.txt", b" \n")])
    with pytest.raises(InputError, match=r"has a blank caption.*winnow curate"):
        open_set(tmp_path)


def test_a_truncated_shard_is_named(tmp_path):
    folder = write_pair_tars(tmp_path)
    data = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(data[:5000])
    with pytest.raises(InputError, match=r"00001\.tar, sample .* cannot be read .*curate"):
        open_set(folder)


def test_a_shard_that_changed_under_a_selection_is_named(tmp_path):
    folder = write_pair_tars(tmp_path / "pairs")
    select(tmp_path / "kept", folder, (1, 7))
    write_tar(folder / "00001.tar", joined([pair_members(one) for one in emoji()[:5]]))
    with pytest.raises(InputError, match=r"00001\.tar has changed since its ledger was made"):
        open_set(tmp_path / "kept")
