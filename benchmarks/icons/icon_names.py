"""From the name of an icon to the concept it shows, in words.

A set draws one concept in several styles and sizes and says which in the name: `home-outline`,
`home-24-filled`, `baseline-home`. Those words are dropped, so that one concept of a set is one
training pair. What is left is as it was: joined words, numbers of variants and abbreviations are
the noise that such names have.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence, Set

_ALWAYS = """outline outlined filled fill solid duotone twotone monotone regular thin linear
    baseline rounded stroke"""
_SOMETIMES = """line light bold broken round sharp duo remix flat alt alt2 o r s small medium large
    mini micro two tone color colour negative expressive badged alerted mirrored option"""
STYLES = frozenset(_ALWAYS.split())
"""Words that name a style wherever they end or begin a name."""
SOMETIMES_STYLES = frozenset(_SOMETIMES.split())
"""Words that name a style in sets which use them often: a light is a lamp elsewhere."""
_OFTEN = 0.02  # share of a set's names
_AT_LEAST = 5  # names
_NUMBER = re.compile(r"\d{1,3}(px)?")
_BRANDS = frozenset({"brand", "brands", "logo", "logos", "wordmark"})
_OTHERS = frozenset({"pokemon", "pokeball", "minecraft"})  # not to be passed on, whoever draws
_CLASS_NAME = re.compile(r"[a-z]{2,}( [a-z]{2,}){0,2}")
_LEAST_LETTERS = 3


def styles_of(names: Iterable[str], declared: Iterable[str] = ()) -> frozenset[str]:
    """The words that name styles, sizes or variants in the set whose icons have these names.

    `declared` are the endings and beginnings that the set itself says are styles, such as
    "24-filled". Those of `SOMETIMES_STYLES` and numbers count where at least 2 % and 5 of the names
    end or begin with them, sure styles aside.
    """
    sure = STYLES | {word for ending in declared for word in ending.split("-") if word}
    words = [_without(name.split("-"), sure) for name in names]
    counts = Counter(w for name in words if len(name) > 1 for w in {name[0], name[-1]})
    least = max(_AT_LEAST, _OFTEN * len(words))
    often = {
        word
        for word, count in counts.items()
        if count >= least and (word in SOMETIMES_STYLES or _NUMBER.fullmatch(word))
    }
    return frozenset(sure | often)


def concept_of(name: str, styles: frozenset[str]) -> str:
    """The words of the name without those of style: "home-24-filled" is "home".

    A name that is nothing but style words keeps its first one.
    """
    return " ".join(word for word in _without(name.split("-"), styles) if word)


def _without(words: list[str], styles: Set[str]) -> list[str]:
    """The words of a name without those of style at its end and, numbers aside, its beginning."""
    first, last = 0, len(words)
    while last > 1 and words[last - 1] in styles:
        last -= 1
    while first < last - 1 and words[first] in styles and not words[first].isdecimal():
        first += 1
    return words[first:last]


def is_brand(name: str) -> bool:
    """Whether the name says that it is a brand's; most that do not say so stay."""
    words = name.split("-")
    return words[0] in _BRANDS or words[-1] in _BRANDS or not _OTHERS.isdisjoint(words)


def has_skin_tone(name: str) -> bool:
    """Whether an emoji's name gives it a skin tone."""
    return "skin-tone" in name or re.search(r"-tone\d?(-|$)", name) is not None


def is_class_name(concept: str) -> bool:
    """Whether it can name a class: one to three words of letters, three letters at least."""
    return _CLASS_NAME.fullmatch(concept) is not None and len(concept) >= _LEAST_LETTERS


def plain(label: str) -> str:
    """An emoji's label or an icon's name as plain words: "flag: Åland Islands" and
    "flag-for-aland-islands" are "flag aland islands".
    """
    spread = unicodedata.normalize("NFKD", label.lower().replace("*", " asterisk"))
    letters = "".join(c for c in spread if not unicodedata.combining(c) and c not in "'’.")
    words = re.sub(r"[^a-z0-9]+", " ", letters.replace("#", " hash")).split()
    return " ".join(word for word in words if word != "for")


def without_plurals(counts: dict[str, int]) -> dict[str, int]:
    """`counts` by concept without the rarer one of each pair "user", "users"."""
    dropped = set()
    for concept, count in counts.items():
        for plural in (f"{concept}s", f"{concept}es"):
            if plural in counts:
                dropped.add(plural if counts[plural] <= count else concept)
    return {concept: count for concept, count in counts.items() if concept not in dropped}


def by_lot(names: Sequence[str], lot: int) -> str:
    """One of the names; the lot is any number."""
    return sorted(names)[lot % len(names)]
