import io

import numpy as np
import pytest
from data_makers import encode, pixels
from PIL import Image, ImageDraw, ImageFilter

from winnow.data.images import probe
from winnow.data.perceptual import SIDE, perceptual_hash


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Structure of falling amplitude at all scales, in colour, as photographs have."""
    random = np.random.default_rng(seed)
    whole = np.full((height, width, 3), 128.0)
    for cells, amplitude in ((3, 50), (6, 30), (12, 18), (24, 10), (48, 6)):
        grid = random.normal(0, amplitude, (cells, cells, 3))
        grid[..., 1:] = 0.4 * grid[..., 1:] + 0.6 * grid[..., :1]
        layers = [Image.fromarray(grid[..., c].astype(np.float32), "F") for c in range(3)]
        sizes = (width, height)
        whole += np.stack(
            [np.asarray(x.resize(sizes, Image.Resampling.BICUBIC)) for x in layers], 2
        )
    return Image.fromarray(np.clip(whole, 0, 255).astype(np.uint8))


def drawing(color: str = "red", *, left: int = 20, side: int = 120, ground="white") -> Image.Image:
    """A house with a chimney and a door, on plain ground."""
    picture = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, 60, left + 60, 100), fill=color, outline="black")
    draw.polygon([(left - 5, 60), (left + 30, 25), (left + 65, 60)], fill="brown", outline="black")
    draw.rectangle((left + 8, 75, left + 24, 100), fill="black")
    draw.rectangle((left + 44, 28, left + 54, 48), fill="grey", outline="black")
    return picture


def hash_of(picture: Image.Image | bytes) -> int | None:
    return probe(picture if isinstance(picture, bytes) else encode(picture, "PNG")).picture_hash


def apart(one: Image.Image | bytes, other: Image.Image | bytes) -> int:
    first, second = hash_of(one), hash_of(other)
    assert first is not None and second is not None
    return (first ^ second).bit_count()


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("seed", range(5))
def test_encoding_and_scale_change_few_bits_of_a_photograph(seed):
    whole = photo(seed)
    for other in (
        encode(whole, "JPEG", quality=40),
        encode(whole, "WEBP", quality=50),
        scaled(whole, 0.75),
        encode(scaled(whole, 0.95), "JPEG", quality=80),
        whole.filter(ImageFilter.GaussianBlur(1)),
        whole.crop((2, 2, 318, 238)),
    ):
        assert apart(whole, other) <= 4


def test_distinct_photographs_are_far_apart():
    hashes = [hash_of(photo(seed)) for seed in range(40)]
    least = min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i])
    assert least >= 10


@pytest.mark.parametrize("ground", ["white", "black", (200, 220, 255)])
def test_shift_scale_and_margin_of_what_stands_on_plain_ground_change_few_bits(ground):
    whole = drawing(ground=ground)
    wide = Image.new("RGB", (160, 140), ground)
    wide.paste(whole, (30, 5))
    for other in (
        drawing(left=33, ground=ground),
        scaled(whole, 0.8),
        encode(drawing(left=14, ground=ground), "JPEG", quality=80),
        wide,
    ):
        assert apart(whole, other) <= 8  # 20 and more without the box


def test_contrast_does_not_matter_and_colour_does():
    whole = photo(3)
    flatter = Image.fromarray((np.asarray(whole) * 0.8 + 25).astype(np.uint8))
    assert apart(whole, flatter) <= 3
    assert apart(drawing("red"), drawing("blue")) >= 4


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (80, 80), "white"),
        Image.new("RGB", (1, 1), "black"),
        Image.new("RGB", (3000, 1), "red"),
        Image.fromarray(np.full((60, 90), 37, np.uint8)),
        Image.linear_gradient("L"),
    ],
)
def test_what_says_too_little_has_no_hash(picture):
    assert hash_of(picture) is None


def test_flat_pictures_have_no_hash_compressed_or_with_grain():
    random = np.random.default_rng(0)
    grain = np.clip(128 + random.normal(0, 3, (200, 200, 3)), 0, 255).astype(np.uint8)
    assert hash_of(encode(Image.fromarray(grain), "JPEG", quality=60)) is None
    circle = Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(circle).ellipse((20, 20, 80, 80), fill="black")
    assert hash_of(circle) is None


def test_a_photograph_that_is_nearly_square_to_its_border_uses_the_whole_frame():
    left, right = photo(1), photo(2)
    joined = Image.new("RGB", (640, 240))
    joined.paste(left, (0, 0))
    joined.paste(right, (320, 0))
    assert apart(left, joined) > 8


def test_bits_are_those_of_a_literal_cosine_transform():
    picture = photo(7, SIDE, SIDE)
    channels = np.asarray(picture.convert("YCbCr"), dtype=np.float64)
    order = sorted(
        ((u, v) for u in range(10) for v in range(10) if u + v), key=lambda z: (sum(z), z)
    )

    def coefficient(channel: int, u: int, v: int) -> float:
        total = 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                wave = np.cos(np.pi * u * (y + 0.5) / SIDE) * np.cos(np.pi * v * (x + 0.5) / SIDE)
                total += channels[y, x, channel] * wave
        return total / SIDE**2 * (2**0.5 if u else 1) * (2**0.5 if v else 1)

    light = np.array([coefficient(0, u, v) * np.hypot(u, v) for u, v in order[:56]])
    grey = [(1, 0, 128), (1, 1, 0), (2, 0, 128), (2, 1, 0)]
    colour = np.array([coefficient(c, 0, v) - level for c, v, level in grey])
    bits = [*(light > 0.3 * np.abs(light).mean()), *(colour > 2), *(colour < -2)]
    assert perceptual_hash(picture) == int("".join(str(int(bit)) for bit in bits), 2)


def test_the_probe_hashes_what_the_picture_shows_whatever_the_format():
    whole = Image.fromarray(pixels(4, 200, 150))
    plain = hash_of(encode(whole, "PNG"))
    assert plain is not None
    for kind, options in (("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("TIFF", {})):
        assert (hash_of(encode(whole, kind, **options)) ^ plain).bit_count() <= 3
    assert Image.open(io.BytesIO(encode(whole, "JPEG"))).size == (200, 150)
