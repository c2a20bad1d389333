"""Text-spotting on real pictures: what the rule finds, what it misses, and at what cost.

Three sets, none of them part of this repository; Debian packages are fetched into a cache:

- screenshots: 100 captioned pictures of GIMP's manual. Whether the picture shows a run of its
  caption's words was decided by eye, before any spotter saw them (spotting_labels.jsonl).
- overlays: phrases drawn on photographs of Tux Paint's stamps in several sizes, colours, typefaces
  and tilts. Each is paired with its phrase (to be dropped) and with the photograph's own caption,
  which shares no four letters with the phrase (to be kept).
- photographs: the same photographs without the phrase, with their own captions (to be kept; one
  shows a sign that says what its caption says).

The peer is RapidOCR as it comes, on one thread like ours; its lines meet the same rule.

    python benchmarks/spotting.py [quality speed] [--rounds 10] [--cache FOLDER]
"""

import argparse
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import RATIO_COLUMNS, Table, alternate, ratio_of, ratio_rows, write_table
from PIL import Image, ImageDraw, ImageFont

from winnow.curation.annotators.spotting import SpotText
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.spotting import open_spotter
from winnow.curation.text_match import STOP_WORDS, comparable, longest_shared_run, nearest_run

PACKAGES = ("gimp-help-common", "gimp-help-en", "tuxpaint-stamps-default")
CACHE = Path.home() / ".cache" / "winnow-benchmarks"
LABELS = Path(__file__).with_name("spotting_labels.jsonl")
SHOW_THEIR_CAPTION = frozenset({"A railroad crossing."})
"""Photographs that the first run of this benchmark dropped, rightly: its sign says so."""
RULE, DEFAULT_SIDE = TextSpotting(), SpotText().max_side
SIDES = (320, 480, 640, 960)
PEER = "RapidOCR's defaults"
COLUMNS = (
    *("spotter", "set", "pairs", "to drop", "dropped rightly", "dropped wrongly"),
    *("precision", "recall", "missed by a near match"),
)

Spot = Callable[[bytes], list[tuple[str, float]]]
"""From an encoded picture to its lines and their confidence."""


class Pair(NamedTuple):
    """A picture, a caption, and whether the picture shows a run of the caption's words."""

    picture: bytes
    caption: str
    shows_caption: bool


def main() -> None:
    """Measure what was asked for; each part replaces its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["quality", "speed"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=12, help="of each set, for the speed")
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    folder = fetch(arguments.cache)
    sets = {"screenshots": screenshots(folder), **overlays_and_photographs(folder)}
    if "quality" in arguments.parts:
        write_table("spotting", quality(sets))
    if "speed" in arguments.parts:
        write_table("spotting", speed(sets, rounds=arguments.rounds, count=arguments.pictures))


def fetch(cache: Path) -> Path:
    """The folder into which the packages are unpacked; nothing on the system is changed."""
    for package in PACKAGES:
        unpacked = cache / package
        if unpacked.is_dir():
            continue
        missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
        if missing:
            raise SystemExit(
                f"{missing[0]} is missing, with which Debian's package {package} is fetched: "
                f"run this on Debian or Ubuntu, or unpack the package into {unpacked} yourself"
            )
        cache.mkdir(parents=True, exist_ok=True)
        print(f"fetching {package}", flush=True)
        subprocess.run(["apt-get", "download", package], cwd=cache, check=True)
        (archive,) = cache.glob(f"{package}_*.deb")
        unfinished = cache / f"{package}.partial"
        subprocess.run(["dpkg", "-x", str(archive), str(unfinished)], check=True)
        archive.unlink()
        unfinished.rename(unpacked)
    return cache


def screenshots(folder: Path) -> list[Pair]:
    """The labelled pictures of GIMP's manual."""
    root = folder / "gimp-help-en" / "usr/share/gimp/2.0/help/en"
    image = re.compile(r'<img\s[^>]*?src="(images/[^"]+)"[^>]*?alt="([^"]+)"', re.DOTALL)
    captions: dict[str, str] = {}
    for page in sorted(root.glob("*.html")):
        for file, text in image.findall(page.read_text(encoding="utf-8")):
            captions.setdefault(file, " ".join(html.unescape(text).split()))
    labels = [json.loads(line) for line in LABELS.read_text().splitlines()]
    return [
        Pair((root / label["file"]).read_bytes(), captions[label["file"]], label["shows_caption"])
        for label in labels
    ]


