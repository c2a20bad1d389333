"""Words that captions are full of and that no picture shows: left out of the vocabularies.

A short list. A word is here if what it says cannot be seen in a picture, or is said of the picture
and not of what is in it; what can be seen as often as not stays ("painting", "logo", "night",
"cute"). Each group has one reason, which stands beside every concept that it took.

Some of them are said of the picture at the end of what is in it, and are taken off there, again and
again: "cat face icon" is the object "cat face" and "turtle drawing" a turtle. Where nothing is left
("stock photo", "flat icon" with the icon as object) the object is left out as a whole, and with it
what the caption says of it: the picture is flat, and nothing in it.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from winnow.concepts.candidates import normalize

NO_WORD = "is no word: fewer than two letters"
"""The reason for numbers, single letters and "4k"; of a whole concept, so "boeing 747" stays."""

ASKED = "was asked for"
"""The reason for the words that a configuration adds."""


class StopGroup(NamedTuple):
    """Words left out for one reason."""

    reason: str
    heads: tuple[str, ...]
    words: tuple[str, ...]
    compounds: bool
    """Whether they are taken off what ends in them: "turtle drawing", but not "parking lot"."""


GROUPS = (
    # "icon" and "emoji" too: where they are frequent, every pair says so, and elsewhere they name
    # the picture. "Wallpaper" is on walls less often than it is on offer.
    StopGroup(
        reason="says what kind of picture it is, not what is in it",
        heads=("objects",),
        words=(
            *("image", "picture", "photo", "photograph", "photography", "pic", "illustration"),
            *("vector", "graphic", "clipart", "clip art", "icon", "pictogram", "emoji", "drawing"),
            *("screenshot", "thumbnail", "wallpaper", "background", "stock", "view", "close-up"),
            *("closeup", "cartoon", "sticker", "outline", "silhouette", "glyph"),
        ),
        compounds=True,
    ),
    StopGroup(
        reason="says what kind of picture it is, not what is in it",
        heads=("attributes",),
        words=("stock", "vector", "royalty-free", "high-resolution", "printable", "downloadable"),
        compounds=False,
    ),
    StopGroup(
        reason="is about the file, not about what is in it",
        heads=("objects",),
        words=(
            *("png", "jpg", "jpeg", "gif", "svg", "eps", "pdf", "file", "download", "copyright"),
            "resolution",
        ),
        compounds=True,
    ),
    # By themselves only: chess sets, car parts and parking lots can be seen. "Group" and "bunch"
    # can be, too.
    StopGroup(
        reason="stands for another word",
        heads=("objects",),
        words=(
            *("thing", "something", "everything", "one", "lot", "kind", "type", "sort", "piece"),
            *("part", "set", "pair", "item", "bit", "way", "example", "version", "variety"),
            *("rest", "side", "front", "middle"),
        ),
        compounds=False,
    ),
    # Not "night", "winter" and "christmas", which can be seen.
    StopGroup(
        reason="says when, not what",
        heads=("objects",),
        words=(
            *("january", "february", "march", "april", "may", "june", "july", "august"),
            *("september", "october", "november", "december", "monday", "tuesday", "wednesday"),
            *("thursday", "friday", "saturday", "sunday", "day", "week", "month", "year"),
            *("decade", "century", "hour", "minute", "time", "date", "moment", "today"),
        ),
        compounds=False,
    ),
    StopGroup(
        reason="compares with what is not there",
        heads=("attributes",),
        words=(
            *("other", "another", "same", "such", "own", "various", "different", "similar"),
            *("certain", "additional", "related", "next", "last", "previous"),
        ),
        compounds=False,
    ),
    # "New" with them: it is said of what is sold. "Old" stays, since age shows.
    StopGroup(
        reason="praises or sells, and says nothing of the look",
        heads=("attributes",),
        words=(
            *("new", "latest", "free", "available", "best", "good", "great", "perfect", "popular"),
            *("official", "original", "exclusive"),
        ),
        compounds=False,
    ),
)


def fingerprint() -> str:
    """16 hex digits that change with the list."""
    return hashlib.sha256(json.dumps([NO_WORD, GROUPS]).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class StopList:
    """What is left out of one head's vocabulary.

    Words that a configuration adds are no endings to take off: a concept that ends in one is left
    out as a whole.
    """

    whole: dict[str, str]
    """The reason for each word that is left out."""
    endings: dict[str, str]
    """The reason for each of them that is taken off the end of a concept."""
    asked: frozenset[str]
    """Those that a configuration adds."""

    @classmethod
    def of(cls, head: str, further: Sequence[str] = ()) -> "StopList":
        """The list of `head`, with `further` words, which take along what ends in them."""
        groups = [group for group in GROUPS if head in group.heads]
        asked = frozenset(map(normalize, further))
        return cls(
            whole={word: group.reason for group in groups for word in group.words}
            | dict.fromkeys(asked, ASKED),
            endings={w: group.reason for group in groups if group.compounds for w in group.words},
            asked=asked,
        )

    def rest(self, concept: str) -> str:
        """`concept` without the endings that say what kind of picture it is, "" if it is no more.

        Nothing is taken off what ends in a word that was asked for.
        """
        if not concept.endswith(tuple(self.endings)):
            return concept  # most of them, and this is the fastest way to tell
        rests = [concept]
        while ending := _ending(rests[-1], self.endings):
            rests.append(rests[-1].removesuffix(ending).rstrip())
        # Endings only are no more than that, whatever was asked for.
        return rests[-1] and next((r for r in rests if _ending(r, self.asked)), rests[-1])

    def reason(self, concept: str) -> str | None:
        """Why `concept` is left out as a whole; None where it is not.

        None of "day photo", too: what `rest` leaves is asked for by itself.
        """
        if concept in self.whole:
            return self.whole[concept]
        if sum(map(str.isalpha, concept)) < 2:
            return NO_WORD
        if _ending(concept, self.asked):
            return ASKED
        return None if self.rest(concept) else self.endings[_ending(concept, self.endings)]


def _ending(concept: str, among: Collection[str]) -> str:
    """The longest of some words that `concept` ends in, "" for none."""
    while concept and concept not in among:
        concept = concept.partition(" ")[2]
    return concept
