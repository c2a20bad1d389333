"""The evaluation view against open_clip's own transform, pixel for pixel."""

import io

import numpy as np
import pytest
from data_makers import encode
from open_clip.transform import image_transform
from PIL import Image

from winnow.data import images
from winnow.data.images import View, evaluation_view

MODES = ["shortest", "longest", "squash"]
INTERPOLATIONS = ["bicubic", "bilinear"]
SIZES = [(640, 480), (333, 225), (225, 224), (224, 224), (100, 97), (7, 5), (900, 40), (40, 901)]


def noise(width, height):
    """Every pixel by chance: nothing hides what a resize does."""
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def open_clip_s(pixels, view):
    """What its transform makes of a picture before it becomes a tensor."""
    transform = image_transform(
        view.size,
        is_train=False,
        resize_mode=view.resize,
        interpolation=view.interpolation,
        fill_color=view.fill,
    )
    image = Image.fromarray(pixels)
    for step in transform.transforms[:-2]:
        image = step(image)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", MODES)
@pytest.mark.parametrize("size", [33, 224])
def test_the_evaluation_view_is_open_clip_s(resize, interpolation, size):
    for width, height in SIZES:
        for fill in (0, 127):
            view = View(size, resize, interpolation, fill)
            pixels = noise(width, height)
            seen = evaluation_view(encode(pixels, "PNG"), view=view)
            assert np.array_equal(seen, open_clip_s(pixels, view)), (width, height, view)


def test_modes_and_interpolations_differ():
    pixels = noise(90, 60)
    seen = [
        evaluation_view(encode(pixels, "PNG"), view=View(33, resize, interpolation)).tobytes()
        for resize in MODES
        for interpolation in INTERPOLATIONS
    ]
    assert len(set(seen)) == 6


def test_a_jpeg_is_decoded_whole():
    file = encode(noise(1000, 700), "JPEG", quality=90)
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    assert np.array_equal(evaluation_view(file, view=View(64)), open_clip_s(pixels, View(64)))


def test_the_longest_side_leaves_one_pixel_of_a_line_where_open_clip_has_none():
    line = np.full((1, 300, 3), 200, dtype=np.uint8)
    seen = evaluation_view(encode(line, "PNG"), view=View(33, "longest"))
    assert np.array_equal(np.flatnonzero((seen == 200).all(axis=(0, 2))), [16])
    assert (np.delete(seen, 16, axis=1) == 0).all()


@pytest.mark.parametrize("size", [(2, 3001), (3001, 2), (5003, 3), (7001, 10), (10, 7001)])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_line_is_seen_as_if_it_had_been_resized_whole(size, interpolation, monkeypatch):
    file, view = encode(noise(*size), "PNG"), View(64, "shortest", interpolation)
    whole = evaluation_view(file, view=view).astype(int)
    assert 64 * 64 * max(size) // min(size) > 80_000 > size[0] * size[1]
    monkeypatch.setattr(images, "MAX_PIXELS", 80_000)
    near = evaluation_view(file, view=view).astype(int)
    assert np.abs(near - whole).max() <= 1 and (near != whole).mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 60_000)])
def test_a_line_takes_no_more_memory_than_its_view(size, monkeypatch):
    asked = []
    resize = Image.Image.resize

    def record(self, size, *args, **options):
        asked.append(size[0] * size[1])
        return resize(self, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", record)
    assert evaluation_view(encode(noise(*size), "PNG"), view=View(448)).shape == (3, 448, 448)
    assert asked and max(asked) <= 448 * 448
