"""A hand-made cache of the packages that the icons benchmark is built from, and a build of it."""

import gzip
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "icons"))

import build
from icon_sets import HELD_OUT_SETS, UNSEEN_EMOJI
from icon_sizes import Size
from icon_split import SplitConfig

CONCEPTS = [f"{a}{b}" for a in ("ba", "co", "di", "fu", "ge", "hi", "ju") for b in "klmnprstvz"]
"""Seventy words of letters."""
TRAINING_SETS = ("alpha", "beta", "gamma", "delta")
TINY = Size(
    sets=None,
    most_of_a_set=None,
    split=SplitConfig(least_families=3, held_out_most=1, most_classes=50, pairs=150),
    shares=(("1-of-10", 0.1), ("1-of-2", 0.5)),
    sentences=60,
)


def icon_body(*identity):
    """Three bars whose lengths are the identity's alone."""
    number = build.lot(0, *identity)
    bars = [(number >> (8 * place)) % 14 + 1 for place in range(3)]
    return "".join(
        f'<rect x="1" y="{1 + 5 * row}" width="{length}" height="{2 + length % 3}"/>'
        for row, length in enumerate(bars)
    )


def write_icons(root, prefix, names, **more):
    """A set of `@iconify/json` whose icons have these names."""
    icons = {name: {"body": icon_body(prefix, name)} for name in names}
    (root / "json").mkdir(parents=True, exist_ok=True)
    content = {"prefix": prefix, "icons": icons, "width": 16, "height": 16, **more}
    (root / "json" / f"{prefix}.json").write_text(json.dumps(content))


def about(spdx="MIT", category="UI 24px"):
    return {"license": {"spdx": spdx, "title": spdx}, "category": category, "tags": []}


def write_iconify(root):
    known = {prefix: about() for prefix in (*TRAINING_SETS, *HELD_OUT_SETS)}
    known |= {prefix: about(category="Emoji") for prefix in UNSEEN_EMOJI.values()}
    known |= {"sharealike": about("CC-BY-SA-4.0"), "labels": about(category="Logos")}
    for prefix in (*TRAINING_SETS, *HELD_OUT_SETS, *UNSEEN_EMOJI.values()):
        halves = {"Tools": CONCEPTS[:35], "Food": CONCEPTS[35:]}
        write_icons(root, prefix, CONCEPTS, categories=halves)
    # A drawing of a training set that a held-out one has too.
    alpha = json.loads((root / "json" / "alpha.json").read_text())
    alpha["icons"]["bak"] = {"body": icon_body("noto", "bak")}
    (root / "json" / "alpha.json").write_text(json.dumps(alpha))
    (root / "collections.json").write_text(json.dumps(known))
    (root / "package.json").write_text('{"version": "2.2.535"}')


def write_emojibase(root):
    (root / "en").mkdir(parents=True)
    (root / "meta").mkdir()
    emoji = [
        {"label": name, "tags": [f"{name}ish"], "group": 4, "subgroup": int(number >= 35)}
        for number, name in enumerate(CONCEPTS)
    ]
    (root / "en" / "data.json").write_text(json.dumps(emoji))
    subgroups = {"0": "food-fruit", "1": "face-smiling"}
    (root / "meta" / "groups.json").write_text(json.dumps({"subgroups": subgroups}))
    (root / "package.json").write_text('{"version": "17.0.0"}')


def write_debian(cache):
    for name in ("tuxpaint-stamps-default", "openclipart-svg"):
        doc = cache / name / "usr" / "share" / "doc" / name
        doc.mkdir(parents=True)
        with gzip.open(doc / "changelog.Debian.gz", "wt") as file:
            file.write(f"{name} (1:0.18-2) unstable; urgency=low\n")
    stamps = cache / "tuxpaint-stamps-default" / "usr" / "share" / "tuxpaint" / "stamps"
    art = cache / "openclipart-svg" / "usr" / "share" / "openclipart" / "svg"
    stamps.mkdir(parents=True)
    art.mkdir(parents=True)
    for number in range(6):
        Image.new("RGBA", (40, 20), (200, 30 * number, 0, 255)).save(stamps / f"s{number}.png")
        (stamps / f"s{number}.txt").write_text(f"A stamp with number {number}.\nde=Stempel\n")
        words = f"A drawing of &quot;{number}&quot;"
        (art / f"d{number}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="10"><metadata><cc:Work '
            'xmlns:cc="c" xmlns:dc="d"><dc:title>title</dc:title>'
            f"<dc:description>{words}\n</dc:description></cc:Work></metadata>"
            f'<rect width="{4 * number + 5}" height="10" fill="#00f"/></svg>'
        )


@pytest.fixture(scope="session")
def icon_cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("icon-cache")
    write_iconify(cache / "npm" / "@iconify-json-2.2.535")
    write_emojibase(cache / "npm" / "emojibase-data-17.0.0")
    write_debian(cache)
    return cache


@pytest.fixture(scope="session")
def build_icons(icon_cache):
    """`build_icons(folder)` builds a tiny benchmark there."""

    def run(folder, seed=0):
        patch = pytest.MonkeyPatch()
        patch.setitem(build.SIZES, "small", TINY)
        patch.setattr(build, "_STAMPS_TESTED", 3)
        patch.setattr(build, "_CLIP_ART_TESTED", 3)
        build.build(folder, build.Build("small", 32, seed, icon_cache, 1))
        patch.undo()
        return folder

    return run


@pytest.fixture(scope="session")
def icons(build_icons, tmp_path_factory):
    return build_icons(tmp_path_factory.mktemp("icons") / "tiny")
