"""Pictures: from encoded bytes to uint8 arrays, read right or refused with a reason.

Whatever a file holds becomes 8-bit RGB: the first frame of an animation, 16-bit grey at its upper
8 bits, transparency on white, CMYK, grey and palettes converted. The EXIF orientation is ignored,
as open_clip ignores it, so that models from either see the same pixels.

For training a JPEG is decoded at the smallest eighth, quarter or half of its size at which the crop
still has the pixels asked for (libjpeg's scaled inverse transform): views then lie 41 to 54 dB from
those of full decoding on photograph-like pictures, 35 dB at worst on flat drawings with hard edges.
For evaluation it is decoded whole: published numbers were made that way.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from winnow.data.augmentation import Augmentation, apply_color, choose_crop
from winnow.data.perceptual import SIDE, perceptual_hash
from winnow.types import View

MAX_PIXELS = 1 << 26
"""Larger pictures are refused before they are decoded: 64 megapixels are 200 MB of RGB."""

VIEW_VERSION = 2
"""Of evaluation_view's pixels: raised when they change, and stored features are computed again."""

FORMATS = tuple(
    plugin.format
    for plugin in (
        *(JpegImageFile, PngImageFile, WebPImageFile, GifImageFile),
        *(AvifImageFile, BmpImageFile, PpmImageFile, TiffImageFile),
    )
)
"""All that is ever opened; Pillow knows others, some of which start other programs."""

_GREY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
# What Pillow's decoders raise when they are fed hostile bytes.
_DECODER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(OSError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error),
)


