"""Colours on the device, against Pillow's own operations with the same numbers."""

import numpy as np
import pytest
import torch
from data_makers import encode, pixels
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from winnow.data.augmentation import Augmentation
from winnow.data.device_augmentation import ColorDraws, apply_colors, draw_colors
from winnow.data.images import training_view

COUNT, SIDE = 24, 40
EVERYTHING = Augmentation(
    flip_probability=0.5,
    jitter_probability=0.8,
    grayscale_probability=0.2,
    inversion_probability=0.2,
    blur_probability=0.5,
    blur_radius=(0.1, 5.0),
    colours_on="device",
)
NO_JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


@pytest.fixture(scope="module")
def image_BCHW():
    views = np.stack([pixels(seed, SIDE, SIDE).transpose(2, 0, 1) for seed in range(COUNT)])
    views[0] = 200  # grey: no hue, no saturation
    views[1] = 0
    return torch.from_numpy(views)


def keys(count=COUNT, epoch=3):
    random = np.random.default_rng(5)
    ids = random.integers(-(2**63), 2**63, size=count, dtype=np.int64)
    return torch.from_numpy(ids), torch.full((count,), epoch, dtype=torch.int64)


def by_pillow(image_CHW, draws: ColorDraws, index: int) -> np.ndarray:
    view = Image.fromarray(np.ascontiguousarray(image_CHW.permute(1, 2, 0).numpy()))
    if draws.is_jittered[index]:
        view = ImageEnhance.Brightness(view).enhance(float(draws.brightness[index]))
        view = ImageEnhance.Contrast(view).enhance(float(draws.contrast[index]))
        view = ImageEnhance.Color(view).enhance(float(draws.saturation[index]))
        turn = int(draws.turn[index])
        if turn:
            hue, saturation, value = view.convert("HSV").split()
            hue = hue.point([(level + turn) % 256 for level in range(256)])
            view = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if draws.is_grey[index]:
        view = view.convert("L").convert("RGB")
    if draws.is_inverted[index]:
        view = ImageOps.invert(view)
    if draws.is_blurred[index]:
        view = view.filter(ImageFilter.GaussianBlur(float(draws.blur_radius[index])))
    if draws.is_flipped[index]:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(view).transpose(2, 0, 1)


def differences(image_BCHW, augmentation: Augmentation) -> np.ndarray:
    id_B, epoch_B = keys(len(image_BCHW))
    ours = apply_colors(image_BCHW, id_B, epoch_B, augmentation=augmentation, seed=1)
    draws = draw_colors(id_B, epoch_B, augmentation=augmentation, seed=1)
    theirs = np.stack([by_pillow(view, draws, index) for index, view in enumerate(image_BCHW)])
    assert ours.dtype == torch.uint8 and ours.shape == image_BCHW.shape
    assert (theirs != image_BCHW.numpy()).any(), "nothing was done"
    return np.abs(ours.numpy().astype(int) - theirs.astype(int))


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"jitter_probability": 1, **NO_JITTER, "brightness": 0.9}, 0),
        ({"jitter_probability": 1, **NO_JITTER, "contrast": 0.9}, 0),
        ({"jitter_probability": 1, **NO_JITTER, "saturation": 1.5}, 0),
        ({"jitter_probability": 1, **NO_JITTER, "hue": 0.5}, 6),
        ({"grayscale_probability": 1}, 0),
        ({"inversion_probability": 1}, 0),
        ({"blur_probability": 1, "blur_radius": (0.1, 6.0)}, 1),
        ({"flip_probability": 1}, 0),
    ],
)
def test_each_step_is_pillows_within_so_many_levels(image_BCHW, options, levels):
    apart = differences(image_BCHW, Augmentation(**options, colours_on="device"))
    assert apart.max() <= levels
    assert (apart > 0).mean() < 0.002


def test_all_steps_in_their_order_are_pillows(image_BCHW):
    apart = differences(image_BCHW, EVERYTHING)
    assert (apart > 1).mean() < 0.002


