import io
import random
import struct
import zlib

import numpy as np
import pytest
from data_makers import encode, picture, pixels
from PIL import Image, ImageDraw

from winnow.data.augmentation import Augmentation
from winnow.data.images import (
    FORMATS,
    MAX_PIXELS,
    ImageError,
    View,
    evaluation_view,
    probe,
    training_view,
)
from winnow.data.tar import PICTURE_EXTENSIONS

WHOLE = Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0))
GREY = Image.fromarray(np.full((40, 60), 128, np.uint8))


def view(data: bytes, size: int = 16, augmentation: Augmentation = WHOLE, seed: int = 0):
    random = np.random.default_rng(seed)
    return training_view(data, size=size, augmentation=augmentation, random=random)


def code(data: bytes) -> str:
    """The error code, which every way of reading the picture must agree on."""
    codes = set()
    for read in (probe, view, lambda data: evaluation_view(data, view=View(16))):
        with pytest.raises(ImageError) as error:
            read(data)
        codes.add(error.value.code)
        assert str(error.value).startswith(f"{error.value.code}: ")
    (code,) = codes
    return code


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


@pytest.mark.parametrize(
    "kind", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF"]
)
def test_every_format_is_probed_and_viewed(kind):
    data = picture(3, 90, 60, kind)
    name = "jpeg" if kind == "MPO" else kind.lower()
    assert probe(data)[:3] == (90, 60, name)
    for seen in (view(data, 32), evaluation_view(data, view=View(32))):
        assert seen.shape == (3, 32, 32) and seen.dtype == np.uint8
        assert seen.flags["C_CONTIGUOUS"]
        assert seen.std() > 10


def test_what_is_decoded_has_a_name_in_a_tar():
    assert {name.lower() for name in FORMATS} <= {*PICTURE_EXTENSIONS}


@pytest.mark.parametrize("kind", ["TGA", "ICO", "EPS", "PDF"])
def test_formats_outside_the_list_are_never_opened(kind):
    assert code(encode(pixels(0, 32, 32), kind)) == "unknown picture format"


def test_nothing_and_garbage_are_errors():
    assert code(b"") == "empty picture"
    assert code(b"<html>404</html>") == "unknown picture format"
    assert code(random.Random(0).randbytes(5000)) == "unknown picture format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_picture_is_an_error_and_never_half_a_picture(kind, share):
    data = picture(1, 128, 96, kind)
    assert code(data[: int(len(data) * share)]) in (
        "truncated picture",
        "broken picture",
        "unknown picture format",
    )


