"""Builds the icons benchmark: real icons with their noisy names, and all that models are tested on.

    python benchmarks/icons/build.py --size small --out DIR
    python benchmarks/icons/build.py --size medium --out DIR --pack icons-medium.tar.xz
    python benchmarks/icons/build.py --unpack icons-medium.tar.xz --out DIR

Needs npm, apt-get and a network once; what was fetched and drawn stays in the cache, so a build
that was stopped goes on. README.md beside this file says what is in DIR.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import icon_described
import icon_emoji
import icon_packages
import numpy as np
from icon_drawing import Drawn, Job, draw_all
from icon_evaluation import HeldOut, evaluation_sets
from icon_files import Pair, write_pairs
from icon_lots import lot, uid_of
from icon_pack import pack, unpack, write_noise
from icon_pool import pool
from icon_sets import (
    HELD_OUT_SETS,
    LICENCES,
    UNSEEN_EMOJI,
    UNSEEN_SETS,
    Icon,
    known_sets,
    licence,
    most_drawn_first,
    read_set,
    training_sets,
)
from icon_sizes import NOISES, SIZES, Size
from icon_split import Split, concept_counts, split, subset_of

from winnow.config import read_json, write_json
from winnow.data.keyed import KEY_DTYPE, parse_uids, write_sorted
from winnow.progress import say_to_stderr
from winnow.types import InputError

CACHE = Path.home() / ".cache" / "winnow-benchmarks"
_MANIFEST = "manifest.json"
_STAMPS_TESTED, _CLIP_ART_TESTED = 500, 700
_LEAST_SIDE = 16  # pixels, of a picture in which anything can be told
_OTHER_LICENCES = {
    "emojibase-data": "MIT",
    "openclipart-svg": "public domain",
    "tuxpaint-stamps-default": "GPL-2",
}


class Sources(NamedTuple):
    """What the packages hold, not yet drawn."""

    known: dict[str, dict[str, Any]]
    """What `@iconify/json` says of each set."""
    training: list[Icon]
    unseen: dict[str, list[Icon]]
    vendors: dict[str, list[Icon]]
    labels: dict[str, icon_emoji.Label]
    tested: dict[str, list[icon_described.Described]]
    """By evaluation set."""
    described: list[icon_described.Described]
    """For the pool."""


class Build(NamedTuple):
    """How one folder is built."""

    size: str
    side: int
    seed: int
    cache: Path
    processes: int | None


def main() -> None:
    """Read the options and do what they ask."""
    parser = argparse.ArgumentParser(description="Build the icons benchmark.", allow_abbrev=False)
    parser.add_argument("--size", choices=tuple(SIZES))
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--cache", type=Path, default=CACHE, help="what is fetched and drawn")
    parser.add_argument("--side", type=int, default=32, help="pixels of a picture's side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, help="that draw at once; one per core")
    parser.add_argument("--pack", type=Path, help="write the folder to this tar.xz as well")
    parser.add_argument("--unpack", type=Path, help="make the folder of such a file instead")
    given = parser.parse_args()
    if (given.size is None) == (given.unpack is None):
        parser.error("give --size, or --unpack and the file to unpack")
    if given.side < _LEAST_SIDE:
        parser.error(f"--side is {given.side}, but a picture has {_LEAST_SIDE} pixels or more")
    try:
        if given.unpack:
            unpack(given.unpack, given.out)
            return
        ask = Build(given.size, given.side, given.seed, given.cache, given.processes)
        build(given.out, ask)
        if given.pack:
            say_to_stderr(f"packing {given.out}")
            say_to_stderr(f"{given.pack}: {pack(given.out, given.pack) / 1e6:.1f} MB")
    except InputError as error:
        sys.exit(str(error))


def build(out: Path, ask: Build) -> None:
    """Write the benchmark to `out`, unless the same one is there.

    Raises InputError where something else is there, and where a package cannot be had.
    """
    identity = _identity(ask)
    if (out / _MANIFEST).is_file():
        if read_json(out / _MANIFEST)["identity"] == identity:
            say_to_stderr(f"{out} is there already")
            return
        raise InputError(f"{out} holds another build of the benchmark: delete it, or name another")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} holds other files: name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    size = SIZES[ask.size]
    sources = gather(size, ask)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".icons-") as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        counts = write(whole, sources, ask)
        write_json(whole / _MANIFEST, _manifest(whole, identity, counts, sources, ask))
        shutil.rmtree(out, ignore_errors=True)
        whole.rename(out)


def gather(size: Size, ask: Build) -> Sources:
    """What the packages hold that the size is made of."""
    package = icon_packages.npm_package("@iconify/json", ask.cache)
    known = known_sets(package)
    named = size.sets or training_sets(known)
    refused = set(named) - set(training_sets(known))
    assert not refused, f"{sorted(refused)} may not be trained on"
    by_set = {prefix: read_set(package, prefix, seed=ask.seed) for prefix in named}
    counts = concept_counts(icon for icons in by_set.values() for icon in icons)
    training = [
        icon
        for icons in by_set.values()
        for icon in most_drawn_first(icons, counts, seed=ask.seed)[: size.most_of_a_set]
    ]
    labels = icon_emoji.labels(icon_packages.npm_package("emojibase-data", ask.cache))
    stamps = icon_described.tux_paint(
        icon_packages.debian_package("tuxpaint-stamps-default", ask.cache)
    )
    clip_art = icon_described.open_clip_art(
        icon_packages.debian_package("openclipart-svg", ask.cache)
    )
    sentences = [one for one in clip_art if icon_described.is_sentence(one.text)]
    stamps_tested, stamps_left = icon_described.halves(stamps, tested=_STAMPS_TESTED, seed=ask.seed)
    art_tested, _ = icon_described.halves(sentences, tested=_CLIP_ART_TESTED, seed=ask.seed)
    kept = {one.identity for one in art_tested}
    return Sources(
        known=known,
        training=training,
        unseen={prefix: read_set(package, prefix, seed=ask.seed) for prefix in HELD_OUT_SETS},
        vendors=icon_emoji.vendor_icons(package, labels),
        labels=labels,
        tested={"tuxpaint": stamps_tested, "openclipart": art_tested},
        described=[*stamps_left, *(one for one in clip_art if one.identity not in kept)],
    )


def write(directory: Path, sources: Sources, ask: Build) -> dict[str, Any]:
    """Write everything but the manifest; returns what was counted."""
    size = SIZES[ask.size]
    drawn = _draw(sources, ask)
    say_to_stderr("writing the folders")
    unseen = {
        prefix: [icon for icon in icons if icon.identity in drawn]
        for prefix, icons in sources.unseen.items()
    }
    tested = {
        name: [one for one in described if one.identity in drawn]
        for name, described in sources.tested.items()
    }
    vendors = _drawn_by_all(sources.vendors, drawn)
    held_out_icons = [
        icon for group in (unseen, vendors) for icons in group.values() for icon in icons
    ]
    held_out = {drawn[icon.identity].digest for icon in held_out_icons}
    held_out |= {drawn[one.identity].digest for group in tested.values() for one in group}
    candidates = [icon for icon in sources.training if icon.identity in drawn]
    parts = split(
        candidates,
        [icon for prefix in UNSEEN_SETS for icon in unseen[prefix]],
        {identity: one.digest for identity, one in drawn.items()},
        held_out_digests=held_out,
        config=size.split,
        seed=ask.seed,
    )
    pairs = _write_training(directory, parts, drawn, size, ask)
    held = HeldOut(
        seen=parts.seen,
        unseen=unseen,
        vendors=vendors,
        described=tested,
        classes=parts.classes,
        labels=sources.labels,
        drawn=drawn,
    )
    counts: dict[str, Any] = {
        "candidates": len(candidates),
        "training pairs": len(pairs),
        "training sets": len({icon.set for icon in parts.training}),
        "training captions": len({icon.concept for icon in parts.training}),
        "classes": len(parts.classes),
        "evaluation": {},
    }
    for name, one in evaluation_sets(held, seed=ask.seed).items():
        pictures = one.write(directory / "evaluation" / name)
        counts["evaluation"][name] = {"classes": len(one.classnames), **pictures}
    held_out |= {drawn[icon.identity].digest for icon in parts.seen}
    described = [one for one in sources.described if one.identity in drawn]
    sentences = pool(
        parts.training,
        described,
        sources.labels,
        drawn,
        without=held_out,
        pairs=size.sentences,
        seed=ask.seed,
    )
    write_pairs(directory, "sentences", sentences)
    counts["sentences"] = len(sentences)
    return counts


def _draw(sources: Sources, ask: Build) -> dict[str, Drawn]:
    """Every picture of the sources that can be drawn."""
    groups = (sources.training, *sources.unseen.values(), *sources.vendors.values())
    jobs = [Job(icon.identity, svg=icon.svg) for icons in groups for icon in icons]
    jobs += [one.job for group in (*sources.tested.values(), sources.described) for one in group]
    versions = json.dumps(icon_packages.versions(ask.cache), sort_keys=True).encode()
    made_by = _code("icon_drawing.py") + hashlib.sha256(versions).hexdigest()[:8]
    cache = ask.cache / f"icons-drawn-{ask.side}-{made_by}"
    return draw_all(jobs, side=ask.side, cache=cache, what="drawing", processes=ask.processes)


def _drawn_by_all(vendors: dict[str, list[Icon]], drawn: dict[str, Drawn]) -> dict[str, list[Icon]]:
    """The vendors' emoji without those that one of them has no picture of."""
    rows = zip(*vendors.values(), strict=True)
    whole = [row for row in rows if all(icon.identity in drawn for icon in row)]
    return {name: [row[place] for row in whole] for place, name in enumerate(vendors)}