def overlays_and_photographs(folder: Path) -> dict[str, list[Pair]]:
    """Photographs with and without a phrase drawn on them; the same at every run."""
    root = folder / "tuxpaint-stamps-default" / "usr/share/tuxpaint/stamps"
    photographs = [
        (picture, sentence_of(path))
        for path in sorted(root.rglob("*.png"))
        if path.with_suffix(".txt").is_file() and (picture := photograph(path)) is not None
    ]
    sentences = sorted({sentence for _, sentence in photographs})
    random = np.random.default_rng(0)
    overlays = []
    for picture, sentence in photographs:
        for _ in range(2):
            phrase = draw_from(sentences, sentence, random)
            data = encode(with_phrase(picture, phrase, random))
            overlays += [Pair(data, phrase, True), Pair(data, sentence, shows(sentence))]
    plain = [Pair(encode(picture), sentence, shows(sentence)) for picture, sentence in photographs]
    return {"overlays": overlays, "photographs": plain}


def shows(sentence: str) -> bool:
    """Whether the photograph of that caption spells it out by itself."""
    return sentence in SHOW_THEIR_CAPTION


def photograph(path: Path) -> Image.Image | None:
    """The stamp on white, cropped to what it shows; None for small ones and drawings."""
    with Image.open(path) as file:
        if min(file.size) < 200:
            return None
        stamp = file.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", stamp.size, "white"), stamp).convert("RGB")
    thumbnail = whole.resize((64, 64), Image.Resampling.NEAREST)
    # Drawings have few colours: 800 among 4,096 points is where stamps begin to be photographs.
    if len(thumbnail.getcolors(4096) or []) <= 800:
        return None
    return whole.crop(stamp.getchannel("A").getbbox())


def sentence_of(stamp: Path) -> str:
    """The stamp's English text."""
    return stamp.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[0].strip()


def draw_from(sentences: Sequence[str], own: str, random: np.random.Generator) -> str:
    """A phrase of up to four words of another sentence, with one of five letters or more.

    It shares no four letters in a row with `own`, spaces and punctuation aside.
    """
    letters = comparable(own).replace(" ", "")
    while True:
        words = comparable(sentences[random.integers(len(sentences))]).split()
        first = random.integers(max(1, len(words) - 3))
        words = words[first : first + random.integers(1, 5)]
        joined = "".join(words)
        shared = any(joined[at : at + 4] in letters for at in range(len(joined) - 3))
        if not shared and any(len(w) >= 5 and w not in STOP_WORDS for w in words):
            return " ".join(words)


def with_phrase(picture: Image.Image, phrase: str, random: np.random.Generator) -> Image.Image:
    """The phrase drawn across the picture, not wider than it is."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique")
    name = names[random.integers(len(names))]
    size = int(random.choice([12, 16, 24, 36]))
    text = (str.upper, str.title, str)[random.integers(3)](phrase)
    font = ImageFont.truetype(fonts / f"{name}.ttf", size)
    width = font.getlength(text)
    if width > 0.9 * picture.width:
        size = max(9, int(size * 0.9 * picture.width / width))
        font = ImageFont.truetype(fonts / f"{name}.ttf", size)
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    colour, outline = [("black", "white"), ("white", "black"), ("yellow", "darkblue")][
        random.integers(3)
    ]
    place = (picture.width / 2, picture.height * random.uniform(0.2, 0.8))
    draw = ImageDraw.Draw(layer)
    draw.text(place, text, colour, font, "mm", stroke_width=size // 12, stroke_fill=outline)
    tilt = float(random.choice([0, 0, 5, -10, 20]))
    layer = layer.rotate(tilt, Image.Resampling.BICUBIC, center=place)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def encode(picture: Image.Image) -> bytes:
    """As a JPEG, as most of the web's pictures are."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def ours(max_side: int) -> Spot:
    """This project's spotter."""
    spot = open_spotter(max_side=max_side)
    return lambda data: [(line.text, line.confidence) for line in spot(data)]


