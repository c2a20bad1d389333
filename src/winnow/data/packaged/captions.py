"""Captions for drawings, in the manner of scraped alternative texts.

What a package says about a drawing (name, aliases, search terms, category) goes through one of
many patterns: some say no more than the name, some add the medium, some pile up key words.
"""

from collections.abc import Callable

import numpy as np

from winnow.data.packaged.randomness import random_for
from winnow.data.packaged.vendors import Drawing

TEMPLATES = (
    "{c}",
    "{c} emoji",
    "{c} icon",
    "a picture of {c}",
    "a drawing of {c}",
)
"""Prompts for zero-shot classification."""

_MEDIA = {
    "colour": ("emoji", "sticker", "drawing", "cartoon", "clip art", "illustration"),
    "flat": ("emoji", "flat icon", "sticker", "clip art", "flat illustration"),
    "outline": ("outline icon", "line drawing", "black and white drawing", "coloring page", "icon"),
    "solid": ("icon", "black icon", "pictogram", "symbol", "glyph"),
    "mono": ("black and white emoji", "monochrome emoji"),
}

_Words = Callable[[Drawing, str, str], str]
_PATTERNS: tuple[tuple[float, _Words], ...] = (
    (5, lambda drawing, medium, term: drawing.name),
    (5, lambda drawing, medium, term: f"{drawing.name} {medium}"),
    (3, lambda drawing, medium, term: f"{_article(medium)} {medium} of {drawing.name}"),
    (2, lambda drawing, medium, term: f"{_article(medium)} {medium} showing {drawing.name}"),
    (2, lambda drawing, medium, term: f"{drawing.name.capitalize()} - {medium}"),
    (1, lambda drawing, medium, term: f"{drawing.category or medium}: {drawing.name}"),
    (1, lambda drawing, medium, term: f"{drawing.name}, {drawing.category.lower() or medium}"),
)
_PATTERNS_WITH_TERM: tuple[tuple[float, _Words], ...] = (
    *_PATTERNS,
    (3, lambda drawing, medium, term: f"{drawing.name}, {term}"),
    (3, lambda drawing, medium, term: f"{term} {medium}"),
    (1, lambda drawing, medium, term: f"{term} ({drawing.name})"),
    (1, lambda drawing, medium, term: f"{medium} {drawing.name} {term}"),
)


def caption(drawing: Drawing, *, seed: int, variant: int = 0) -> str:
    """The caption of a drawing; `variant` tells copies of one drawing apart."""
    random = random_for(seed, "caption", drawing.identity, str(variant))
    patterns = _PATTERNS_WITH_TERM if drawing.terms else _PATTERNS
    weights = np.array([weight for weight, _ in patterns])
    pattern = patterns[random.choice(len(patterns), p=weights / weights.sum())][1]
    media, terms = _MEDIA[drawing.style], drawing.terms or ("",)
    return pattern(drawing, media[random.integers(len(media))], terms[random.integers(len(terms))])


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