def test_a_pictures_colours_depend_on_its_own_key_alone(image_BCHW):
    id_B, epoch_B = keys()

    def colored(chosen):
        part = torch.as_tensor(chosen)
        return apply_colors(
            image_BCHW[part], id_B[part], epoch_B[part], augmentation=EVERYTHING, seed=1
        )

    together = colored(range(COUNT))
    order = np.random.default_rng(0).permutation(COUNT)
    assert torch.equal(colored(order), together[torch.from_numpy(order)])
    for start in range(0, COUNT, 5):
        some = range(start, min(start + 5, COUNT))
        assert torch.equal(colored(some), together[start : start + 5])
    many = torch.cat([image_BCHW] * 4), id_B.repeat(4), epoch_B.repeat(4)
    assert torch.equal(
        apply_colors(*many, augmentation=EVERYTHING, seed=1), together.repeat(4, 1, 1, 1)
    )


def test_seed_and_epoch_and_picture_each_change_the_chances():
    id_B, epoch_B = keys()
    options = {"augmentation": EVERYTHING}
    first = draw_colors(id_B, epoch_B, seed=1, **options)
    for other in (
        draw_colors(id_B, epoch_B, seed=2, **options),
        draw_colors(id_B, epoch_B + 1, seed=1, **options),
        draw_colors(id_B + 1, epoch_B, seed=1, **options),
    ):
        assert not np.isin(first.brightness, other.brightness).any()
    assert np.array_equal(
        first.brightness, draw_colors(id_B, epoch_B, seed=1, **options).brightness
    )


def test_chances_are_frequencies_and_amounts_fill_their_ranges():
    count = 20_000
    draws = draw_colors(
        torch.arange(count), torch.zeros(count).long(), augmentation=EVERYTHING, seed=0
    )
    for is_done, chance in (
        (draws.is_jittered, 0.8),
        (draws.is_grey, 0.2),
        (draws.is_inverted, 0.2),
        (draws.is_blurred, 0.5),
        (draws.is_flipped, 0.5),
    ):
        assert abs(is_done.mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / count)
    for factor in (draws.brightness, draws.contrast, draws.saturation):
        assert 0.6 <= factor.min() < 0.601 and 1.399 < factor.max() < 1.4
        assert abs(factor.mean() - 1) < 4 * 0.8 / np.sqrt(12 * count)
    assert set(draws.turn) == {turn % 256 for turn in range(-26, 27)}
    assert 0.1 <= draws.blur_radius.min() < 0.11 and 4.99 < draws.blur_radius.max() <= 5
    chances = np.corrcoef([draws.is_jittered, draws.is_blurred, draws.brightness, draws.contrast])
    assert np.abs(chances - np.eye(4)).max() < 4 / np.sqrt(count)


def test_what_was_given_is_left_as_it_is(image_BCHW):
    before = image_BCHW.clone()
    id_B, epoch_B = keys()
    plain = apply_colors(image_BCHW, id_B, epoch_B, augmentation=Augmentation(), seed=0)
    assert torch.equal(plain, before)
    apply_colors(image_BCHW, id_B, epoch_B, augmentation=EVERYTHING, seed=0)
    assert torch.equal(image_BCHW, before)


def test_workers_leave_the_colours_to_the_device():
    data = encode(pixels(1, 64, 64), "PNG")
    bare = {"crop_area": (0.5, 1.0)}
    steps = {"inversion_probability": 1.0, "flip_probability": 1.0, "jitter_probability": 1.0}

    def view(**options):
        augmentation = Augmentation(**bare, **options)
        return training_view(
            data, size=32, augmentation=augmentation, random=np.random.default_rng(0)
        )

    assert np.array_equal(view(**steps, colours_on="device"), view())
    assert not np.array_equal(view(**steps), view())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_rounds_one_level_differently_at_most(image_BCHW):
    id_B, epoch_B = keys()
    options = {"augmentation": EVERYTHING, "seed": 1}
    here = apply_colors(image_BCHW, id_B, epoch_B, **options)
    there = apply_colors(image_BCHW.cuda(), id_B, epoch_B, **options).cpu()
    assert ((here.int() - there.int()).abs() > 1).float().mean() < 0.002