def peer() -> Spot:
    """RapidOCR as it comes, but for its threads."""
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def spot(data: bytes) -> list[tuple[str, float]]:
        found, _ = engine(data)
        return [(text, confidence) for _, text, confidence in found or []]

    return spot


def quality(sets: dict[str, list[Pair]]) -> Table:
    """Precision and recall of the rule, set by set, at several sizes and of the peer."""
    spotters = {f"winnow, {side} px": ours(side) for side in SIDES} | {PEER: peer()}
    data = []
    for name, spot in spotters.items():
        for set_name, pairs in sets.items():
            data.append({"spotter": name, "set": set_name} | score(spot, pairs))
            print(data[-1], flush=True)
    notes: dict[str, object] = {
        "rule": f"confidence {RULE.confidence}, run of {RULE.least_run}",
        "default": f"{DEFAULT_SIDE} px",
        "labels": hashlib.sha256(LABELS.read_bytes()).hexdigest()[:16],
    }
    rows = [tuple(cell(record[column]) for column in COLUMNS) for record in data]
    return Table(title="Precision and recall", columns=COLUMNS, rows=rows, data=data, notes=notes)


def score(spot: Spot, pairs: list[Pair]) -> dict[str, object]:
    """What the rule makes of the spotter's lines; every picture is looked at once."""
    lines: dict[bytes, list[str]] = {}
    for picture in dict.fromkeys(pair.picture for pair in pairs):
        lines[picture] = [text for text, sure in spot(picture) if sure >= RULE.confidence]
    right = wrong = near = 0
    for pair in pairs:
        texts, least = lines[pair.picture], RULE.least_run
        match = longest_shared_run(pair.caption, texts, least_run=least, shortest=least)
        if match is not None:
            right, wrong = right + pair.shows_caption, wrong + (not pair.shows_caption)
        elif pair.shows_caption:
            near += nearest_run(pair.caption, texts, least_run=least) is not None
    to_drop = sum(pair.shows_caption for pair in pairs)
    counts = (len(pairs), to_drop, right, wrong)
    rates = (
        right / (right + wrong) if right + wrong else None,
        right / to_drop if to_drop else None,
    )
    return dict(zip(COLUMNS[2:], (*counts, *rates, near), strict=True))


def cell(value: object) -> str:
    """As the table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def speed(sets: dict[str, list[Pair]], *, rounds: int, count: int) -> Table:
    """The time per picture, ours over the peer's, in turns, set by set."""
    ratios, notes = [], dict[str, object]()
    spotters = {f"winnow, {side} px": ours(side) for side in SIDES} | {PEER: peer()}
    for set_name, pairs in sets.items():
        pictures = list(dict.fromkeys(pair.picture for pair in pairs))[:count]
        runs = {name: partial(look_at_all, spot, pictures) for name, spot in spotters.items()}
        times = alternate(runs, rounds=rounds)
        claim = f"text-spotting, {len(pictures)} {set_name}"
        own = f"winnow, {DEFAULT_SIDE} px"
        ratios.append(ratio_of(times, claim=claim, ours=own, theirs=PEER, aim=3.0))
        for name, seconds in times.items():
            rate = len(pictures) / float(np.median(seconds))
            notes[f"{name}, {set_name}, images/s per core"] = round(rate, 1)
    data = [asdict(ratio) | {"verdict": ratio.verdict} for ratio in ratios]
    rows = ratio_rows(ratios)
    return Table(title="Speed", columns=RATIO_COLUMNS, rows=rows, data=data, notes=notes)


def look_at_all(spot: Spot, pictures: list[bytes]) -> None:
    """What is timed: decoding is part of it."""
    for picture in pictures:
        spot(picture)


if __name__ == "__main__":
    main()
