"""Which drawings of the training vendors are never trained on: the in-distribution test.

A drawing is held out only where its concept keeps others to learn from, so the test asks whether
another drawing of a known concept, in a known style, is recognised.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from winnow.data.packaged.concepts import concepts
from winnow.data.packaged.randomness import random_for
from winnow.data.packaged.vendors import Drawing

_TRAINED_SKIN_TONES = 2  # per concept, and one more held out; the rest would only repeat
_HELD_OUT_STYLES = 0.1  # share of OpenMoji's outlined and of its flat drawings
_HELD_OUT_ICONS = 0.5  # chance that a concept's icons give up one of theirs


class Split(NamedTuple):
    """Drawings of the training vendors, in a fixed order."""

    training: list[Drawing]
    held_out: list[Drawing]
    """Every one shows a concept that `training` shows as well."""


def split(drawings: Sequence[Drawing], *, seed: int) -> Split:
    """Split `drawings`, all of concepts; skin tones beyond the third are in neither part."""
    groups: dict[tuple[str, str], list[Drawing]] = {}
    for drawing in drawings:
        groups.setdefault(_group(drawing), []).append(drawing)
    training, held_out = [], []
    for (kind, _), group in groups.items():
        ours, theirs = _RULES[kind](sorted(group, key=lambda d: _chance(seed, d)), seed)
        training += ours
        held_out += theirs
    return Split(_by_identity(training), _by_identity(held_out))


def _group(drawing: Drawing) -> tuple[str, str]:
    """What kind of drawing it is, and which ones are split together with it."""
    if drawing.concept is None:
        raise ValueError(f"{drawing.identity} shows no concept: there is nothing to split")
    if drawing.vendor != "openmoji":
        return "icon", drawing.concept
    if drawing.name != concepts()[drawing.concept].name:
        return "skin tone", drawing.concept
    return drawing.style, drawing.concept


def _split_skin_tones(lots: list[Drawing], seed: int) -> Split:
    return Split(lots[1 : 1 + _TRAINED_SKIN_TONES], lots[:1])


def _split_icons(lots: list[Drawing], seed: int) -> Split:
    """One vendor's icons go together: its solid and its outlined one are often one drawing."""
    if _chance(seed, lots[0], "icons") >= _HELD_OUT_ICONS:
        return Split(lots, [])
    given_up = lots[0].vendor
    return Split(
        [drawing for drawing in lots if drawing.vendor != given_up],
        [drawing for drawing in lots if drawing.vendor == given_up],
    )


def _split_style(lots: list[Drawing], seed: int) -> Split:
    held_out = _chance(seed, lots[0], "style") < _HELD_OUT_STYLES
    return Split([], lots) if held_out else Split(lots, [])


def _train_on_all(lots: list[Drawing], seed: int) -> Split:
    return Split(lots, [])


_RULES: dict[str, Callable[[list[Drawing], int], Split]] = {
    "icon": _split_icons,
    "skin tone": _split_skin_tones,
    "outline": _split_style,
    "flat": _split_style,
    "colour": _train_on_all,
}


def _by_identity(drawings: list[Drawing]) -> list[Drawing]:
    return sorted(drawings, key=lambda drawing: drawing.identity)


def _chance(seed: int, drawing: Drawing, purpose: str = "lots") -> float:
    return random_for(seed, purpose, drawing.identity).random()