def test_a_progressive_jpeg_is_read_and_its_cut_found():
    data = encode(pixels(1, 128, 96), progressive=True)
    assert probe(data).format == "jpeg"
    assert code(data[: len(data) // 2]) == "truncated picture"


@pytest.mark.parametrize("side", [9_000, 20_000, 65_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    assert side * side > MAX_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    assert code(data) == "picture too big"


def test_transparency_is_laid_on_white():
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:, :10] = (255, 0, 0, 255)
    rgba[:, 10:] = (0, 0, 0, 0)
    palette = Image.fromarray(rgba).quantize(4)
    clear_black = Image.fromarray(rgba[..., :3])
    for data in (
        encode(rgba, "PNG"),
        encode(rgba, "WEBP", lossless=True),
        encode(palette, "PNG"),
        encode(clear_black, "PNG", transparency=(0, 0, 0)),
    ):
        seen = evaluation_view(data, view=View(20))
        assert seen[:, 10, 2].tolist() == [255, 0, 0]
        assert seen[:, 10, 17].tolist() == [255, 255, 255]
    grey = np.stack([np.full((8, 8), 200), np.full((8, 8), 0)], axis=-1).astype(np.uint8)
    assert evaluation_view(encode(Image.fromarray(grey, "LA"), "PNG"), view=View(8)).min() == 255


def test_half_transparency_is_the_mean_with_white():
    rgba = np.full((8, 8, 4), (0, 100, 200, 128), np.uint8)
    seen = evaluation_view(encode(rgba, "PNG"), view=View(8))[:, 4, 4].astype(int)
    assert np.abs(seen - (127, 177, 227)).max() <= 1


def test_grey_palette_bilevel_and_cmyk_become_rgb():
    rgb = pixels(2, 64, 48)
    image = Image.fromarray(rgb)
    expected = evaluation_view(encode(rgb, "PNG"), view=View(32))
    assert psnr(evaluation_view(encode(image.quantize(256), "PNG"), view=View(32)), expected) > 28
    cmyk = image.convert("CMYK")
    assert psnr(evaluation_view(encode(cmyk, "TIFF"), view=View(32)), expected) > 40
    assert psnr(evaluation_view(encode(cmyk, "JPEG", quality=95), view=View(32)), expected) > 30
    assert psnr(view(encode(cmyk, "JPEG", quality=95), 16), view(encode(rgb, "PNG"), 16)) > 30
    for data in (encode(GREY, "PNG"), encode(GREY, "JPEG")):
        assert set(np.unique(evaluation_view(data, view=View(8)))) == {128}
    assert evaluation_view(encode(image.convert("1"), "PNG"), view=View(8)).shape == (3, 8, 8)


def test_sixteen_bit_pictures_keep_their_upper_eight_bits():
    levels = np.full((8, 8), 0x80FF, np.uint16)
    pgm = b"P5\n8 8\n65535\n" + levels.astype(">u2").tobytes()
    for data in (*(encode(Image.fromarray(levels), kind) for kind in ("PNG", "TIFF")), pgm):
        assert set(np.unique(evaluation_view(data, view=View(8)))) == {0x80}


@pytest.mark.parametrize(
    "data",
    [b"P3 2 1 255 255 0 0 0 0 255", b"P6\n2 1\n255\n\xff\0\0\0\0\xff"],
    ids=["text", "bytes"],
)
def test_ppm_is_read_from_text_and_from_bytes(data):
    assert probe(data)[:3] == (2, 1, "ppm")
    seen = evaluation_view(data, view=View(2, "squash"))
    assert seen[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 255]]
    assert code(data[:-3]) in ("truncated picture", "broken picture")


@pytest.mark.parametrize("kind", ["P3", "P6"])
def test_a_ppm_that_claims_too_much_is_refused(kind):
    assert code(f"{kind}\n9000 9000\n255\n1 2 3".encode()) == "picture too big"
    assert code(f"{kind}\n900 900\n255\n1 2 3".encode()) in ("truncated picture", "broken picture")


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_levels_of_unknown_range_are_refused(kind):
    levels = np.full((8, 8), 70_000, kind)
    assert code(encode(Image.fromarray(levels), "TIFF")) == "unsupported picture"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=10)
    assert (
        psnr(
            evaluation_view(data, view=View(8)),
            evaluation_view(encode(frames[0], "PNG"), view=View(8)),
        )
        > 30
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_tiny_and_thin_pictures_are_read(size):
    data = picture(0, *size, kind="PNG")
    assert probe(data)[:2] == size
    assert evaluation_view(data, view=View(24)).shape == (3, 24, 24)
    assert view(data, 24, Augmentation()).shape == (3, 24, 24)


def test_orientation_is_ignored_as_open_clip_ignores_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = encode(pixels(0, 64, 32)), encode(pixels(0, 64, 32), exif=exif)
    assert probe(turned)[:2] == (64, 32)
    assert np.array_equal(
        evaluation_view(plain, view=View(16)), evaluation_view(turned, view=View(16))
    )


@pytest.mark.parametrize("size", [64, 100, 224])
def test_draft_decoding_stays_above_40_db_of_full_decoding_hard_edges_included(size):
    for seed in range(3):
        image = Image.fromarray(pixels(seed, 1024, 768))
        chance = np.random.default_rng(seed)
        for _ in range(60):
            ends = chance.integers(0, 1024, 4).tolist()
            color = tuple(chance.integers(0, 256, 3).tolist())
            ImageDraw.Draw(image).line(ends, fill=color, width=int(chance.integers(1, 5)))
        data = encode(image, quality=90)
        whole = encode(Image.open(io.BytesIO(data)), "PNG")  # has no draft mode: decoded in full
        options = {"size": size, "augmentation": Augmentation(), "seed": seed}
        assert not np.array_equal(view(data, **options), view(whole, **options))
        assert psnr(view(data, **options), view(whole, **options)) > 40


def test_draft_decoding_never_goes_below_the_size_of_the_view(monkeypatch):
    decoded = []
    data = picture(0, 1000, 700)
    resize = Image.Image.resize

    def record(self, size, *args, box, **options):
        decoded.append((box[2] - box[0], box[3] - box[1]))
        return resize(self, size, *args, box=box, **options)

    monkeypatch.setattr(Image.Image, "resize", record)
    for seed in range(50):
        view(data, 64, Augmentation(crop_area=(0.05, 1.0)), seed)
    assert min(min(box) for box in decoded) >= 64
    assert max(max(box) for box in decoded) < 4 * 64  # and did go down: 1000 x 700 is 11 times it


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_mutilated_pictures_are_read_or_refused_and_views_agree_with_the_probe():
    chance = random.Random(0)
    outcomes = set()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF"):
        whole = picture(0, 40, 30, kind)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(chance.choice([1, 4, 16])):
                data[int(chance.random() ** 3 * len(data))] = chance.randrange(256)
            try:
                probe(bytes(data))
            except ImageError:
                outcomes.add("refused")
                continue
            outcomes.add("read")
            assert view(bytes(data)).shape == evaluation_view(bytes(data), view=View(16)).shape
    assert outcomes == {"read", "refused"}
