import numpy as np
import pytest
from data_makers import encode, pixels

from winnow.config import as_dict, from_dict
from winnow.data.augmentation import Augmentation, choose_crop
from winnow.data.images import training_view
from winnow.types import InputError

NO_CROP = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
DATA = encode(pixels(1, 64, 64), "PNG")


def view(seed: int = 0, **options) -> np.ndarray:
    random = np.random.default_rng(seed)
    augmentation = Augmentation(**options)
    return training_view(DATA, size=64, augmentation=augmentation, random=random)


@pytest.mark.parametrize("size", [(640, 480), (300, 400), (37, 41)])
def test_crops_lie_in_the_picture_with_the_area_and_ratio_asked_for(size):
    width, height = size
    augmentation = Augmentation(crop_area=(0.2, 0.6), crop_ratio=(0.5, 2.0))
    random = np.random.default_rng(0)
    areas, places = [], []
    for _ in range(500):
        left, top, right, bottom = choose_crop(width, height, augmentation, random)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert 0.45 < (right - left) / (bottom - top) < 2.2
        areas.append((right - left) * (bottom - top) / (width * height))
        places.append((left / width, right / width))
    assert min(areas) > 0.18 and max(areas) < 0.62
    assert 0.3 < np.mean(areas) < 0.5
    assert np.min(places) < 0.05 and np.max(places) > 0.95


@pytest.mark.parametrize(("size", "box"), [((1000, 10), (494, 0, 507, 10)), ((10, 1000), None)])
def test_where_no_crop_fits_the_largest_central_one_is_taken(size, box):
    crop = choose_crop(*size, Augmentation(), np.random.default_rng(0))
    expected = box or (0, 493, 10, 506)
    assert np.abs(np.subtract(crop, expected)).max() <= 1


def test_the_default_only_crops():
    colors = [view(seed).reshape(3, -1).mean(axis=1) for seed in range(20)]
    assert np.abs(np.array(colors) - colors[0]).max() < 8
    assert not np.array_equal(view(0), view(1))
    assert np.array_equal(view(0), view(0))


def test_each_option_does_what_it_says():
    plain = view(**NO_CROP)
    assert np.array_equal(view(flip_probability=1, **NO_CROP), plain[:, :, ::-1])
    assert np.array_equal(view(inversion_probability=1, **NO_CROP), 255 - plain)
    grey = view(grayscale_probability=1, **NO_CROP)
    assert np.array_equal(grey[0], grey[1]) and np.array_equal(grey[1], grey[2])
    blurred = view(blur_probability=1, blur_radius=(3.0, 3.0), **NO_CROP)
    assert np.abs(np.diff(blurred.astype(int))).mean() < np.abs(np.diff(plain.astype(int))).mean()
    assert not np.array_equal(view(jitter_probability=1, **NO_CROP), plain)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_strengths_of_zero_leave_the_picture_alone_and_others_do_not(name):
    none = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    plain = view(**NO_CROP)
    assert np.array_equal(view(jitter_probability=1, **none, **NO_CROP), plain)
    assert not np.array_equal(view(jitter_probability=1, **none | {name: 0.4}, **NO_CROP), plain)


def test_probabilities_are_frequencies():
    plain = view(**NO_CROP)
    flipped = sum(
        not np.array_equal(view(seed, flip_probability=0.3, **NO_CROP), plain)
        for seed in range(400)
    )
    assert 80 < flipped < 160


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_probability": 1.5},
        {"crop_area": (0.0, 1.0)},
        {"crop_area": (0.5, 1.5)},
        {"crop_ratio": (2.0, 1.0)},
        {"hue": 0.7},
        {"contrast": -1.0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match="Augmentation"):
        Augmentation(**wrong)


def test_it_goes_through_a_recipes_json():
    augmentation = Augmentation(crop_area=(0.5, 0.9), flip_probability=0.5)
    assert from_dict(Augmentation, as_dict(augmentation), where="x") == augmentation
