"""Marks: boxes drawn on a picture, and the words of a caption that are pointed at."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from winnow.data.images import ImageError, decode_rgb

OFFENDING, OTHER = "#e5352b", "#2f6fde"
"""Colours of what a rule fired on, and of what else was found."""

_CONTEXT = 40
"""Characters before the first mark that are shown of a long caption."""


class Box(NamedTuple):
    """A quadrilateral in a picture."""

    corners: tuple[int, ...]
    """x and y of four corners in pixels of the picture, clockwise from the top left."""
    is_offending: bool = True
    label: str = ""
    """Short, shown at the first corner."""


class Piece(NamedTuple):
    """A part of a caption."""

    text: str
    is_marked: bool


def draw_boxes(data: bytes, boxes: Iterable[Box], *, longest: int) -> Image.Image:
    """The whole picture, its longer side reduced to `longest` pixels, with boxes around things.

    Raises ImageError.
    """
    decoded = decode_rgb(data, longest=longest)
    picture = Image.fromarray(decoded.pixels)
    scale = np.array([picture.width / decoded.width, picture.height / decoded.height])
    pen = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 250))
    # What a rule fired on is drawn last, over the rest.
    for box in sorted(boxes, key=lambda box: box.is_offending):
        colour = OFFENDING if box.is_offending else OTHER
        corners = [tuple(xy) for xy in (np.reshape(box.corners, (4, 2)) * scale).tolist()]
        pen.line([*corners, corners[0]], fill=colour, width=width, joint="curve")
        if box.label:
            _label(pen, corners[0], box.label, colour, size=max(11, round(max(picture.size) / 45)))
    return picture


def marked_thumbnail(data: bytes, boxes: Iterable[Box], *, longest: int) -> str | None:
    """The whole picture, small, as a data URI (WebP); None where it cannot be read."""
    try:
        picture = draw_boxes(data, boxes, longest=longest)
    except ImageError:
        return None
    file = io.BytesIO()
    picture.save(file, "webp", quality=70)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def pieces(
    caption: str, spans: Sequence[tuple[int, int]], *, longest: int, length: int | None = None
) -> list[Piece]:
    """The caption, cut to `longest` characters around its first mark, in marked and plain parts.

    What is cut behind is counted, of `length` characters where `caption` is cut already.
    """
    first = min((start for start, _ in spans), default=0)
    begin = 0 if len(caption) <= longest else max(0, min(first - _CONTEXT, len(caption) - longest))
    end = min(len(caption), begin + longest)
    parts = [Piece("…", False)] if begin else []
    at = begin
    for start, stop in sorted(spans):
        start, stop = max(start, at), min(stop, end)
        if start < stop:
            parts += [Piece(caption[at:start], False), Piece(caption[start:stop], True)]
            at = stop
    left = max(length or 0, len(caption)) - end
    parts += [Piece(caption[at:end], False)]
    parts += [Piece(f"… (+{left:,} character{'s' if left > 1 else ''})" if left else "", False)]
    return [part for part in parts if part.text]


def _label(
    pen: ImageDraw.ImageDraw, corner: tuple[float, ...], label: str, colour: str, *, size: int
) -> None:
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    x, y = corner[0], max(0.0, corner[1] - (bottom - top) - 6)
    pen.rectangle((x, y, x + right - left + 6, y + bottom - top + 6), fill=colour)
    pen.text((x + 3 - left, y + 3 - top), label, fill="white", font=font)
