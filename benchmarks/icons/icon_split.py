"""Which drawings train, which ones test, and the classes that both tell apart.

A class is a concept's name that enough training sets draw and that the unseen sets draw as well, so
that accuracy with and without the shift is over the same classes. Of each class a few drawings are
held out; what another set of the same family draws for it leaves training with them, since that is
often the same drawing again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from icon_lots import chance, lot
from icon_names import is_class_name, without_plurals
from icon_sets import Icon


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many classes there are and how many drawings are held out."""

    least_families: int
    """Families of training sets that draw a class, the held-out ones among them."""
    held_out_most: int
    """Drawings held out of each class: one each of a third of its families, so many at most."""
    most_classes: int
    """Classes; those that most families draw are taken."""
    pairs: int
    """Training pairs; where there are more drawings, so many by lot."""


class Split(NamedTuple):
    """Drawings by what they are for."""

    training: list[Icon]
    seen: list[Icon]
    """Held out of the training sets; each one's concept is a class."""
    classes: list[str]
    """Sorted."""


def split(
    icons: Sequence[Icon],
    unseen: Iterable[Icon],
    digests: Mapping[str, str],
    *,
    held_out_digests: Set[str],
    config: SplitConfig,
    seed: int,
) -> Split:
    """Split the icons of the training sets; `digests` has what each looks like, by identity.

    No drawing in training looks like one in `held_out_digests` or in `seen`. Of those that look
    alike with one caption, training has the first.
    """
    usable = [icon for icon in icons if digests[icon.identity] not in held_out_digests]
    classes = classes_of(usable, unseen, config=config)
    seen = _held_out(usable, classes, most=config.held_out_most, seed=seed)
    tested = {digests[icon.identity] for icon in seen}
    families = {(icon.family, icon.concept) for icon in seen}
    training = [
        icon
        for icon in _distinct(usable, digests)
        if digests[icon.identity] not in tested and (icon.family, icon.concept) not in families
    ]
    lots = sorted(training, key=lambda icon: lot(seed, "pairs", icon.identity))
    return Split(lots[: config.pairs], _one_look(seen, digests), classes)


def classes_of(icons: Iterable[Icon], unseen: Iterable[Icon], *, config: SplitConfig) -> list[str]:
    """The concepts to tell apart, sorted: of words, and of the pair "user", "users" one."""
    families: dict[str, set[str]] = {}
    for icon in icons:
        families.setdefault(icon.concept, set()).add(icon.family)
    also = {icon.concept for icon in unseen}
    counts = {
        concept: len(drawn)
        for concept, drawn in families.items()
        if concept in also and is_class_name(concept) and len(drawn) >= config.least_families
    }
    counts = without_plurals(counts)
    most = sorted(counts, key=lambda concept: (-counts[concept], concept))
    return sorted(most[: config.most_classes])


def subset_of(icons: Iterable[Icon], share: float, *, seed: int) -> list[Icon]:
    """The share of the icons of every set, by lot; that of a smaller share lies within.

    A set of n gives share·n of its icons, rounded up or down by lot.
    """
    by_set: dict[str, list[Icon]] = {}
    for icon in icons:
        by_set.setdefault(icon.set, []).append(icon)
    chosen = []
    for prefix, members in sorted(by_set.items()):
        members.sort(key=lambda icon: lot(seed, "size", icon.identity))
        offset = chance(seed, "size", prefix)
        chosen += [m for rank, m in enumerate(members) if (rank + offset) / len(members) < share]
    return chosen


def concept_counts(icons: Iterable[Icon]) -> dict[str, int]:
    """How many of the icons show each concept."""
    return dict(Counter(icon.concept for icon in icons))


def _held_out(icons: Sequence[Icon], classes: Sequence[str], *, most: int, seed: int) -> list[Icon]:
    """Of each class a drawing of each of a third of its families, `most` of them, by lot."""
    by_class: dict[str, list[Icon]] = {concept: [] for concept in classes}
    for icon in icons:
        if icon.concept in by_class:
            by_class[icon.concept].append(icon)
    held_out = []
    for members in by_class.values():
        members.sort(key=lambda icon: lot(seed, "seen", icon.identity))
        each = min(most, len({icon.family for icon in members}) // 3)
        families: set[str] = set()
        for icon in members:
            if len(families) < each and icon.family not in families:
                families.add(icon.family)
                held_out.append(icon)
    return held_out


def _distinct(icons: Iterable[Icon], digests: Mapping[str, str]) -> list[Icon]:
    found: dict[tuple[str, str], Icon] = {}
    for icon in icons:
        found.setdefault((digests[icon.identity], icon.concept), icon)
    return list(found.values())


def _one_look(icons: Iterable[Icon], digests: Mapping[str, str]) -> list[Icon]:
    """The icons without those that look like one before them: a picture has one label."""
    found: dict[str, Icon] = {}
    for icon in icons:
        found.setdefault(digests[icon.identity], icon)
    return list(found.values())
