"""Which icon sets there are, which may be trained on, and one drawing per concept of each.

Source: npm `@iconify/json`: `collections.json` says of every set what it is, `json/SET.json` has
the drawings as bodies of SVGs.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icon_drawing import svg_of
from icon_lots import lot
from icon_names import by_lot, concept_of, has_skin_tone, is_brand, styles_of

LICENCES = (
    "Apache-2.0",
    "BSD-3-Clause",
    "CC0-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "ISC",
    "MIT",
    "OFL-1.1",
    "Unlicense",
)
"""SPDX names of the licences that are accepted; a set under another one is left out."""
UNSEEN_EMOJI = {
    "noto": "noto",
    "twemoji": "twemoji",
    "fluent": "fluent-emoji-flat",
    "validation-openmoji": "openmoji",
}
"""Evaluation set and icon set of the emoji vendors that are never trained on. OpenMoji's licence,
CC-BY-SA-4.0, is none of `LICENCES`: it is measured on, for tuning alone, and nothing else."""
UNSEEN_SETS = ("carbon", "clarity", "flat-color-icons", "iconoir", "ph", "pixelarticons")
"""Icon sets of six hands that are never trained on."""
GAME_ICONS = "game-icons"
VALIDATION_SET = "hugeicons"
"""Of a seventh hand, never trained on either: for tuning alone."""
HELD_OUT_SETS = (*UNSEEN_SETS, GAME_ICONS, VALIDATION_SET)
_RELATIVES = ("noto-v1", "fluent-emoji", "fluent-emoji-high-contrast")
_BRANDS = ("fa-brands", "fa6-brands", "fa7-brands", "academicons")
_FLAGS = ("flag", "circle-flags", "flagpack", "cif")  # their names are codes of two letters
_CATEGORIES = ("Logos", "Programming")
_BRAND_CATEGORIES = ("brand", "brands", "logo", "logos", "social", "social media", "crypto")
_MOVING = "Contains Animations"
_EMOJI = "Emoji"
_FAMILIES = {
    "material": ("ic", "material-symbols", "material-symbols-light", "mdi", "mdi-light", "zmdi"),
    "feather": ("feather", "lucide", "lucide-lab"),
    "heroicons": ("heroicons", "heroicons-outline", "heroicons-solid", "sidekickicons"),
    "icon-park": ("icon-park", "icon-park-outline", "icon-park-solid", "icon-park-twotone"),
    "unicons": ("uil", "uim", "uis", "uit"),
    "boxicons": ("bx", "bxs", "boxicons"),
    "pepicons": ("pepicons", "pepicons-pop", "pepicons-print", "pepicons-pencil"),
    "glyphs": ("glyphs", "glyphs-poly"),
    "emojione": ("emojione", "emojione-monotone"),
    "fluent": ("fluent", "fluent-color", "fluent-mdl2"),
    "ion": ("ion", "famicons"),
}
_FAMILY_OF = {prefix: family for family, sets in _FAMILIES.items() for prefix in sets}


@dataclass(frozen=True, kw_only=True)
class Icon:
    """One drawing of a set, not yet drawn."""

    set: str
    name: str
    concept: str
    """What it shows, in words: its caption."""
    category: str
    """As the set files it; may be empty."""
    svg: str

    @property
    def identity(self) -> str:
        """Unique among all icons, e.g. "mdi/home-outline"."""
        return f"{self.set}/{self.name}"

    @property
    def family(self) -> str:
        """Sets that draw alike, since one grew out of the other, are one family."""
        return family_of(self.set)


def family_of(prefix: str) -> str:
    """The family of a set; most are one of their own."""
    if prefix == "la" or re.match(r"fa\d?(-|$)", prefix):  # Line Awesome redraws Font Awesome
        return "fa"
    if prefix.startswith("streamline") and not prefix.startswith("streamline-emojis"):
        return "streamline"
    return _FAMILY_OF.get(prefix, prefix)


def known_sets(package: Path) -> dict[str, dict[str, Any]]:
    """What `@iconify/json` in the folder `package` says of each of its sets."""
    return json.loads((package / "collections.json").read_text(encoding="utf-8"))


def training_sets(known: dict[str, dict[str, Any]]) -> list[str]:
    """The sets that training may see: accepted licences, no brands, no flags, nothing held out."""
    held_out = {*UNSEEN_EMOJI.values(), *HELD_OUT_SETS, *_RELATIVES}
    left_out = held_out | {*_BRANDS, *_FLAGS}
    return sorted(
        prefix
        for prefix, about in known.items()
        if prefix not in left_out
        and licence(about) in LICENCES
        and about.get("category") not in _CATEGORIES
        and _MOVING not in about.get("tags", ())
    )


def licence(about: dict[str, Any]) -> str:
    """A set's licence, by its SPDX name where it has one."""
    return about["license"].get("spdx") or about["license"]["title"]


def read_set(package: Path, prefix: str, *, seed: int) -> list[Icon]:
    """One icon for each concept of the set, which of its styles and sizes by lot; by concept.

    Hidden ones, brands, skin tones and names of one character are left out.
    """
    content = json.loads((package / "json" / f"{prefix}.json").read_text(encoding="utf-8"))
    is_emoji = content.get("info", {}).get("category") == _EMOJI
    categories = _categories(content)
    declared = [*(content.get("suffixes") or ()), *(content.get("prefixes") or ())]
    styles = styles_of(content["icons"], declared)
    if is_emoji:  # a small diamond is no diamond in a small size
        styles = frozenset(word for word in styles if word.isdecimal())
    names: dict[str, list[str]] = {}
    for name in sorted(_shown(content["icons"], categories, with_tones=not is_emoji)):
        concept = concept_of(name, styles)
        if len(concept) > 1:
            names.setdefault(concept, []).append(name)
    icons = []
    for concept in sorted(names):
        name = by_lot(names[concept], lot(seed, "style", prefix, concept))
        icons.append(
            Icon(
                set=prefix,
                name=name,
                concept=concept,
                category=categories.get(name, ""),
                svg=svg_of(content, name),
            )
        )
    return icons


def _shown(
    icons: dict[str, dict[str, Any]], categories: dict[str, str], *, with_tones: bool
) -> Iterator[str]:
    for name, icon in icons.items():
        if icon.get("hidden") or is_brand(name):
            continue
        if categories.get(name, "").casefold() in _BRAND_CATEGORIES:
            continue
        if with_tones or not has_skin_tone(name):
            yield name


def _categories(content: dict[str, Any]) -> dict[str, str]:
    """The one category of each icon that has exactly one."""
    found: dict[str, list[str]] = {}
    for category, names in (content.get("categories") or {}).items():
        for name in names:
            found.setdefault(name, []).append(category)
    return {name: given[0] for name, given in found.items() if len(given) == 1}


def most_drawn_first(icons: Iterable[Icon], counts: dict[str, int], *, seed: int) -> list[Icon]:
    """The icons of one set, those first whose concept most sets draw; ties by lot."""
    return sorted(icons, key=lambda icon: (-counts[icon.concept], lot(seed, "tie", icon.identity)))
