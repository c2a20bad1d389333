"""What two Debian packages hold, as samples of evaluation sets.

    dataset-fashion-mnist     usr/share/datasets/fashion-mnist/{train,t10k}-{images,labels}*.gz
    tuxpaint-stamps-default   usr/share/tuxpaint/stamps/**/NAME.png or .svg, and NAME.txt

Fashion-MNIST (Xiao et al. 2017, MIT) is in the IDX format of MNIST: a big-endian header of magic
number and sizes, then bytes. A stamp of Tux Paint (GPL-2) is a cut-out picture with a sentence, the
first line of its text file; the lines after it are translations.
"""

import gzip
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from winnow.types import InputError

FASHION_CLASSES = (
    "t-shirt",
    "pair of trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""In label order."""
FASHION_TEMPLATES = ("a photo of a {c}.", "a small grey photo of a {c}.", "a {c}, front view.")
_FASHION_FILES = {"train": "train", "test": "t10k"}
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049
_SVG_SIDE = 256  # pixels of the longer side, about the median of the stamps that are png
_SVG_DPI = 96


class LabelledPicture(NamedTuple):
    """One picture of Fashion-MNIST."""

    png: bytes
    label: int


class Stamp(NamedTuple):
    """One stamp of Tux Paint that has its sentence to itself."""

    key: str
    """Its path in the package, with "-" for "/"."""
    file: Path
    sentence: str


def fashion_pictures(folder: Path, split: str) -> tuple[int, Iterator[LabelledPicture]]:
    """How many pictures the split has, and each of them. Raises InputError for a damaged file."""
    stem = _FASHION_FILES[split]
    images = folder / f"{stem}-images-idx3-ubyte.gz"
    labels = folder / f"{stem}-labels-idx1-ubyte.gz"
    image_NHW = _read_idx(images, magic=_IMAGES_MAGIC, dimensions=3)
    label_N = _read_idx(labels, magic=_LABELS_MAGIC, dimensions=1)
    if len(image_NHW) != len(label_N):
        raise InputError(f"{images} has {len(image_NHW):,} pictures, {labels} {len(label_N):,}")
    if label_N.size and label_N.max() >= len(FASHION_CLASSES):
        raise InputError(f"{labels} has a label {label_N.max()}, beyond the ten classes")
    pairs = zip(image_NHW, label_N, strict=True)
    return len(label_N), (
        LabelledPicture(_png(Image.fromarray(image_HW)), int(label)) for image_HW, label in pairs
    )


def stamps(folder: Path) -> list[Stamp]:
    """The stamps below `folder` that have a sentence which no stamp before them has, by path.

    Of several with one sentence, such as two frogs, retrieval could not tell which is meant; nor
    of "the letter A" and "the letter a", which are one input to CLIP.
    """
    found: dict[str, Stamp] = {}
    for text in sorted(folder.rglob("*.txt"), key=lambda file: file.with_suffix("")):
        picture = next((p for p in _pictures_of(text) if p.is_file()), None)
        if picture is None:
            continue
        if sentence := _first_line(text):
            key = "-".join(text.relative_to(folder).with_suffix("").parts)
            found.setdefault(sentence.casefold().rstrip(". "), Stamp(key, picture, sentence))
    return list(found.values())


def stamp_png(stamp: Stamp) -> bytes:
    """The stamp on white. Raises InputError where it cannot be drawn."""
    try:
        picture = _draw_svg(stamp.file) if stamp.file.suffix == ".svg" else Image.open(stamp.file)
        drawing = picture.convert("RGBA")
    except (OSError, ValueError) as error:
        raise InputError(f"{stamp.file} is not a whole picture: {error}") from error
    ground = Image.new("RGBA", drawing.size, (255, 255, 255, 255))
    return _png(Image.alpha_composite(ground, drawing).convert("RGB"))


def _read_idx(path: Path, *, magic: int, dimensions: int) -> np.ndarray:
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}; fetch it again") from error
    header = struct.Struct(f">{1 + dimensions}I")
    if len(content) < header.size or header.unpack_from(content)[0] != magic:
        raise InputError(f"{path} is no IDX file with magic number {magic}")
    shape = header.unpack_from(content)[1:]
    values = np.frombuffer(content, np.uint8, offset=header.size)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise InputError(f"{path} holds {values.size:,} bytes, but its header says {shape}")
    return values.reshape(shape)


def _pictures_of(text: Path) -> tuple[Path, Path]:
    """Where a stamp's picture may be, the first one that is there being taken."""
    return text.with_suffix(".png"), text.with_suffix(".svg")


def _first_line(text: Path) -> str:
    with text.open("rb") as lines:
        first = lines.readline()
    try:
        return first.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{text} line 1 is not UTF-8: {error}") from error


def _draw_svg(path: Path) -> Image.Image:
    try:
        import resvg_py
    except ImportError as error:
        raise InputError(
            "165 of Tux Paint's stamps are svg, and resvg-py, which draws them, is not installed: "
            'pip install "winnow-clip[demo]"'
        ) from error
    # System fonts are another machine's: without them the picture is the same everywhere. Sizes in
    # points need the resolution that svg means.
    png = resvg_py.svg_to_bytes(
        svg_path=str(path), width=_SVG_SIDE, dpi=_SVG_DPI, skip_system_fonts=True
    )
    picture = Image.open(io.BytesIO(bytes(png)))
    picture.thumbnail((_SVG_SIDE, _SVG_SIDE))
    return picture


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
