import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coloured_pairs import PAIRS, ColourEncoder, curate, explorer, picture, shade, write_shards
from PIL import Image

from winnow.curation.select import select
from winnow.data.audit import AUDIT_SCHEMA
from winnow.data.block_cache import BlockCache
from winnow.data.folder import Folder
from winnow.evaluation.embed import Embedder
from winnow.explore import embedding
from winnow.explore.embedding import picture_features
from winnow.explore.pairs import read_pairs
from winnow.explore.pictures import picture_of
from winnow.types import InputError


def pairs(curated, *, selection="words", kept_only=False, run=None):
    return read_pairs(Folder.at(curated), selection, kept_only=kept_only, run=run)


def test_all_readable_pairs_are_there_with_their_verdicts(coloured):
    found = pairs(coloured)
    assert found.table["key"].to_pylist() == [key for key, _, _ in PAIRS]
    assert found.table["caption"].to_pylist() == [caption for _, _, caption in PAIRS]
    assert found.unreadable == 1
    expected = ["kept"] * 6 + ["dropped", "kept", "dropped"]
    assert found.outcomes.tolist() == expected
    assert found.codes.tolist() == [""] * 6 + ["caption-too-short", "", "caption-too-short"]
    assert found.table["reasons"][6].as_py() == ["caption-too-short", "caption-url"]
    assert found.counts_by_code == {"caption-too-short": 2}
    assert found.shard(4).endswith("00000.tar")
    assert found.shard(5).endswith("00001.tar")
    assert set(pairs(coloured, selection="none").outcomes) == {"kept"}


def test_kept_pairs_alone(coloured):
    found = pairs(coloured, kept_only=True)
    assert found.table["key"].to_pylist() == ["p00", "p01", "p02", "p03", "p04", "p05", "p07"]
    assert set(found.outcomes) == {"kept"}


def test_a_caption_that_repeats_is_one(coloured):
    captions, caption_N = pairs(coloured).distinct_captions
    assert captions == list(dict.fromkeys(caption for _, _, caption in PAIRS))
    assert [captions[one] for one in caption_N] == [caption for _, _, caption in PAIRS]


@pytest.mark.parametrize(
    ("name", "rows"), [("p03", [3]), ("p0", [*range(8)]), ("q", [8]), ("nothing", [])]
)
def test_pairs_are_found_by_key_or_its_beginning(coloured, name, rows):
    assert pairs(coloured).find(name).tolist() == rows


def test_pairs_are_found_by_uid(coloured):
    found = pairs(coloured)
    uid = found.table["uid"][5].as_py()
    assert found.find(uid.upper()).tolist() == [5]


def audit(folder, rows):
    """An audit.parquet of (uid, own_probability)."""
    table = pa.Table.from_pylist(
        [
            {"uid": uid, "shard": "s", "key": "k", "caption": "c", "times": 3, "own_probability": p}
            for uid, p in rows
        ],
        schema=AUDIT_SCHEMA.with_metadata(
            {f"winnow.{name}": "0" for name in ("fingerprint", "steps", "version", "segments")}
        ),
    )
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / "audit.parquet")
    return folder


