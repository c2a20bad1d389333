"""Decides what the packaged data consists of: which drawings train and which ones test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from winnow.data.packaged import vendors
from winnow.data.packaged.concepts import Concept, concepts
from winnow.data.packaged.randomness import random_for
from winnow.data.packaged.raster import Raster
from winnow.data.packaged.split import split
from winnow.data.packaged.vendors import Drawing

Rasterise = Callable[[Sequence[Drawing]], list[Raster]]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The drawings of the packaged data, drawn."""

    classes: list[Concept]
    """The concepts to tell apart, in the order of their labels."""
    training: list[Drawing]
    tasks: dict[str, list[Drawing]]
    """Test drawings by name of the task."""
    rasters: dict[str, Raster]
    """By identity of the drawing."""


def gather(
    rasterise: Rasterise, *, seed: int, max_concepts: int | None, max_icons: int | None
) -> Contents:
    """The contents for `max_concepts` concepts and `max_icons` icons of none (None: all)."""
    available = vendors.training_drawings()
    classes = _classes(available, rasterise, max_concepts)
    icons = [drawing for drawing in available if drawing.concept is None]
    parts = split([drawing for drawing in available if drawing.concept in classes], seed=seed)
    training = [*parts.training, *_draw_lots(icons, max_icons, seed)]
    rasters = _by_identity([*training, *parts.held_out], rasterise)
    training, trained = _distinct(training, rasters)
    tasks = {
        "fit": [drawing for drawing in training if vendors.is_base(drawing)],
        "held-out-drawings": [
            drawing for drawing in parts.held_out if rasters[drawing.identity].digest not in trained
        ],
        "twemoji": [d for d in vendors.twemoji_drawings() if d.concept in classes],
        "noto-mono": [d for d in vendors.noto_mono_drawings() if d.concept in classes],
    }
    rasters |= _by_identity([*tasks["twemoji"], *tasks["noto-mono"]], rasterise)
    return Contents(classes=list(classes.values()), training=training, tasks=tasks, rasters=rasters)


def _classes(
    available: Sequence[Drawing], rasterise: Rasterise, max_concepts: int | None
) -> dict[str | None, Concept]:
    """The concepts that OpenMoji draws, by code.

    Where it draws two alike to the last pixel ("cook" and "man cook"), nothing could tell them
    apart, and only the first is one.
    """
    bases = [drawing for drawing in available if vendors.is_base(drawing)][:max_concepts]
    distinct, _ = _distinct(bases, _by_identity(bases, rasterise))
    drawn = {drawing.concept for drawing in distinct}
    return {code: concept for code, concept in concepts().items() if code in drawn}


def _draw_lots(icons: list[Drawing], max_icons: int | None, seed: int) -> list[Drawing]:
    lots = sorted(icons, key=lambda icon: random_for(seed, "icons", icon.identity).random())
    return lots[:max_icons]


def _by_identity(drawings: list[Drawing], rasterise: Rasterise) -> dict[str, Raster]:
    rasters = rasterise(drawings)
    return {d.identity: raster for d, raster in zip(drawings, rasters, strict=True)}


def _distinct(
    drawings: Sequence[Drawing], rasters: dict[str, Raster]
) -> tuple[list[Drawing], set[str]]:
    """The first drawing of each look, so that every exact duplicate is a planted one."""
    seen: set[str] = set()
    kept = []
    for drawing in drawings:
        digest = rasters[drawing.identity].digest
        if digest not in seen:
            kept.append(drawing)
        seen.add(digest)
    return kept, seen
