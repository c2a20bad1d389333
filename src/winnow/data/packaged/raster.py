"""From a drawing to pixels, and from pixels to the encoded picture of one sample."""

import hashlib
import io
import math
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont

from winnow.data.packaged.vendors import Drawing

_WHITE = (255, 255, 255)
_MARGIN = 0.05  # white around a drawing's ink, as a share of the ink's longer side
_LEAST_SIDE = 48  # pixels: a tiny mark is not blown up into a large one


class Raster(NamedTuple):
    """A drawing as a lossless square picture."""

    png: bytes
    digest: str
    """sha256 of its pixels: equal for drawings that look the same to the last bit."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How one sample's picture is made from its drawing."""

    format: str
    """"jpeg", "png" or "webp"."""
    quality: int
    """Of jpeg and webp, 1..95; png is lossless."""
    text: str = ""
    """Words drawn over the picture."""
    scale: float = 1.0
    """Factor to resize it by."""
    shift: tuple[int, int] = (0, 0)
    """Pixels to move it right and down, white coming in."""


def rasterise(drawing: Drawing, *, side: int) -> Raster:
    """The drawing on white, cut to its ink and centred in a square with a small margin.

    It is drawn at `side` pixels first; the square is smaller by the white that was around it.
    """
    if drawing.character:
        picture = _draw_glyph(drawing, side)
    elif drawing.path.suffix == ".svg":
        picture = _draw_svg(drawing, side)
    else:
        picture = _on_white(Image.open(drawing.path))
    picture = _cut_to_ink(picture)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Raster(buffer.getvalue(), hashlib.sha256(picture.tobytes()).hexdigest())


def encode(job: tuple[bytes, Encoding]) -> tuple[bytes, int]:
    """The picture that the encoding makes of a raster's png, and its side in pixels."""
    png, encoding = job
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if encoding.shift != (0, 0):
        moved = Image.new("RGB", picture.size, _WHITE)
        moved.paste(picture, encoding.shift)
        picture = moved
    if encoding.scale != 1:
        side = round(picture.width * encoding.scale)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    if encoding.text:
        _write_over(picture, encoding.text)
    buffer = io.BytesIO()
    options = {} if encoding.format == "png" else {"quality": encoding.quality}
    picture.save(buffer, encoding.format.upper(), **options)
    return buffer.getvalue(), picture.width


def _draw_svg(drawing: Drawing, side: int) -> Image.Image:
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=drawing.path.read_text(encoding="utf-8"),
        style_sheet=drawing.style_sheet or None,
        width=side,
        height=side,
        background="#fff",
        skip_system_fonts=True,
    )
    return _on_white(Image.open(io.BytesIO(bytes(png))))


def _draw_glyph(drawing: Drawing, side: int) -> Image.Image:
    """The glyph in black; basic layout is the same on every machine."""
    font = ImageFont.truetype(str(drawing.path), side, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(drawing.character)
    size = (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top)))
    picture = Image.new("RGB", size, _WHITE)
    ImageDraw.Draw(picture).text((-left, -top), drawing.character, fill="black", font=font)
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    drawing = picture.convert("RGBA")
    ground = Image.new("RGBA", drawing.size, (*_WHITE, 255))
    return Image.alpha_composite(ground, drawing).convert("RGB")


def _cut_to_ink(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGB", picture.size, _WHITE)
    ink = picture.crop(ImageChops.difference(picture, ground).getbbox() or (0, 0, 1, 1))
    side = max(_LEAST_SIDE, round(max(ink.size) * (1 + 2 * _MARGIN)))
    square = Image.new("RGB", (side, side), _WHITE)
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


def _write_over(picture: Image.Image, text: str) -> None:
    """Write `text` along the bottom, on a white band, in lines as wide as the picture."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(9, picture.width // 9))
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= picture.width - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    block = "\n".join(lines[:3])
    box = draw.multiline_textbbox((picture.width / 2, picture.height - 2), block, font, "md")
    draw.rectangle((0, box[1] - 1, picture.width, picture.height), fill="white")
    draw.multiline_text(
        (picture.width / 2, picture.height - 2), block, "black", font, "md", align="center"
    )