def _write_training(
    directory: Path, parts: Split, drawn: dict[str, Drawn], size: Size, ask: Build
) -> list[Pair]:
    """Write the pairs, with true and with swapped captions, and their nested parts."""
    order = sorted(parts.training, key=lambda icon: lot(ask.seed, "order", icon.identity))
    pairs = [
        Pair(
            uid=uid_of(icon.identity),
            png=drawn[icon.identity].png,
            caption=icon.concept,
            facts={"set": icon.set, "icon": icon.name, "category": icon.category},
        )
        for icon in order
    ]
    write_pairs(directory, "train", pairs)
    for percent in NOISES:
        write_noise(directory, percent, seed=ask.seed)
    for name, share in size.shares:
        uids = [uid_of(i.identity) for i in subset_of(parts.training, share, seed=ask.seed)]
        _write_uids(directory / "sizes" / f"{name}.npy", uids)
    return pairs


def _write_uids(path: Path, uids: list[str]) -> None:
    """Write them as `winnow curate --rules in-subset` takes them."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    keys = parse_uids(pa.array(uids), where=str(path))
    write_sorted(path, [np.asarray(keys)], dtype=KEY_DTYPE)


def _manifest(
    directory: Path,
    identity: dict[str, Any],
    counts: dict[str, Any],
    sources: Sources,
    ask: Build,
) -> dict[str, Any]:
    sets = sorted({icon.set for icon in sources.training})
    held_out = sorted({*HELD_OUT_SETS, *UNSEEN_EMOJI.values()})
    return {
        "identity": identity,
        "counts": counts,
        "accepted licences": LICENCES,
        "licences": _OTHER_LICENCES
        | {prefix: licence(sources.known[prefix]) for prefix in [*sets, *held_out]},
        "subsets": {
            path.stem: len(np.load(path, mmap_mode="r"))
            for path in sorted((directory / "sizes").glob("*.npy"))
        },
        "sha256": {
            path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        },
    }


def _identity(ask: Build) -> dict[str, Any]:
    """All that the bytes depend on."""
    return {
        "size": ask.size,
        "side": ask.side,
        "seed": ask.seed,
        "versions": icon_packages.versions(ask.cache),
        "code": _code("*.py"),
    }


def _code(*patterns: str) -> str:
    """A hash of the code of these files."""
    found = sorted({path for p in patterns for path in Path(__file__).parent.glob(p)})
    ours = (path for path in found if path.name.startswith("icon_") or path.name == "build.py")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in ours)).hexdigest()[:16]


if __name__ == "__main__":
    main()
