"""Sentences for icons, some worth learning from and some not: the pool that a caption filter sifts.

Icon names have hardly a verb or a relation, which is what the filters C and A ask for. So a share
of the pool is written by a small grammar from what is known of a drawing: its name, its colour in
the picture, the category its set files it under, and Unicode's tags where an emoji has its name.

| kind | share | such as |
|---|---|---|
| action | 0.25 | "a red apple stands on a white background" |
| relation | 0.25 | "a red apple on a white background, from the food group" |
| bare | 0.20 | "apple" |
| tags | 0.15 | "apple, fruit, food, icon, vector" |
| file | 0.15 | "ic_apple_24px.svg", "IMG_2041.png" |
"""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from icon_lots import chance, lot
from PIL import Image

KINDS = {"action": 0.25, "relation": 0.25, "bare": 0.20, "tags": 0.15, "file": 0.15}
"""Kinds of captions and the share of each."""
_HUES = (
    (0.04, "red"),
    (0.11, "orange"),
    (0.19, "yellow"),
    (0.45, "green"),
    (0.70, "blue"),
    (0.83, "purple"),
    (0.95, "pink"),
    (1.01, "red"),
)
_INK = 0.15  # darker or more colourful than white by that much is ink
_COLOURFUL = 0.25  # saturation
_MOST_TAGS = 4


class Facts(NamedTuple):
    """What is known of a drawing."""

    name: str
    colour: str
    category: str
    tags: tuple[str, ...]


class Sentence(NamedTuple):
    """A caption and its kind."""

    text: str
    kind: str


_Words = Callable[[Facts, int], str]
_GRAMMAR: dict[str, tuple[_Words, ...]] = {
    "action": (
        lambda f, n: f"{_with_article(f.colour)} {f.name} stands on a white background",
        lambda f, n: f"the {f.colour} {f.name} fills a white square",
        lambda f, n: f"somebody drew {_with_article(f.name)} in {f.colour} lines",
        lambda f, n: f"a small drawing showing {_with_article(f.name)}{_about(f)}",
        lambda f, n: (
            f"{_with_article(f.colour)} {f.name} floating in an empty white space{_about(f)}"
        ),
        lambda f, n: f"this sign tells people about {f.name}{_group(f)}",
    ),
    "relation": (
        lambda f, n: f"{_with_article(f.colour)} {f.name} on a white background{_group(f)}",
        lambda f, n: f"a small {f.colour} picture of {_with_article(f.name)}{_group(f)}",
        lambda f, n: f"{_with_article(f.name)} in {f.colour}, with white around it",
        lambda f, n: f"simple {f.colour} sign for {f.name}{_about(f)}",
        lambda f, n: (
            f"{_with_article(f.colour)} {f.name} in the middle of a white square{_about(f)}"
        ),
    ),
    "bare": (
        lambda f, n: f.name,
        lambda f, n: f"{f.name} icon",
        lambda f, n: f.name.title(),
    ),
    "tags": (
        lambda f, n: ", ".join((f.name, *_words_about(f), "icon", "vector")),
        lambda f, n: ", ".join((*_words_about(f), f.name, "svg", "free download")),
        lambda f, n: " ".join((f.name, *_words_about(f), "icons", "clipart", "symbol", "png")),
    ),
    "file": (
        lambda f, n: f"ic_{f.name.replace(' ', '_')}_{(16, 24, 32, 48)[n % 4]}px.svg",
        lambda f, n: f"IMG_{n % 10_000:04d}.png",
        lambda f, n: f"{f.name.replace(' ', '-')}-{n % 90 + 2}.png",
        lambda f, n: f"screenshot_20{n % 15 + 10}-{n % 12 + 1:02d}-{n % 28 + 1:02d}.png",
        lambda f, n: f"{n % 2**48:012x}.jpg",
        lambda f, n: f"untitled-{n % 500}",
    ),
}


def sentence(facts: Facts, *, seed: int, identity: str) -> Sentence:
    """A caption of the drawing `identity`; kind and words by lot."""
    kind = _kind(chance(seed, "kind", identity))
    number = lot(seed, "words", identity)
    patterns = _GRAMMAR[kind]
    return Sentence(patterns[number % len(patterns)](facts, number // len(patterns)), kind)


def colour_of(png: bytes) -> str:
    """The colour of most of a drawing's ink: "black", "grey" or one of seven hues, or "brown"."""
    with Image.open(io.BytesIO(png)) as opened:
        image_HWC = np.asarray(opened.convert("RGB").convert("HSV")).astype(float) / 255
    hue_P, saturation_P, value_P = image_HWC.reshape(-1, 3).T
    is_ink = (saturation_P > _INK) | (value_P < 1 - _INK)
    is_hued = is_ink & (saturation_P > _COLOURFUL) & (value_P > _INK)
    if is_hued.sum() * 3 < is_ink.sum() or not is_hued.any():
        return "black" if not is_ink.any() or np.median(value_P[is_ink]) < 0.45 else "grey"
    # Dark orange is what brown is.
    names = np.array([_hue(hue) for hue in hue_P[is_hued]])
    name = max(sorted(set(names)), key=lambda word: int((names == word).sum()))
    is_dark = np.median(value_P[is_hued][names == name]) < 0.65
    return "brown" if name == "orange" and is_dark else str(name)


def tags_for(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    """The first of an emoji's tags that are no part of its name."""
    return tuple(tag for tag in tags if tag not in name)[:_MOST_TAGS]


def _kind(share: float) -> str:
    for kind, weight in KINDS.items():
        share -= weight
        if share < 0:
            return kind
    return next(reversed(KINDS))


def _hue(hue: float) -> str:
    return next(name for end, name in _HUES if hue < end)


def _with_article(word: str) -> str:
    return f"an {word}" if word[:1] in "aeiou" else f"a {word}"


def _group(facts: Facts) -> str:
    return f", from the {facts.category.lower()} group" if facts.category else ""


def _about(facts: Facts) -> str:
    return f", about {facts.tags[0]}" if facts.tags else ""


def _words_about(facts: Facts) -> tuple[str, ...]:
    return (*facts.tags, *((facts.category.lower(),) if facts.category else ()))
