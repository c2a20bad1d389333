"""Pictures that people described in sentences, of two Debian packages.

Tux Paint's stamps have a sentence each (`winnow.recipes.fetched_pictures`). Openclipart's drawings
have a title and often a description in their RDF, as people typed them.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from icon_drawing import Job
from icon_lots import lot

from winnow.recipes.fetched_pictures import stamps

STAMPS = "usr/share/tuxpaint/stamps"
CLIP_ART = "usr/share/openclipart/svg"
_WORK = re.compile(r"<(?:\w+:)?Work\b.*?</(?:\w+:)?Work>", re.DOTALL)
_FIELD = r"<dc:{}[^>]*>(.*?)</dc:{}>"
_FIELDS = ("description", "title")
_OF_A_COLLECTION = 5  # drawings that share a description
_LONGEST = 200  # characters
_SENTENCE = 3  # words


class Described(NamedTuple):
    """A picture in a file, with what somebody wrote of it."""

    identity: str
    path: Path
    text: str

    @property
    def job(self) -> Job:
        """What draws it."""
        return Job(self.identity, path=str(self.path))


def tux_paint(content: Path) -> list[Described]:
    """The stamps in an unpacked package, one for each sentence, by name."""
    return [
        Described(f"tuxpaint/{stamp.key}", stamp.file, stamp.sentence)
        for stamp in stamps(content / STAMPS)
    ]


def open_clip_art(content: Path) -> list[Described]:
    """The drawings in an unpacked package that have a text, one for each text, by path.

    The text is the description, or the title where there is none of its own: some are a
    collection's, on hundreds of drawings.
    """
    root = content / CLIP_ART
    paths = sorted(root.rglob("*.svg"))
    described = [texts_in(path.read_text("utf-8", "replace")) for path in paths]
    counts = Counter(description for description, _ in described)
    found: dict[str, Described] = {}
    for path, (description, title) in zip(paths, described, strict=True):
        text = description if description and counts[description] <= _OF_A_COLLECTION else title
        if 1 < len(text) <= _LONGEST:
            name = path.relative_to(root).with_suffix("").as_posix()
            found.setdefault(text.casefold(), Described(f"openclipart/{name}", path, text))
    return list(found.values())


def texts_in(svg: str) -> tuple[str, str]:
    """Description and title in an SVG's RDF, each in one line; "" where there is none."""
    work = _WORK.search(svg)
    given = (re.search(_FIELD.format(f, f), work[0], re.DOTALL) if work else None for f in _FIELDS)
    description, title = (" ".join(html.unescape(g[1]).split()) if g else "" for g in given)
    return description, title


def is_sentence(text: str) -> bool:
    """Whether it has three words."""
    return len(text.split()) >= _SENTENCE


def halves(
    described: Iterable[Described], *, tested: int, seed: int
) -> tuple[list[Described], list[Described]]:
    """So many of them to test, the others for the pool of sentences; by lot, each in its order."""
    members: Sequence[Described] = list(described)
    order = sorted(members, key=lambda one: lot(seed, "described", one.identity))
    test = {one.identity for one in order[:tested]}
    return (
        [one for one in members if one.identity in test],
        [one for one in members if one.identity not in test],
    )
