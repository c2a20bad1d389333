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
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from winnow.data.augmentation import Augmentation, apply_color, choose_crop
from winnow.data.perceptual import SIDE, perceptual_hash

MAX_PIXELS = 1 << 26
"""Larger pictures are refused before they are decoded: 64 megapixels are 200 MB of RGB."""

VIEW_VERSION = 1
"""Of evaluation_view's pixels: raised when they change, and stored features are computed again."""

FORMATS = tuple(
    plugin.format
    for plugin in (
        *(JpegImageFile, PngImageFile, WebPImageFile, GifImageFile),
        *(AvifImageFile, BmpImageFile, TiffImageFile),
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
    """jpeg, png, webp, gif, bmp, tiff or avif."""
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


def evaluation_view(data: bytes, *, size: int) -> np.ndarray:
    """The centre of the picture with its shortest side resized to `size`: uint8 (3, size, size).

    Bicubic and antialiased; within two grey levels of torchvision's Resize and CenterCrop. Raises
    ImageError.
    """
    with _opened(data) as image:
        pixels = _as_rgb(image)
        box = _center_box(pixels.width, pixels.height, size)
        view = pixels.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return _channels_first(view)


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
    if image.mode in _GREY_16_BIT:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # Pillow would cut at 255, and the range these values were meant in is written nowhere.
        raise ImageError("unsupported picture", f"32-bit grey (mode {image.mode})")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _center_box(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """The part of the picture that is in view once its shortest side is `size` pixels."""
    shortest = min(width, height)
    resized = int(size * width / shortest), int(size * height / shortest)
    x, y = width / resized[0], height / resized[1]
    left, top = round((resized[0] - size) / 2) * x, round((resized[1] - size) / 2) * y
    return left, top, min(left + size * x, width), min(top + size * y, height)


def _channels_first(view: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(view).transpose(2, 0, 1))