def test_an_audit_is_joined_by_uid(coloured, tmp_path):
    uids = pairs(coloured).table["uid"].to_pylist()
    # Of other pairs too, and in another order.
    run = audit(tmp_path / "run", [("f" * 32, 0.5), (uids[7], 0.25), (uids[4], 0.0625)])
    found = pairs(coloured, run=run)
    expected = [np.nan] * 4 + [0.0625, np.nan, np.nan, 0.25, np.nan]
    np.testing.assert_array_equal(found.audit["own_probability"], expected)
    np.testing.assert_array_equal(found.audit["times"][[4, 7]], [3, 3])
    assert np.isnan(found.audit["margin"]).all()
    assert pairs(coloured, run=tmp_path).audit == {}
    (run / "audit.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"audit\.parquet cannot be read"):
        pairs(coloured, run=run)


def test_verdicts_of_other_rows_are_refused(tmp_path):
    out = curate(write_shards(tmp_path / "raw"), tmp_path / "curated")
    verdicts = out / "selections" / "words" / "verdicts"
    (verdicts / "00001.parquet").unlink()
    with pytest.raises(InputError, match="of other rows than the ledger"):
        pairs(out)
    shutil.copy(verdicts / "00000.parquet", verdicts / "00001.parquet")
    with pytest.raises(InputError, match="of other rows than the ledger"):
        pairs(out)


def test_nothing_to_explore_is_said(tmp_path):
    out = curate(write_shards(tmp_path / "raw"), tmp_path / "curated")
    with pytest.raises(InputError, match="no selection 'other'"):
        pairs(out, selection="other")
    from winnow.curation.rules.caption_length import CaptionLength

    select(out, (CaptionLength(min_words=1000, max_words=None),), name="nothing")
    with pytest.raises(InputError, match="kept no pair"):
        pairs(out, selection="nothing", kept_only=True)


def test_pictures_and_captions_are_embedded_once(coloured, tmp_path):
    encoder = ColourEncoder()
    first = explorer(coloured, tmp_path, encoder=encoder)
    assert (encoder.pictures, encoder.texts) == (9, 8)
    again = explorer(coloured, tmp_path, encoder=encoder, selection="none")
    assert (encoder.pictures, encoder.texts) == (9, 8)
    np.testing.assert_array_equal(first.index.image_ND, again.index.image_ND)


def test_other_pictures_are_never_taken_for_these(coloured, tmp_path):
    first = explorer(coloured, tmp_path / "cache")
    others = [(key, "green", caption) for key, _, caption in PAIRS]
    out = curate(write_shards(tmp_path / "raw", pairs=others), tmp_path / "curated")
    again = explorer(out, tmp_path / "cache")
    assert not np.allclose(first.index.image_ND, again.index.image_ND)


def test_a_killed_embedding_goes_on(coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "PICTURES_A_PART", 2)

    class Killed(ColourEncoder):
        def encode_image(self, image_BCHW):
            if self.pictures == 6:
                raise KeyboardInterrupt
            return super().encode_image(image_BCHW)

    with pytest.raises(KeyboardInterrupt):
        explorer(coloured, tmp_path, encoder=Killed())
    encoder = ColourEncoder()
    resumed = explorer(coloured, tmp_path, encoder=encoder)
    assert encoder.pictures == 3
    whole = explorer(coloured, tmp_path / "other")
    np.testing.assert_array_equal(resumed.index.image_ND, whole.index.image_ND)


def test_a_picture_that_is_another_one_now_is_refused(tmp_path):
    out = curate(write_shards(tmp_path / "raw"), tmp_path / "curated")
    shard = tmp_path / "raw" / "00001.tar"
    data = bytearray(shard.read_bytes())
    place = data.index(b"IDAT")
    data[place + 6] ^= 1
    shard.write_bytes(data)
    embedder = Embedder(encoder=ColourEncoder(), cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"p05 of .*00001\.tar is another one"):
        picture_features(pairs(out), embedder)


def test_pairs_of_a_parquet_shard_are_shown(tmp_path):
    table = pa.table(
        {
            "image": [{"bytes": picture(shade(row)), "path": f"{row}.png"} for row in range(4)],
            "caption": [caption for _, _, caption in PAIRS[:4]],
        }
    )
    (tmp_path / "raw").mkdir()
    pq.write_table(table, tmp_path / "raw" / "0.parquet", row_group_size=2)
    blocks = BlockCache(folder=tmp_path / "blocks")
    found = read_pairs(
        Folder.at(curate(tmp_path / "raw", tmp_path / "curated")), "words", blocks=blocks
    )
    features = picture_features(found, Embedder(encoder=ColourEncoder(), cache=tmp_path / "cache"))
    np.testing.assert_array_equal(features, [[part - 110 for part in shade(r)] for r in range(4)])
    whole = Image.open(io.BytesIO(picture_of(found, 3, longest=224)))
    np.testing.assert_allclose(np.asarray(whole).mean((0, 1)), shade(3), atol=12)
    assert list((tmp_path / "blocks").rglob("*"))  # a row group is decoded once, not per picture
