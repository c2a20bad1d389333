"""Perceptual hash: 64 bits, nearly all of which two files share that show the same picture.

The bits are low frequencies of the cosine transform, as in pHash (Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010), with three changes:

- The transform is taken over the content, not over the frame, where the picture stands on a plain
  ground, as drawings and wares do: neither shift nor scale nor a wider margin then changes a bit.
- A bit says that a coefficient is clearly above 0, not above the median. A symmetrical picture has
  as many coefficients near 0 as not, and noise would decide all of their bits.
- Eight bits are for colour: a red heart is no copy of a blue one.

With I the channel Y, Cb or Cr and x, y from 0 to 1 across the box of the content,

    c_uv = mean of I(x, y) n_u n_v cos(pi u y) cos(pi v x),    n_0 = 1, n_k = sqrt(2)

In photographs c_uv falls about as 1 / hypot(u, v). A bit of lightness is c_uv hypot(u, v) > 0.3 of
its mean magnitude over the 56 lowest frequencies, so that contrast does not matter; two bits of
colour say that c_00 or c_01 of Cb or Cr is above, or below, grey.
"""

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from PIL import Image

HASH_VERSION = 1
"""To be raised with any change that gives a picture another hash."""

SIDE = 32
"""Pixels along the longer side that are enough; up to twice as many are used as they come."""

_ORDER = 10  # frequencies along each axis
_LIGHT_BITS = 56
_CLEARLY = 0.3
_COLOUR_LEVELS = 2.0
# What is almost one colour, or a plain shape of which hundreds look alike, has no hash.
_LEAST_MAGNITUDE = 1.0
_LEAST_CLEAR = 16
_LEAST_SIDE = 4  # pixels of SIDE: a line has no two-dimensional content

_GROUND_LEVELS = 24  # summed over the channels: what compression does to a plain ground
_GROUND_SHARE = 0.5  # of the border; a photograph's border has no such colour
_INK_LEVELS = 96  # pixels further from the ground count no more than this
_TAIL = 0.01  # of the ink, left out at either end: no single pixel moves the box
_MARGIN = 0.15  # of the longer side, around the content: its outline is part of the picture

_FREQUENCIES = np.arange(_ORDER, dtype=np.float32)[:, None] * np.float32(np.pi)
_NORMS = np.where(np.arange(_ORDER) == 0, 1, np.sqrt(2)).astype(np.float32)[:, None]
_EDGES = np.arange(2 * SIDE + 2, dtype=np.float32)
_CHANNELS = np.ones(3, dtype=np.float32)
_LOWEST = sorted(
    ((u, v) for u in range(_ORDER) for v in range(_ORDER) if u + v), key=lambda uv: (sum(uv), uv)
)[:_LIGHT_BITS]
_LIGHT = np.array([(u * _ORDER + v) * 3 for u, v in _LOWEST])  # of coefficients_UV3, flat
_LIGHT_WEIGHTS = np.hypot(*np.array(_LOWEST, dtype=np.float32).T)
_COLOUR = np.array([1, 4, 2, 5])  # (0, 0) and (0, 1) of Cb, then of Cr
_GREY = np.array([128, 0, 128, 0], dtype=np.float32)


def perceptual_hash(picture: Image.Image) -> int | None:
    """The hash of an RGB picture, 0 to 2^64 - 1; None where it says too little to have one."""
    factor = max(1, max(picture.size) // SIDE)
    width, height = picture.width / factor, picture.height / factor
    small = picture.reduce(factor) if factor > 1 else picture
    if min(small.size) < _LEAST_SIDE:
        return None
    pixels_HW3 = np.frombuffer(small.convert("YCbCr").tobytes(), np.uint8)
    pixels_HW3 = pixels_HW3.reshape(small.height, small.width, 3)
    ground_3 = _ground(pixels_HW3)
    # Without the ground the box may reach beyond the frame: what is missing there is 0.
    content_HX = pixels_HW3.reshape(small.height, -1) - np.tile(ground_3, small.width)
    box = _content_box(content_HX) or _Box((0.0, width), (0.0, height))
    half_UX = _basis(small.height, height, box.y) @ content_HX
    coefficients_UV3 = _basis(small.width, width, box.x) @ half_UX.reshape(_ORDER, -1, 3)
    coefficients_UV3[0, 0] += ground_3
    return _bits(coefficients_UV3.ravel())


class _Box(NamedTuple):
    """From and to, in pixels from the upper left corner."""

    x: tuple[float, float]
    y: tuple[float, float]


def _ground(pixels_HW3: np.ndarray) -> np.ndarray:
    """The median colour of the border, float32."""
    border_B3 = np.concatenate([pixels_HW3[0], pixels_HW3[-1], pixels_HW3[:, 0], pixels_HW3[:, -1]])
    middle = len(border_B3) // 2
    return np.partition(border_B3, middle, axis=0)[middle].astype(np.float32)


def _content_box(content_HX: np.ndarray) -> _Box | None:
    """The square around what differs from the ground; None where there is no ground, or nothing."""
    ink_HW = (np.abs(content_HX).reshape(-1, 3) @ _CHANNELS).reshape(len(content_HX), -1)
    ink_HW *= ink_HW > _GROUND_LEVELS
    edges = (ink_HW[0], ink_HW[-1], ink_HW[:, 0], ink_HW[:, -1])
    if sum(map(np.count_nonzero, edges)) > (1 - _GROUND_SHARE) * sum(map(len, edges)):
        return None
    np.minimum(ink_HW, _INK_LEVELS, out=ink_HW)
    left, right = _ends(ink_HW.sum(0))
    top, bottom = _ends(ink_HW.sum(1))
    reach = max(right - left, bottom - top) * (1 + _MARGIN) / 2
    if reach == 0:
        return None
    x, y = (left + right) / 2, (top + bottom) / 2
    return _Box((x - reach, x + reach), (y - reach, y + reach))


def _ends(ink: np.ndarray) -> tuple[float, float]:
    """Between which places along an axis the ink lies, but for the tails; fractions of a pixel."""
    sums = np.cumsum(ink, dtype=np.float64).tolist()
    return _quantile(sums, _TAIL * sums[-1]), _quantile(sums, (1 - _TAIL) * sums[-1])


def _quantile(sums: list[float], wanted: float) -> float:
    index = min(bisect_left(sums, wanted), len(sums) - 1)
    before = sums[index - 1] if index else 0.0
    return index + (wanted - before) / ((sums[index] - before) or 1)


def _basis(length: int, extent: float, span: tuple[float, float]) -> np.ndarray:
    """float32 (_ORDER, length): n_k cos(pi k x) at the pixels, for a mean over `span`.

    The last pixel ends at `extent`: it may be made of fewer pixels of the picture than the others.
    """
    edges = np.minimum(_EDGES[: length + 1], extent)
    scale = 1 / (span[1] - span[0])
    waves = np.cos(_FREQUENCIES * ((edges[1:] + edges[:-1]) * (scale / 2) - span[0] * scale))
    return waves * ((edges[1:] - edges[:-1]) * scale) * _NORMS


def _bits(coefficients: np.ndarray) -> int | None:
    light = coefficients[_LIGHT] * _LIGHT_WEIGHTS
    magnitudes = np.abs(light)
    mean = float(magnitudes.mean())
    threshold = _CLEARLY * mean
    if mean < _LEAST_MAGNITUDE or np.count_nonzero(magnitudes > threshold) < _LEAST_CLEAR:
        return None
    colour = coefficients[_COLOUR] - _GREY
    bits = np.concatenate([light > threshold, colour > _COLOUR_LEVELS, colour < -_COLOUR_LEVELS])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
