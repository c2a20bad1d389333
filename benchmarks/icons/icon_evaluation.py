"""The evaluation sets: what is held out, in which classes.

seen                    drawings held out of sets that are trained on, in the classes
unseen-sets             of six sets never trained on, in the same classes
validation-hugeicons    of a seventh, in the same classes, for tuning
noto twemoji fluent     the emoji of vendors never trained on, by Unicode's labels, which are
                        captions too; so is validation-openmoji, for tuning
unseen-emoji            of the first three, in those of the classes that they have
seen-emoji-classes      those of `seen` in the same classes
game-icons              of a set never trained on, in those of the classes that it has
seen-game-classes       those of `seen` in the same classes
game-icons-retrieval    with their names; tuxpaint and openclipart with their sentences
kinds-noto              probe: kinds of emoji, half of the concepts to fit, half to test
kinds-across            the same, fitted on Noto, tested on Twemoji and Fluent
categories-iconoir      probe: the categories of a set never trained on
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from icon_described import Described
from icon_drawing import Drawn
from icon_emoji import Label, kinds_of
from icon_files import EvaluationSet, Shown
from icon_lots import chance, lot
from icon_sets import GAME_ICONS, UNSEEN_SETS, VALIDATION_SET, Icon

MOST_PICTURES = 4_000
_RETRIEVED = 2_000
_LEAST_OF_A_CATEGORY = 32
_PROBED = "iconoir"
_VALIDATION_EMOJI = "validation-openmoji"
_VALIDATION_ICONS = f"validation-{VALIDATION_SET}"
_PROBE_TEMPLATES = ("{c}", "an icon about {c}.")


class HeldOut(NamedTuple):
    """All that evaluation sets are made of; every icon in it can be drawn."""

    seen: Sequence[Icon]
    unseen: Mapping[str, Sequence[Icon]]
    """Icons of the sets that are never trained on, by set."""
    vendors: Mapping[str, Sequence[Icon]]
    """By evaluation set; all show the same emoji in the same order."""
    described: Mapping[str, Sequence[Described]]
    """By evaluation set."""
    classes: Sequence[str]
    labels: Mapping[str, Label]
    drawn: Mapping[str, Drawn]


def evaluation_sets(held_out: HeldOut, *, seed: int) -> dict[str, EvaluationSet]:
    """Every evaluation set by name."""
    icons = [icon for prefix in UNSEEN_SETS for icon in held_out.unseen[prefix]]
    emoji = [i for name, i in held_out.vendors.items() if name != _VALIDATION_EMOJI]
    sets = {
        "seen": _named(held_out.seen, held_out.classes, held_out, seed=seed),
        "unseen-sets": _named(icons, held_out.classes, held_out, seed=seed),
        _VALIDATION_ICONS: _named(
            held_out.unseen[VALIDATION_SET], held_out.classes, held_out, seed=seed
        ),
    }
    shifts = {
        ("unseen-emoji", "seen-emoji-classes"): [icon for one in emoji for icon in one],
        ("game-icons", "seen-game-classes"): held_out.unseen[GAME_ICONS],
    }
    for (shifted, without_shift), shown in shifts.items():
        has = {icon.concept for icon in shown} & {icon.concept for icon in held_out.seen}
        classes = [name for name in held_out.classes if name in has]
        sets[shifted] = _named(shown, classes, held_out, seed=seed)
        sets[without_shift] = _named(held_out.seen, classes, held_out, seed=seed)
    for name, shown in held_out.vendors.items():
        sets[name] = _of_labels(shown, held_out)
    sets["game-icons-retrieval"] = _retrieval(held_out.unseen[GAME_ICONS], held_out, seed=seed)
    for name, described in held_out.described.items():
        sets[name] = EvaluationSet(
            splits={
                "test": [
                    Shown(_key(one.identity), held_out.drawn[one.identity].png, caption=one.text)
                    for one in described
                ]
            }
        )
    return sets | _probes(held_out, seed=seed)


def _named(
    icons: Iterable[Icon], classes: Sequence[str], held_out: HeldOut, *, seed: int
) -> EvaluationSet:
    """The icons that show a class, 4,000 at most by lot; one of each look and class."""
    label_of = {name: label for label, name in enumerate(classes)}
    looks: dict[tuple[str, str], Icon] = {}
    for icon in icons:
        if icon.concept in label_of:
            looks.setdefault((held_out.drawn[icon.identity].digest, icon.concept), icon)
    chosen = sorted(looks.values(), key=lambda icon: lot(seed, "test", icon.identity))
    return EvaluationSet(
        splits={
            "test": [
                Shown(
                    _key(icon.identity), held_out.drawn[icon.identity].png, label_of[icon.concept]
                )
                for icon in _by_identity(chosen[:MOST_PICTURES])
            ]
        },
        classnames=tuple(classes),
    )


def _of_labels(icons: Sequence[Icon], held_out: HeldOut) -> EvaluationSet:
    """One picture a class; without captions, which would be the class names once more."""
    return EvaluationSet(
        splits={
            "test": [
                Shown(_key(i.identity), held_out.drawn[i.identity].png, label)
                for label, i in enumerate(icons)
            ]
        },
        classnames=tuple(icon.concept for icon in icons),
    )


def _retrieval(icons: Sequence[Icon], held_out: HeldOut, *, seed: int) -> EvaluationSet:
    chosen = sorted(icons, key=lambda icon: lot(seed, "retrieval", icon.identity))[:_RETRIEVED]
    return EvaluationSet(
        splits={
            "test": [
                Shown(_key(i.identity), held_out.drawn[i.identity].png, caption=i.concept)
                for i in _by_identity(chosen)
            ]
        }
    )


def _probes(held_out: HeldOut, *, seed: int) -> dict[str, EvaluationSet]:
    noto, others = held_out.vendors["noto"], ("twemoji", "fluent")
    kinds = kinds_of([icon.concept for icon in noto], held_out.labels)
    kind = {icon.concept: held_out.labels[icon.concept].kind for icon in noto}
    across = [icon for name in others for icon in held_out.vendors[name]]
    icons = held_out.unseen[_PROBED]
    category = {icon.concept: icon.category for icon in icons if icon.category}
    counts = {name: list(category.values()).count(name) for name in set(category.values())}
    categories = sorted(name for name, count in counts.items() if count >= _LEAST_OF_A_CATEGORY)
    return {
        "kinds-noto": _probe(noto, noto, kind, kinds, held_out, seed=seed),
        "kinds-across": _probe(noto, across, kind, kinds, held_out, seed=seed),
        f"categories-{_PROBED}": _probe(icons, icons, category, categories, held_out, seed=seed),
    }


def _probe(
    fitted: Iterable[Icon],
    tested: Iterable[Icon],
    class_of: Mapping[str, str],
    classes: Sequence[str],
    held_out: HeldOut,
    *,
    seed: int,
) -> EvaluationSet:
    """Half of each class's concepts by lot to fit on, the other half to test: none is in both."""
    members: dict[str, list[str]] = {}
    for concept, name in sorted(class_of.items()):
        members.setdefault(name, []).append(concept)
    fits = set()
    for concepts in members.values():
        order = sorted(concepts, key=lambda concept: chance(seed, "probe", concept))
        fits |= set(order[: (len(order) + 1) // 2])
    label_of = {name: label for label, name in enumerate(classes)}

    def shown(icons: Iterable[Icon], *, fit: bool) -> list[Shown]:
        return [
            Shown(
                _key(icon.identity),
                held_out.drawn[icon.identity].png,
                label_of[class_of[icon.concept]],
            )
            for icon in icons
            if class_of.get(icon.concept) in label_of and (icon.concept in fits) == fit
        ]

    return EvaluationSet(
        splits={"train": shown(fitted, fit=True), "test": shown(tested, fit=False)},
        classnames=tuple(name.lower() for name in classes),
        templates=_PROBE_TEMPLATES,
    )


def _by_identity(icons: Iterable[Icon]) -> list[Icon]:
    return sorted(icons, key=lambda icon: icon.identity)


def _key(identity: str) -> str:
    """A key names a member of a tar: no folders, no dots."""
    return identity.replace("/", "--").replace(".", "_")
