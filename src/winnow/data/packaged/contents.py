"""Decides what the packaged data consists of: which drawings train and which ones test.

Most tasks tell concepts apart, of which a vendor draws one picture each. Two tell kinds of concepts
apart ("face", "heart"), with many pictures of each and a split to fit probes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from winnow.data.packaged import vendors
from winnow.data.packaged.concepts import KINDS, Concept, concepts, kind_of
from winnow.data.packaged.randomness import random_for
from winnow.data.packaged.raster import Raster
from winnow.data.packaged.split import split
from winnow.data.packaged.vendors import Drawing

Rasterise = Callable[[Sequence[Drawing]], list[Raster]]


@dataclass(frozen=True, kw_only=True)
class TaskContents:
    """One evaluation set."""

    splits: dict[str, list[Drawing]]
    classnames: list[str]
    """In the order of their labels."""
    label_of: dict[str, int]
    """The label of a concept, by its code."""
    with_captions: bool
    """Whether pictures have captions, and so can be retrieved by them."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The drawings of the packaged data, drawn."""

    classes: list[Concept]
    """The concepts to tell apart, in the order of their labels."""
    training: list[Drawing]
    tasks: dict[str, TaskContents]
    """By name."""
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
    tested = {
        "fit": [drawing for drawing in training if vendors.is_base(drawing)],
        "held-out-drawings": [
            drawing for drawing in parts.held_out if rasters[drawing.identity].digest not in trained
        ],
        "twemoji": [d for d in vendors.twemoji_drawings() if d.concept in classes],
        "noto-mono": [d for d in vendors.noto_mono_drawings() if d.concept in classes],
    }
    rasters |= _by_identity([*tested["twemoji"], *tested["noto-mono"]], rasterise)
    named = list(classes.values())
    tasks = {name: _concept_task(drawings, named) for name, drawings in tested.items()}
    for name in ("twemoji", "noto-mono"):
        of_kinds = _kind_task(tested[name], seed)
        # Of a handful of concepts a lot may leave a split without any.
        if all(of_kinds.splits.values()):
            tasks[f"{name}-kinds"] = of_kinds
    return Contents(classes=named, training=training, tasks=tasks, rasters=rasters)


def _concept_task(drawings: list[Drawing], classes: Sequence[Concept]) -> TaskContents:
    return TaskContents(
        splits={"test": drawings},
        classnames=[concept.name for concept in classes],
        label_of={concept.code: label for label, concept in enumerate(classes)},
        with_captions=True,
    )


def _kind_task(drawings: Sequence[Drawing], seed: int) -> TaskContents:
    """Half of the drawings to fit probes on, half to test them: by lot, whatever the kind."""
    label_of = {
        concept.code: KINDS.index(kind)
        for concept in concepts().values()
        if (kind := kind_of(concept)) is not None
    }
    lots = {"train": list[Drawing](), "test": list[Drawing]()}
    for drawing in drawings:
        if drawing.concept in label_of:
            # By concept, so that what a probe was fitted on is in no vendor's test.
            to_train = random_for(seed, "kinds", drawing.concept).random() < 0.5
            lots["train" if to_train else "test"].append(drawing)
    return TaskContents(splits=lots, classnames=list(KINDS), label_of=label_of, with_captions=False)


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