class ImageError(Exception):
    """A picture that cannot be read; `code` counts alike ones, `detail` says what was wrong."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class ImageFacts(NamedTuple):
    """What is known of a readable picture."""

    width: int
    """Pixels, as `height`."""
    height: int
    format: str
    """jpeg, png, webp, gif, bmp, tiff, avif, or ppm with its relatives."""
    picture_hash: int | None
    """See `perceptual`; None where the picture is almost one colour."""


def probe(data: bytes) -> ImageFacts:
    """The facts of a picture, all of whose bytes were decoded; a JPEG's as small as the hash needs.

    Raises ImageError where `training_view` or `evaluation_view` would.
    """
    with _opened(data) as image:
        width, height = image.size
        kind = "jpeg" if image.format == "MPO" else str(image.format).lower()
        image.draft("RGB", (SIDE, SIDE))
        picture_hash = perceptual_hash(_as_rgb(image))
    return ImageFacts(width, height, kind, picture_hash)


class DecodedImage(NamedTuple):
    """A whole picture, perhaps reduced, and the size in pixels that it has itself."""

    pixels: np.ndarray
    """uint8 (height, width, 3), RGB."""
    width: int
    height: int


def decode_rgb(data: bytes, *, longest: int) -> DecodedImage:
    """The whole picture, reduced if its longer side is more than `longest` pixels.

    Raises ImageError.
    """
    with _opened(data) as image:
        width, height = image.size
        scale = min(1.0, longest / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image.draft("RGB", size)
        pixels = _as_rgb(image)
        if pixels.size != size:
            pixels = pixels.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        array = np.asarray(pixels)
    return DecodedImage(array, width, height)


def training_view(
    data: bytes, *, size: int, augmentation: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """A random view, uint8 (3, size, size). Raises ImageError."""
    with _opened(data) as image:
        width, height = image.size
        left, top, right, bottom = choose_crop(width, height, augmentation, random)
        # The whole picture's size at which the crop has `size` pixels along either side.
        needed = (width * size / (right - left), height * size / (bottom - top))
        image.draft("RGB", (math.ceil(needed[0]), math.ceil(needed[1])))
        pixels = _as_rgb(image)
        x, y = pixels.width / width, pixels.height / height
        box = (left * x, top * y, right * x, bottom * y)
        view = pixels.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return _channels_first(apply_color(view, augmentation, random))


def evaluation_view(data: bytes, *, view: View) -> np.ndarray:
    """The whole picture or its centre: uint8 (3, size, size). Raises ImageError.

    The pixels are those of open_clip's evaluation transform, but for transparency, 16-bit grey,
    palettes, and pictures so thin that the transform would need more than `MAX_PIXELS`.
    """
    with _opened(data) as image:
        pixels = _RESIZE[view.resize](_as_rgb(image), view)
    return _channels_first(pixels)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, not yet decoded; whatever goes wrong inside the `with` becomes an ImageError."""
    if not data:
        raise ImageError("empty picture", "0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError("picture too big", f"{image.width} x {image.height} pixels")
            yield image
    except Image.UnidentifiedImageError as error:
        start = data[:8].hex(" ")
        raise ImageError("unknown picture format", f"it begins with {start}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("picture too big", str(error)) from error
    except _DECODER_ERRORS as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ImageError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    is_cut = "truncated" in reason.lower()
    return ImageError("truncated picture" if is_cut else "broken picture", reason)


def _as_rgb(image: Image.Image) -> Image.Image:
    """The first frame, decoded whole, as 8-bit RGB."""
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    # Pillow brings every PGM of more than 8 bits to 16, in a mode of 32.
    if image.mode in _GREY_16_BIT or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # Pillow would cut at 255, and the range these values were meant in is written nowhere.
        raise ImageError("unsupported picture", f"32-bit grey (mode {image.mode})")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _fit_shortest(image: Image.Image, view: View) -> Image.Image:
    """The centre of the picture whose shortest side is `size`."""
    size, shortest = view.size, min(image.size)
    # As torchvision counts: the longer side is rounded down, what is cut off to even.
    width, height = (int(size * side / shortest) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if width * height > MAX_PIXELS:
        return _center_of_line(image, view, (width, height), (left, top))
    return _resized(image, (width, height), view).crop((left, top, left + size, top + size))


def _center_of_line(
    image: Image.Image, view: View, resized: tuple[int, int], corner: tuple[int, int]
) -> Image.Image:
    """As `_fit_shortest`, without the picture in between.

    A line of 1 x 10,000 pixels would become one of gigabytes, of which a square is kept. Such a
    line is enlarged, so a square needs little of it; the pixels may differ in the last bit.
    """
    spans = []
    for side, new_side, start in zip(image.size, resized, corner, strict=True):
        first, last = start * side / new_side, (start + view.size) * side / new_side
        # Bicubic interpolation looks two pixels further.
        near = max(0, math.floor(first) - 3), min(side, math.ceil(last) + 3)
        spans.append((*near, first - near[0], min(last, near[1]) - near[0]))
    (left, right, x, x_end), (top, bottom, y, y_end) = spans
    pixels = image.crop((left, top, right, bottom))
    # Rows first, as Pillow does it with the whole.
    rows = _resized(pixels, (view.size, pixels.height), view, box=(x, 0, x_end, pixels.height))
    return _resized(rows, (view.size, view.size), view, box=(0, y, view.size, y_end))


def _fit_longest(image: Image.Image, view: View) -> Image.Image:
    """The whole picture, its longest side `size`, amid the grey of `fill`."""
    scale = max(image.size) / view.size
    # Where open_clip's transform would have no pixel at all, it has one.
    size = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    square = Image.new("RGB", (view.size, view.size), (view.fill,) * 3)
    place = (view.size - size[0]) // 2, (view.size - size[1]) // 2
    square.paste(_resized(image, size, view), place)
    return square


def _squash(image: Image.Image, view: View) -> Image.Image:
    """The whole picture as a square."""
    return _resized(image, (view.size, view.size), view)


_RESIZE = {"shortest": _fit_shortest, "longest": _fit_longest, "squash": _squash}


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    view: View,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    return image.resize(size, Image.Resampling[view.interpolation.upper()], box=box)


def _channels_first(view: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(view).transpose(2, 0, 1))
