"""Real captions, for the benchmarks of curation: none of them is written for it.

Emoji names come with a package of the demo. Descriptions of Openclipart, captions of GIMP's manual
and sentences of Tux Paint's stamps are read where the Debian package has been unpacked into the
cache, as `spotting.py` does with two of them; nothing is fetched here.
"""

import html
import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

CACHE = Path.home() / ".cache" / "winnow-benchmarks"
LABELS = Path(__file__).parents[1] / "tests" / "curation" / "captions"
PACKAGES = {
    "openclipart-svg": ("*.svg", r"<dc:description>(.*?)</dc:description>"),
    "gimp-help-en": ("*.html", r'<img\s[^>]*?alt="([^"]+)"'),
    "tuxpaint-stamps-default": ("*.txt", r"\A([^\n]+)"),
}
"""Debian packages: which of their files hold captions, and where in them."""
DRAWN = "labelled (dev)"
"""The source whose captions were drawn by kind."""
LENGTHS = range(3, 301)
"""Characters, as in the labelled captions."""
LONG = 8
"""Words from which on a caption is long."""


def labelled(name: str) -> list[dict]:
    """The records of one half of the captions labelled by hand."""
    return [json.loads(line) for line in (LABELS / f"{name}.jsonl").read_text().splitlines()]


def captions_by_source(cache: Path) -> dict[str, list[str]]:
    """Distinct captions by where they come from, sorted; what is not in the cache is left out."""
    import emoji

    found = {
        DRAWN: _distinct(record["caption"] for record in labelled("dev")),
        "emoji": _distinct(
            names["en"].strip(":").replace("_", " ") for names in emoji.EMOJI_DATA.values()
        ),
    }
    for package, (files, pattern) in PACKAGES.items():
        folder = cache / package
        if not folder.is_dir():
            print(
                f"left out: {package}; to have it, unpack it into {folder}: "
                f"apt-get download {package} && dpkg -x {package}_*.deb {folder}"
            )
            continue
        texts = (path.read_text("utf-8", "replace") for path in sorted(folder.rglob(files)))
        found[package] = _distinct(
            html.unescape(match) for text in texts for match in re.findall(pattern, text, re.DOTALL)
        )
    return found


def sample(captions: Iterable[str], *, count: int) -> list[str]:
    """At most `count` distinct captions, the same at every run."""
    distinct = sorted(set(captions))
    return random.Random(0).sample(distinct, min(count, len(distinct)))  # noqa: S311


def split_by_length(sources: dict[str, Sequence[str]]) -> dict[str, list[str]]:
    """All captions, the short apart from the long."""
    everything = [caption for captions in sources.values() for caption in captions]
    return {
        "short": [caption for caption in everything if len(caption.split()) < LONG],
        "long": [caption for caption in everything if len(caption.split()) >= LONG],
    }


def _distinct(texts: Iterable[str]) -> list[str]:
    joined = {" ".join(text.split()) for text in texts}
    return sorted(text for text in joined if len(text) in LENGTHS)
