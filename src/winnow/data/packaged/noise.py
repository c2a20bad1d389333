"""The noise planted among the training pairs, and the plan of every sample that results.

Which sample is noise, and of what kind, is known to the plan alone (and to the truth file written
from it): nothing in a shard says so. Each sample has at most one kind. Rates are shares of all
samples, copies included.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from winnow.data.packaged.captions import caption
from winnow.data.packaged.randomness import random_for
from winnow.data.packaged.raster import Encoding
from winnow.data.packaged.vendors import Drawing
from winnow.types import InputError


class Noise(StrEnum):
    """The kinds of planted noise."""

    SWAPPED = "swapped"  # the caption of a picture of another concept
    BOILERPLATE = "boilerplate"  # a phrase that says nothing and stands on many pictures
    FILENAME = "filename"  # a camera's or a download's file name
    BURNT_IN = "burnt-in"  # the caption can be read in the picture
    EXACT_DUPLICATE = "exact-duplicate"  # the same bytes and caption a second time
    NEAR_DUPLICATE = "near-duplicate"  # encoded anew, shifted; another caption of the drawing


@dataclass(frozen=True, kw_only=True)
class NoiseRates:
    """The share of all training samples that each kind of noise takes, 0..1."""

    swapped: float = 0.20
    """Captions exchanged between pictures of different concepts."""
    boilerplate: float = 0.05
    """Captions such as "No description available"."""
    filename: float = 0.02
    """Captions such as "IMG_2041.png"."""
    burnt_in: float = 0.05
    """Pictures with their caption written on them."""
    exact_duplicate: float = 0.03
    """Samples that repeat another one's bytes and caption."""
    near_duplicate: float = 0.03
    """Samples that show another one's drawing, changed a little, with another caption."""

    def __post_init__(self) -> None:
        rates = vars(self)
        if min(rates.values()) < 0 or sum(rates.values()) > 1:
            raise InputError(f"noise rates are shares that sum to at most 1, but got {rates}")


NO_NOISE = NoiseRates(
    swapped=0.0,
    boilerplate=0.0,
    filename=0.0,
    burnt_in=0.0,
    exact_duplicate=0.0,
    near_duplicate=0.0,
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training sample before it is encoded."""

    drawing: Drawing
    caption: str
    original_caption: str
    """The caption before noise was planted."""
    encoding: Encoding
    planted: Noise | None
    position: float
    """Where it stands among all samples, 0..1; a copy stands after its original."""


_BOILERPLATE = (
    "No description available",
    "Click to enlarge",
    "Free download high quality transparent PNG",
    "Stock image",
    "Image may be subject to copyright",
    "Share this post with your friends",
    "Home page",
    "thumbnail",
)


def plan_samples(drawings: Sequence[Drawing], *, rates: NoiseRates, seed: int) -> list[Sample]:
    """One sample per drawing plus the copies, noise planted, in the order of the shards."""
    samples = [_clean_sample(drawing, seed) for drawing in drawings]
    counts = _noise_counts(len(samples), rates)
    order = list(random_for(seed, "noise").permutation(len(samples)))
    chosen = {noise: [order.pop() for _ in range(count)] for noise, count in counts.items()}
    copies = [
        _copy(samples[index], noise, seed)
        for noise in (Noise.EXACT_DUPLICATE, Noise.NEAR_DUPLICATE)
        for index in chosen[noise]
    ]
    _swap_captions(samples, chosen[Noise.SWAPPED])
    for noise in (Noise.BOILERPLATE, Noise.FILENAME, Noise.BURNT_IN):
        for index in chosen[noise]:
            samples[index] = _spoil(samples[index], noise, seed)
    return sorted([*samples, *copies], key=lambda sample: sample.position)


def _noise_counts(originals: int, rates: NoiseRates) -> dict[Noise, int]:
    total = originals / (1 - rates.exact_duplicate - rates.near_duplicate)
    return {noise: round(getattr(rates, noise.name.lower()) * total) for noise in Noise}


def _clean_sample(drawing: Drawing, seed: int) -> Sample:
    random = random_for(seed, "sample", drawing.identity)
    words = caption(drawing, seed=seed)
    return Sample(
        drawing=drawing,
        caption=words,
        original_caption=words,
        encoding=_encoding(random),
        planted=None,
        position=random.random(),
    )


def _encoding(random: np.random.Generator) -> Encoding:
    kind = random.choice(("jpeg", "png", "webp"), p=(0.6, 0.3, 0.1))
    return Encoding(format=str(kind), quality=int(random.integers(75, 96)))


def _copy(original: Sample, noise: Noise, seed: int) -> Sample:
    random = random_for(seed, noise, original.drawing.identity)
    position = original.position + (1 - original.position) * random.random()
    copy = replace(original, planted=noise, position=position)
    if noise is Noise.EXACT_DUPLICATE:
        return copy
    words = caption(original.drawing, seed=seed, variant=1)
    shift = (int(random.integers(-3, 4)), int(random.integers(-3, 4)))
    encoding = replace(_encoding(random), scale=random.uniform(0.75, 0.95), shift=shift)
    return replace(copy, caption=words, original_caption=words, encoding=encoding)


def _swap_captions(samples: list[Sample], indices: list[int]) -> None:
    """Rotate the captions of `indices` so that none stays within its concept.

    With the samples grouped by concept, a rotation by the size of the largest group takes every
    caption into another group as long as that group is at most half of all.
    """
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(_subject(samples[index]), []).append(index)
    grouped = [index for group in groups.values() for index in group]
    step = max(Counter(_subject(samples[index]) for index in indices).values(), default=0)
    captions = [samples[index].caption for index in grouped[step:] + grouped[:step]]
    for index, words in zip(grouped, captions, strict=True):
        samples[index] = replace(samples[index], caption=words, planted=Noise.SWAPPED)


def _subject(sample: Sample) -> str:
    return sample.drawing.concept or sample.drawing.name


def _spoil(sample: Sample, noise: Noise, seed: int) -> Sample:
    random = random_for(seed, noise, sample.drawing.identity)
    if noise is Noise.BOILERPLATE:
        return replace(
            sample, caption=_BOILERPLATE[random.integers(len(_BOILERPLATE))], planted=noise
        )
    if noise is Noise.FILENAME:
        return replace(sample, caption=_file_name(random), planted=noise)
    encoding = replace(sample.encoding, text=sample.caption)
    return replace(sample, encoding=encoding, planted=noise)


def _file_name(random: np.random.Generator) -> str:
    number = int(random.integers(1, 10_000))
    names = (
        f"IMG_{number:04d}.png",
        f"DSC{number:05d}.JPG",
        f"image ({number % 90}).jpg",
        f"screenshot_{2010 + number % 14}-{1 + number % 12:02d}-{1 + number % 28:02d}.png",
        f"{random.bytes(8).hex()}.jpg",
        f"untitled-{number % 500}.webp",
    )
    return names[random.integers(len(names))]
