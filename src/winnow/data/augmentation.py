"""What chance does to a picture on its way into training: a random resized crop, and colours.

The defaults are open_clip's: only the crop, of 90 to 100 % of the picture. The crop is chosen as
Szegedy et al. 2015 describe it ("Going deeper with convolutions", section 6).
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from winnow.types import InputError

_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A random view of a picture. Probabilities and strengths of 0 leave a step out."""

    crop_area: tuple[float, float] = (0.9, 1.0)
    """Least and largest part of the picture's area that the crop covers."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width over height of the crop, before it is made square."""
    flip_probability: float = 0.0
    """Of mirroring left and right; wrong where captions say "left" or pictures hold text."""
    jitter_probability: float = 0.0
    """Of changing the colours by the four strengths below."""
    brightness: float = 0.4
    """Multiplied by a factor within 1 ± this."""
    contrast: float = 0.4
    """Multiplied by a factor within 1 ± this."""
    saturation: float = 0.4
    """Multiplied by a factor within 1 ± this."""
    hue: float = 0.1
    """Turned by up to this part of the colour circle, either way; at most 0.5."""
    grayscale_probability: float = 0.0
    """Of taking the colours away."""
    inversion_probability: float = 0.0
    """Of a negative: dark on light becomes light on dark."""
    blur_probability: float = 0.0
    """Of a Gaussian blur."""
    blur_radius: tuple[float, float] = (0.1, 2.0)
    """Least and largest standard deviation of the blur, in pixels of the view."""
    colours_on: Literal["workers", "device"] = "workers"
    """Who does all but the crop: the workers, or the model's device, a batch at a time and with
    other chances, so that workers only decode. On a CPU that takes up to 2.5 times as long."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise InputError(f"Augmentation.{field.name} is {value}: it must be from 0 to 1")
            if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
                raise InputError(f"Augmentation.{field.name} is {value}: 0 < least <= largest")
        if self.crop_area[1] > 1:
            raise InputError(f"Augmentation.crop_area is {self.crop_area}: a crop is at most 1")
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise InputError("Augmentation: strengths are at least 0, and hue at most 0.5")


def choose_crop(
    width: int, height: int, augmentation: Augmentation, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random crop, in pixels of a `width` x `height` picture.

    Where no crop of the area and ratio asked for fits in ten tries, the largest central one.
    """
    areas = random.uniform(*augmentation.crop_area, size=_TRIES) * (width * height)
    least, largest = augmentation.crop_ratio
    ratios = np.exp(random.uniform(np.log(least), np.log(largest), size=_TRIES))
    places = random.random(2)
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    if fits.any():
        first = int(np.argmax(fits))
        crop_width, crop_height = int(widths[first]), int(heights[first])
        left = int(places[0] * (width - crop_width + 1))
        top = int(places[1] * (height - crop_height + 1))
    else:
        crop_width = max(1, min(width, round(height * largest)))
        crop_height = max(1, min(height, round(width / least)))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def apply_color(
    view: Image.Image, augmentation: Augmentation, random: np.random.Generator
) -> Image.Image:
    """Everything but the crop, on an RGB view of the final size, where it is the workers' to do."""
    if augmentation.colours_on == "device":
        return view
    chances = random.random(5)
    if chances[0] < augmentation.jitter_probability:
        view = _jitter(view, augmentation, random)
    if chances[1] < augmentation.grayscale_probability:
        view = view.convert("L").convert("RGB")
    if chances[2] < augmentation.inversion_probability:
        view = ImageOps.invert(view)
    if chances[3] < augmentation.blur_probability:
        radius = float(random.uniform(*augmentation.blur_radius))
        view = view.filter(ImageFilter.GaussianBlur(radius))
    if chances[4] < augmentation.flip_probability:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return view


def _jitter(
    view: Image.Image, augmentation: Augmentation, random: np.random.Generator
) -> Image.Image:
    for strength, enhance in (
        (augmentation.brightness, ImageEnhance.Brightness),
        (augmentation.contrast, ImageEnhance.Contrast),
        (augmentation.saturation, ImageEnhance.Color),
    ):
        factor = float(random.uniform(max(0.0, 1 - strength), 1 + strength))
        if strength > 0:
            view = enhance(view).enhance(factor)
    turn = round(256 * random.uniform(-augmentation.hue, augmentation.hue)) % 256
    if turn == 0:
        return view
    hue, saturation, value = view.convert("HSV").split()
    turned = hue.point([(level + turn) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
