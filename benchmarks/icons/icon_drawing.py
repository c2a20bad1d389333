"""From drawings to small PNGs, kept in the cache so that nothing is drawn twice.

A picture is `side` pixels square, on white, in 16 greys, or 16 colours where it has colour, and is
stored without compression: half a byte a pixel. So the same pixels are the same bytes whatever
compressor is installed, and a whole folder packs better than compressed pictures would.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from winnow.data.packaged.workers import map_in_processes
from winnow.types import InputError

LEVELS = 16
_COLOURED = 12  # of 255: the largest difference between channels that still is grey
_DRAWN_AT_ONCE = 6_000
_MOST_BYTES = 400_000  # of an svg: a few of the clip art's are megabytes
_OVERSIZE = 4  # what comes in its own size is drawn at so many times the side
_DPI = 96  # what svg means by a point; without it a size in points is none
_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("png", pa.binary()),  # null where it cannot be drawn, or is blank
        pa.field("digest", pa.string()),
    ]
)


class Drawn(NamedTuple):
    """A picture as it stands in a shard."""

    png: bytes
    digest: str
    """sha256 of its side and pixels in RGB."""


class Job(NamedTuple):
    """What to draw: an SVG's text, or a file of any kind."""

    identity: str
    svg: str = ""
    path: str = ""


def svg_of(content: dict[str, Any], name: str) -> str:
    """The icon as an SVG of a square: what is shorter is padded on both sides, lines are black."""
    icon = content["icons"][name]
    left, top, width, height = (
        icon.get(field, content.get(field, default))
        for field, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{side:g}" height="{side:g}" color="#000">{icon["body"]}</svg>'
    )


def draw_all(
    jobs: Sequence[Job], *, side: int, cache: Path, what: str, processes: int | None = None
) -> dict[str, Drawn]:
    """The pictures by identity, without those that cannot be drawn or are blank.

    What `cache` has of an earlier call is taken from there; what is new is added to it some
    thousands at a time, so that a build that was stopped goes on.
    """
    kept = _read(cache, {job.identity for job in jobs})
    missing = [job for job in jobs if job.identity not in kept]
    for first in range(0, len(missing), _DRAWN_AT_ONCE):
        part = missing[first : first + _DRAWN_AT_ONCE]
        name = f"{what} {first + 1:,} to {first + len(part):,} of {len(missing):,}"
        drawn = map_in_processes(partial(draw, side=side), part, what=name, processes=processes)
        found = {job.identity: one for job, one in zip(part, drawn, strict=True)}
        _add(cache, found)
        kept |= found
    return {identity: one for identity, one in kept.items() if one is not None}


def draw(job: Job, *, side: int) -> Drawn | None:
    """The picture, or None where it cannot be drawn or has no ink."""
    try:
        picture = _drawn_svg(job.svg, side) if job.svg else _fitted(_opened(job.path, side), side)
    except (OSError, ValueError):
        return None
    if picture is None or all(low == high for low, high in picture.getextrema()):
        return None
    return encoded(picture)


def encoded(picture: Image.Image) -> Drawn:
    """An RGB picture in 16 greys or colours, as a PNG of 4 bits a pixel."""
    image_HWC = np.asarray(picture).astype(np.int16)
    if np.ptp(image_HWC, axis=2).max() > _COLOURED:
        reduced = picture.quantize(LEVELS, dither=Image.Dither.NONE)
    else:
        level_HW = np.rint(image_HWC.mean(axis=2) / 255 * (LEVELS - 1)).astype(np.uint8)
        reduced = Image.fromarray(level_HW).convert("P")
        reduced.putpalette([level * 17 for level in range(LEVELS) for _ in range(3)])
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", bits=4, compress_level=0)
    pixels = reduced.convert("RGB").tobytes()
    digest = hashlib.sha256(f"{picture.width}".encode() + pixels).hexdigest()
    return Drawn(buffer.getvalue(), digest)


def with_text(svg: str, text: str, *, side: int) -> Drawn | None:
    """The icon in the upper part of a picture, its caption written below in up to three lines."""
    small = _drawn_svg(svg, side * 5 // 8)
    if small is None:
        return None
    picture = Image.new("RGB", (side, side), "white")
    picture.paste(small, ((side - small.width) // 2, 0))
    draw_on = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(8, side // 9))
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw_on.textlength(longer, font=font) <= side - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    block = "\n".join(lines[:3])
    draw_on.multiline_text(
        (side / 2, side - 1), block, "black", font, "md", spacing=1, align="center"
    )
    return encoded(picture)


def _drawn_svg(svg: str, side: int) -> Image.Image | None:
    png = _resvg()(
        svg_string=svg, width=side, height=side, background="#fff", skip_system_fonts=True
    )
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return picture if picture.size == (side, side) else None


def _opened(path: str, side: int) -> Image.Image | None:
    """A file's picture on white, in a size of its own."""
    if Path(path).stat().st_size > _MOST_BYTES:
        return None
    if path.endswith(".svg"):
        png = _resvg()(
            svg_path=path,
            width=side * _OVERSIZE,
            dpi=_DPI,
            background="#fff",
            skip_system_fonts=True,
        )
        return Image.open(io.BytesIO(bytes(png))).convert("RGB")
    drawing = Image.open(path).convert("RGBA")
    ground = Image.new("RGBA", drawing.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, drawing).convert("RGB")


def _fitted(picture: Image.Image | None, side: int) -> Image.Image | None:
    """The picture made as large as fits a white square, in its middle."""
    if picture is None:
        return None
    scale = side / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    small = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def _resvg() -> Callable[..., Iterable[int]]:
    try:
        import resvg_py
    except ImportError as error:
        raise InputError(
            'resvg-py, which draws the icons, is not installed: pip install "winnow-clip[demo]"'
        ) from error
    return resvg_py.svg_to_bytes


def _read(cache: Path, wanted: set[str]) -> dict[str, Drawn | None]:
    found: dict[str, Drawn | None] = {}
    for part in sorted(cache.glob("*.parquet")):
        table = pq.read_table(part)
        columns = (table[name].to_pylist() for name in _SCHEMA.names)
        for identity, png, digest in zip(*columns, strict=True):
            if identity in wanted:
                found[identity] = Drawn(png, digest) if png is not None else None
    return found


def _add(cache: Path, found: dict[str, Drawn | None]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    rows = [
        {"identity": identity, "png": one and one.png, "digest": one and one.digest}
        for identity, one in found.items()
    ]
    name = hashlib.sha256("\0".join(found).encode()).hexdigest()[:16]
    partial_file = cache / f"{name}.partial"
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), partial_file)
    partial_file.replace(cache / f"{name}.parquet")
