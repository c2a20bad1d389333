"""Words that somebody else wrote, as text: captions, keys, file names, classes, tasks, settings.

Scraped words may hold characters that nobody sees: controls, marks that turn the direction of
what follows, halves of a surrogate pair that no file can hold. Each is written out as its number.
A megabyte is cut, and the cut is counted. Every page goes through here: its template engine hands
each value to `shown`, and charts take `escaped`. What is left of a direction, that of the letters
themselves, is for the page to isolate, with <bdi> or dir="auto".
"""

import re
from typing import Any

from markupsafe import Markup, escape

LONGEST = 1_000
"""Characters that are shown of what nobody has cut before."""

# A flag of a part of a country is spelled in tags, which are unseen everywhere else. Joiners are
# left alone: emoji and Persian need them.
_FLAG = "\U0001f3f4[\U000e0030-\U000e007a]+\U000e007f"
_UNSEEN = re.compile(
    f"({_FLAG})|"
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_LARGEST_PICTURE = 1_000_000
"""Characters; pages show thumbnails, and what is longer is somebody's words in that shape."""
_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/]*={0,2}")


def visible(words: str, *, longest: int = LONGEST) -> str:
    """At most the first `longest` characters, the unseen ones written out: ⟨U+202E⟩.

    What is cut is counted: "… (+998,000 characters)". Line ends and tabs stay as they are. What
    comes back can be written in UTF-8, and comes back unchanged from a second call.
    """
    cut = words[:longest]
    shown = _UNSEEN.sub(lambda found: found[1] or f"⟨U+{ord(found[0]):04X}⟩", cut)
    left = len(words) - len(cut)
    return f"{shown}… (+{left:,} character{'s' if left > 1 else ''})" if left else shown


def escaped(words: str, *, longest: int = LONGEST) -> Markup:
    """The same as HTML or SVG, to stand as text or between the quotes of an attribute."""
    return escape(visible(words, longest=longest))


def shown(value: Any) -> Any:
    """What a template puts out for a value: what is no string, or markup already, as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        is_picture = len(value) <= _LARGEST_PICTURE and _PICTURE.fullmatch(value)
        return value if is_picture else visible(value)
    return value
