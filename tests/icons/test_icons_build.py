"""A tiny benchmark, built end to end from a hand-made cache."""

import hashlib
import io
import json
import shutil
import tarfile

import build
import numpy as np
import pyarrow.parquet as pq
import pytest
from icon_drawing import Job, draw, encoded, svg_of
from icon_pack import pack, unpack
from icon_packages import debian_package
from icon_sets import known_sets, training_sets
from PIL import Image

from winnow.data.subset import Subset
from winnow.evaluation.sets import open_set, splits_of
from winnow.types import InputError


def pairs_of(folder):
    found = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                key, suffix = member.name.split(".")
                found.setdefault(key, {})[suffix] = archive.extractfile(member).read()
    return found


def look(png):
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size, picture.convert("RGB").tobytes()


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_only_sets_that_may_be_trained_on_are(icon_cache, icons):
    known = known_sets(icon_cache / "npm" / "@iconify-json-2.2.535")
    assert training_sets(known) == ["alpha", "beta", "delta", "gamma"]
    truth = pq.read_table(icons / "truth" / "train.parquet").to_pylist()
    assert {row["set"] for row in truth} == {"alpha", "beta", "delta", "gamma"}


def test_shards_say_what_truth_says(icons):
    pairs = pairs_of(icons / "train")
    truth = pq.read_table(icons / "truth" / "train.parquet").to_pylist()
    assert len(pairs) == len(truth) == 150
    for row in truth:
        pair = pairs[row["key"]]
        assert pair["txt"].decode() == row["caption"] == row["icon"]
        assert json.loads(pair["json"]) == {"uid": row["uid"]}
        assert look(pair["png"])[0] == (32, 32)


def test_noise_keeps_keys_pictures_and_uids(icons):
    clean = pairs_of(icons / "train")
    for percent in (20, 40, 60):
        noisy = pairs_of(icons / f"noise-{percent}")
        truth = {
            row["uid"]: row
            for row in pq.read_table(icons / "truth" / f"noise-{percent}.parquet").to_pylist()
        }
        assert list(noisy) == list(clean)
        for key, pair in noisy.items():
            assert (pair["png"], pair["json"]) == (clean[key]["png"], clean[key]["json"])
            row = truth[json.loads(pair["json"])["uid"]]
            assert (pair["txt"].decode(), clean[key]["txt"].decode()) == (
                row["caption"],
                row["own_caption"],
            )
            assert row["is_swapped"] == (pair["txt"] != clean[key]["txt"])
        assert sum(row["is_swapped"] for row in truth.values()) == percent * 150 // 100


def test_parts_are_subsets_that_winnow_takes(icons):
    uids = set(pq.read_table(icons / "truth" / "train.parquet")["uid"].to_pylist())
    tenth, half = (Subset.open(icons / "sizes" / f"1-of-{n}.npy") for n in (10, 2))
    assert 11 <= len(tenth) <= 19 and 71 <= len(half) <= 79
    assert np.isin(tenth.uids, half.uids).all()
    ours = pq.read_table(icons / "truth" / "train.parquet")["uid"].combine_chunks()
    assert len(uids) == 150 and half.contains(ours).sum() == len(half)


def test_nothing_that_is_tested_is_trained_on(icons):
    trained = {look(pair["png"]) for pair in pairs_of(icons / "train").values()}
    pool = {look(pair["png"]) for pair in pairs_of(icons / "sentences").values()}
    for folder in (icons / "evaluation").iterdir():
        for split in splits_of(folder):
            for sample in open_set(folder, split=split).samples():
                assert look(sample.image) not in trained | pool


def test_evaluation_sets_are_read_and_share_their_classes(icons):
    opened = {folder.name: folder for folder in (icons / "evaluation").iterdir()}
    assert set(opened) == {
        *("seen", "unseen-sets", "validation-hugeicons"),
        *("noto", "twemoji", "fluent", "validation-openmoji"),
        *("unseen-emoji", "seen-emoji-classes", "game-icons", "seen-game-classes"),
        *("game-icons-retrieval", "tuxpaint", "openclipart"),
        *("kinds-noto", "kinds-across", "categories-iconoir"),
    }
    sets = {name: open_set(folder, split="test") for name, folder in opened.items()}
    for one, other in (
        ("seen", "unseen-sets"),
        ("seen", "validation-hugeicons"),
        ("seen-emoji-classes", "unseen-emoji"),
        ("seen-game-classes", "game-icons"),
    ):
        assert sets[one].classnames == sets[other].classnames != ()
    for sample in sets["seen"].samples():
        name = sets["seen"].classnames[sample.labels[0]]
        assert sample.key.endswith(f"--{name}")
    noto = list(sets["noto"].samples())
    # The captions would be the class names, and retrieval zero-shot once more.
    assert [sample.labels for sample in noto] == [(n,) for n in range(len(noto))]
    assert not any(sample.captions for sample in noto)
    assert {sample.captions[0] for sample in sets["tuxpaint"].samples()} <= {
        f"A stamp with number {n}." for n in range(6)
    }
    assert all('"' in sample.captions[0] for sample in sets["openclipart"].samples())


