"""The emoji of four vendors, by Unicode's names: `emojibase-data` has labels, tags and groups."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from icon_drawing import svg_of
from icon_names import plain
from icon_sets import UNSEEN_EMOJI, Icon

_COMPONENTS = 2  # emojibase's group of skin tones and hair
_LEAST_OF_A_KIND = 32  # half of them train: sixteen shots
_ONE_KIND = ("face", "hand", "place")  # of which emojibase has many small subgroups


@dataclass(frozen=True, kw_only=True)
class Label:
    """What Unicode says of one emoji."""

    name: str
    """In plain words, such as "flag aland islands"."""
    tags: tuple[str, ...]
    kind: str
    """Its subgroup, such as "animal mammal"."""


def labels(package: Path) -> dict[str, Label]:
    """Every emoji of `emojibase-data` in the folder `package`, by its name; no skin tones."""
    emoji = json.loads((package / "en" / "data.json").read_text("utf-8"))
    subgroups = json.loads((package / "meta" / "groups.json").read_text("utf-8"))["subgroups"]
    found = {}
    for one in emoji:
        if one.get("group", _COMPONENTS) != _COMPONENTS:
            name = plain(one["label"])
            found[name] = Label(
                name=name,
                tags=tuple(one.get("tags", ())),
                kind=_kind(subgroups[str(one["subgroup"])]),
            )
    return found


def vendor_icons(package: Path, known: dict[str, Label]) -> dict[str, list[Icon]]:
    """Of each unseen vendor its drawings of the emoji that all four draw, by name.

    `package` is the folder of `@iconify/json`.
    """
    found = {name: _by_label(package, prefix, known) for name, prefix in UNSEEN_EMOJI.items()}
    for icons in found.values():
        # By an alias one drawing may have two names: which of them it shows is not known.
        uses = Counter(icon.name for icon in icons.values())
        for label in [label for label, icon in icons.items() if uses[icon.name] > 1]:
            del icons[label]
    common = sorted(set.intersection(*(set(icons) for icons in found.values())))
    return {name: [icons[label] for label in common] for name, icons in found.items()}


def kinds_of(names: list[str], known: dict[str, Label]) -> list[str]:
    """The kinds that at least 32 of the named emoji are of, sorted."""
    counts: dict[str, int] = {}
    for name in names:
        counts[known[name].kind] = counts.get(known[name].kind, 0) + 1
    return sorted(kind for kind, count in counts.items() if count >= _LEAST_OF_A_KIND)


def _by_label(package: Path, prefix: str, known: dict[str, Label]) -> dict[str, Icon]:
    content = json.loads((package / "json" / f"{prefix}.json").read_text("utf-8"))
    names: dict[str, str] = {}
    for name, target in _names(content).items():
        label = plain(name)
        if label in known:
            names.setdefault(label, target)
    return {
        label: Icon(set=prefix, name=name, concept=label, category="", svg=svg_of(content, name))
        for label, name in names.items()
    }


def _names(content: dict) -> dict[str, str]:
    """The icon behind each name: its own, then what it is called besides, unless that is turned."""
    names = {name: name for name in sorted(content["icons"])}
    for alias, about in sorted(content.get("aliases", {}).items()):
        if set(about) == {"parent"} and about["parent"] in content["icons"]:
            names.setdefault(alias, about["parent"])
    return names


def _kind(subgroup: str) -> str:
    first = subgroup.split("-")[0]
    return first if first in _ONE_KIND else subgroup.replace("-", " ")