def test_no_concept_of_a_probe_is_fitted_and_tested(icons):
    for name in ("kinds-noto", "kinds-across", "categories-iconoir"):
        parts = {
            split: [
                s.key.split("--")[1]
                for s in open_set(icons / "evaluation" / name, split=split).samples()
            ]
            for split in ("train", "test")
        }
        assert parts["train"] and parts["test"]
        assert not set(parts["train"]) & set(parts["test"])
    assert open_set(icons / "evaluation" / "kinds-noto", split="test").classnames == (
        "face",
        "food fruit",
    )


def test_the_pool_has_sentences_of_people_and_of_the_grammar(icons):
    rows = pq.read_table(icons / "truth" / "sentences.parquet").to_pylist()
    pairs = pairs_of(icons / "sentences")
    assert len(rows) == len(pairs) == 60
    by_source = {row["source"] for row in rows}
    assert {"tuxpaint", "openclipart"} < by_source
    for row in rows:
        assert pairs[row["key"]]["txt"].decode() == row["caption"]
        assert look(pairs[row["key"]]["png"])[0][0] == (96 if row["has_text"] else 32)
    assert any(row["has_text"] for row in rows)


def test_the_manifest_counts_and_hashes_what_is_there(icons):
    manifest = json.loads((icons / "manifest.json").read_text())
    files = files_of(icons)
    del files["manifest.json"]
    assert manifest["sha256"] == files
    assert manifest["counts"]["training pairs"] == 150
    assert manifest["licences"]["alpha"] == "MIT"
    assert manifest["identity"]["versions"]["openclipart-svg"] == "1:0.18-2"


def test_two_builds_are_the_same_bytes_and_a_third_is_not_made(
    icons, build_icons, tmp_path, capsys
):
    again = build_icons(tmp_path / "again")
    assert files_of(again) == files_of(icons)
    build_icons(again)
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds another build"):
        build_icons(again, seed=1)


def test_an_unpacked_archive_is_the_folder(icons, tmp_path):
    assert pack(icons, tmp_path / "icons.tar.xz") == (tmp_path / "icons.tar.xz").stat().st_size
    unpack(tmp_path / "icons.tar.xz", tmp_path / "out" / "icons")
    assert files_of(tmp_path / "out" / "icons") == files_of(icons)
    with pytest.raises(InputError, match="is there already"):
        unpack(tmp_path / "icons.tar.xz", tmp_path / "out" / "icons")
    whole = (tmp_path / "icons.tar.xz").read_bytes()
    (tmp_path / "cut.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="no archive that --pack wrote"):
        unpack(tmp_path / "cut.tar.xz", tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_missing_client_is_said(icon_cache, tmp_path, monkeypatch):
    shutil.copytree(icon_cache, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "npm" / "@iconify-json-2.2.535")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="npm is not on this machine"):
        build.build(tmp_path / "out", build.Build("small", 32, 0, tmp_path / "cache", 1))
    assert not (tmp_path / "out").exists()


def test_pictures_have_sixteen_levels_and_one_digest_a_look():
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    grey = encoded(Image.fromarray(ramp).convert("RGB"))
    with Image.open(io.BytesIO(grey.png)) as picture:
        levels = np.unique(np.asarray(picture.convert("L")))
    assert levels.tolist() == [17 * level for level in range(16)]
    assert len(grey.png) < 800
    lines = Image.new("RGB", (32, 32), "white")
    lines.paste((200, 0, 0), (0, 0, 8, 32))
    red = encoded(lines)
    with Image.open(io.BytesIO(red.png)) as picture:
        assert picture.convert("RGB").getpixel((2, 2)) == (200, 0, 0)
    assert red.digest == encoded(lines.copy()).digest != grey.digest


def test_a_wide_icon_is_padded_and_a_blank_one_is_none():
    content = {"icons": {"bar": {"body": '<rect width="20" height="10"/>', "width": 20}}}
    svg = svg_of(content | {"height": 10}, "bar")
    drawn = draw(Job("s/bar", svg=svg), side=32)
    with Image.open(io.BytesIO(drawn.png)) as picture:
        ink_HW = np.asarray(picture.convert("L")) < 128
    assert np.flatnonzero(ink_HW.any(1)).tolist() == list(range(8, 24))
    assert ink_HW.any(0).all()
    assert draw(Job("s/none", svg=svg.replace("<rect", '<rect fill="#fff"')), side=32) is None
    assert draw(Job("s/broken", svg="<svg"), side=32) is None


def test_a_debian_package_is_unpacked_into_the_cache(tmp_path, monkeypatch):
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    (tools / "apt-get").write_text(f'#!/bin/sh\necho "apt-get $@" >> {log}\n: > "$2_1.0_all.deb"\n')
    (tools / "dpkg-deb").write_text(
        f'#!/bin/sh\necho "dpkg-deb $@" >> {log}\n/bin/mkdir -p "$3/usr"\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    for _ in range(2):
        home = debian_package("openclipart-svg", tmp_path / "cache")
        assert [path.name for path in home.iterdir()] == ["usr"]
    assert log.read_text().splitlines() == [
        "apt-get download openclipart-svg",
        "dpkg-deb --extract openclipart-svg_1.0_all.deb content",
    ]
    (tools / "apt-get").write_text("#!/bin/sh\necho no such package >&2\nexit 100\n")
    with pytest.raises(InputError, match="failed: no such package"):
        debian_package("tuxpaint-stamps-default", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["openclipart-svg"]
