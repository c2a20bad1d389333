"""The colours of `augmentation.py`, a batch at a time on the model's device.

Workers then only decode and crop. A picture's chances depend on (seed, epoch, uid) alone, never on
the batch, the rank or the micro-batch it is in; they are not the ones that workers draw.

Each step is Pillow's, with its 8-bit levels in between. Given the same numbers, one value in a
thousand differs from Pillow's, where it lay on a border: by one level of 255 after the blur, by up
to 6 after a turn of the hue, of which Pillow tells 255 apart. All other steps are equal.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from winnow.data.augmentation import Augmentation
from winnow.data.order import mixed

_BLOCK = 64
"""Pictures changed at a time: what lies between is float32 and would else be four times a batch."""
_BLUR_PASSES = 3


@dataclass(frozen=True, kw_only=True)
class ColorDraws:
    """What chance decided for each picture of a batch: bool (B,) and float64 (B,)."""

    is_jittered: np.ndarray
    is_grey: np.ndarray
    is_inverted: np.ndarray
    is_blurred: np.ndarray
    is_flipped: np.ndarray
    brightness: np.ndarray
    """Factor, as `contrast` and `saturation`."""
    contrast: np.ndarray
    saturation: np.ndarray
    turn: np.ndarray
    """Of the hue, in 256ths of the circle, int64."""
    blur_radius: np.ndarray
    """Standard deviation in pixels."""

    def part(self, part: slice) -> "ColorDraws":
        """Those of some of the pictures."""
        return ColorDraws(**{name: values[part] for name, values in vars(self).items()})


def draw_colors(
    id_B: Tensor, epoch_B: Tensor, *, augmentation: Augmentation, seed: int
) -> ColorDraws:
    """What `apply_colors` does to the pictures, a pure function of (seed, epoch, id) for each."""
    chance_BN = _uniform(id_B.cpu().numpy(), epoch_B.cpu().numpy(), seed=seed, count=10)
    chances, amounts = chance_BN[:, :5].T, chance_BN[:, 5:].T

    def factor(amount: np.ndarray, strength: float) -> np.ndarray:
        least = max(0.0, 1 - strength)
        return least + amount * (1 + strength - least)

    least, largest = augmentation.blur_radius
    return ColorDraws(
        is_jittered=chances[0] < augmentation.jitter_probability,
        is_grey=chances[1] < augmentation.grayscale_probability,
        is_inverted=chances[2] < augmentation.inversion_probability,
        is_blurred=chances[3] < augmentation.blur_probability,
        is_flipped=chances[4] < augmentation.flip_probability,
        brightness=factor(amounts[0], augmentation.brightness),
        contrast=factor(amounts[1], augmentation.contrast),
        saturation=factor(amounts[2], augmentation.saturation),
        turn=np.rint(256 * augmentation.hue * (2 * amounts[3] - 1)).astype(np.int64) % 256,
        blur_radius=least + amounts[4] * (largest - least),
    )


def apply_colors(
    image_BCHW: Tensor,
    id_B: Tensor,
    epoch_B: Tensor,
    *,
    augmentation: Augmentation,
    seed: int,
) -> Tensor:
    """Everything but the crop, on uint8 RGB views (B, 3, H, W) where they lie; new uint8 views.

    `id_B` and `epoch_B` are int64; kept on the CPU they save waiting for the device. `image_BCHW`
    is left as it is.
    """
    draws = draw_colors(id_B, epoch_B, augmentation=augmentation, seed=seed)
    changed_BCHW = image_BCHW.clone()
    for start in range(0, len(image_BCHW), _BLOCK):
        block = slice(start, start + _BLOCK)
        _change(changed_BCHW[block], draws.part(block))
    return changed_BCHW


def _change(image_BCHW: Tensor, draws: ColorDraws) -> None:
    """All steps, in place, in the order of `augmentation.apply_color`."""
    jitter = draws.is_jittered
    _on(image_BCHW, jitter & (draws.brightness != 1), _brighten, draws.brightness)
    _on(image_BCHW, jitter & (draws.contrast != 1), _contrast, draws.contrast)
    _on(image_BCHW, jitter & (draws.saturation != 1), _saturate, draws.saturation)
    _on(image_BCHW, jitter & (draws.turn != 0), _turn_hue, draws.turn)
    _on(image_BCHW, draws.is_grey, lambda image, _: _luma(image).expand_as(image), draws.turn)
    _on(image_BCHW, draws.is_inverted, lambda image, _: 255 - image, draws.turn)
    _on(image_BCHW, draws.is_blurred, _blur, draws.blur_radius)
    _on(image_BCHW, draws.is_flipped, lambda image, _: image.flip(3), draws.turn)


def _on(
    image_BCHW: Tensor,
    is_chosen: np.ndarray,
    step: Callable[[Tensor, np.ndarray], Tensor],
    amounts: np.ndarray,
) -> None:
    """Put what `step` makes of the chosen pictures, each with its own amount, in their places."""
    chosen = np.flatnonzero(is_chosen)
    if len(chosen):
        index = torch.from_numpy(chosen).to(image_BCHW.device)
        image_BCHW[index] = step(image_BCHW[index], amounts[chosen]).to(torch.uint8)


def _brighten(image_BCHW: Tensor, factors: np.ndarray) -> Tensor:
    return _away_from(torch.zeros((), device=image_BCHW.device), image_BCHW, factors)


def _contrast(image_BCHW: Tensor, factors: np.ndarray) -> Tensor:
    luma_B1HW = _luma(image_BCHW)
    pixels = luma_B1HW[0].numel()
    total_B111 = luma_B1HW.sum(dim=(1, 2, 3), keepdim=True)
    mean_B111 = (2 * total_B111 + pixels) // (2 * pixels)
    return _away_from(mean_B111.float(), image_BCHW, factors)


def _saturate(image_BCHW: Tensor, factors: np.ndarray) -> Tensor:
    return _away_from(_luma(image_BCHW).float(), image_BCHW, factors)


def _away_from(origin: Tensor, image_BCHW: Tensor, factors: np.ndarray) -> Tensor:
    """`image` as many times as far from `origin` as it is; levels are cut off, not rounded."""
    return (origin + _each(factors, image_BCHW) * (image_BCHW - origin)).clamp_(0, 255)


def _luma(image_BCHW: Tensor) -> Tensor:
    """int32 (B, 1, H, W): ITU-R 601-2 in Pillow's fixed point."""
    red, green, blue = image_BCHW.int().split(1, dim=1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _turn_hue(image_BCHW: Tensor, turns: np.ndarray) -> Tensor:
    """To Pillow's HSV, with 8 bits of each, and back."""
    red, green, blue = image_BCHW.float().split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = spread.clamp(min=1)
    from_red, from_green, from_blue = ((value - one) / divisor for one in (red, green, blue))
    sixths = torch.where(
        red == value,
        from_blue - from_green,
        torch.where(green == value, 2 + from_red - from_blue, 4 + from_green - from_red),
    )
    hue = (torch.remainder(sixths / 6, 1.0) * 255).floor_()
    saturation = (spread / value.clamp(min=1) * 255).floor_() / 255
    turned = torch.remainder(hue + _each(turns, image_BCHW), 256) * 6 / 255
    # Each channel is a trapezoid over the circle of hues; Pillow rounds halves up.
    channels = []
    for offset in (5.0, 3.0, 1.0):
        place = torch.remainder(turned + offset, 6)
        trapezoid = torch.minimum(place, 4 - place).clamp_(0, 1)
        channels.append((value * (1 - saturation * trapezoid) + 0.5).floor_())
    return torch.cat(channels, dim=1)


def _blur(image_BCHW: Tensor, radii: np.ndarray) -> Tensor:
    """Three box blurs along either axis, which is Pillow's Gaussian; borders are repeated."""
    boxes = [_box_kernel(radius) for radius in radii]
    reach = max(len(box) for box in boxes) // 2
    kernels = np.stack([np.pad(box, reach - len(box) // 2) for box in boxes])
    blurred = image_BCHW.float()
    for along_height in (False, True):
        for _ in range(_BLUR_PASSES):
            padding = (0, 0, reach, reach) if along_height else (reach, reach, 0, 0)
            padded = F.pad(blurred, padding, mode="replicate")
            length = blurred.shape[2 if along_height else 3]
            axis = 2 if along_height else 3
            shifted = (padded.narrow(axis, tap, length) for tap in range(2 * reach + 1))
            summed = sum(
                _each(weights, image_BCHW) * one
                for weights, one in zip(kernels.T, shifted, strict=True)
            )
            blurred = (torch.as_tensor(summed) + 0.5).floor_()
    return blurred


def _box_kernel(radius: float) -> np.ndarray:
    """The box with soft ends whose threefold convolution has this standard deviation.

    Gwosdek et al. 2011, "Theoretical foundations of Gaussian convolution by extended box
    filtering"; the ends get a share of a weight.
    """
    variance = radius * radius / _BLUR_PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    end = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    end /= 6 * (variance - (whole + 1) ** 2)
    weights = np.array([end, *(1.0,) * (2 * whole + 1), end])
    return weights / weights.sum()


def _each(amounts: np.ndarray, image_BCHW: Tensor) -> Tensor:
    """float32 (B, 1, 1, 1), beside the pictures."""
    amount_B = torch.from_numpy(np.ascontiguousarray(amounts, dtype=np.float32))
    return amount_B.to(image_BCHW.device).view(-1, 1, 1, 1)


def _uniform(id_B: np.ndarray, epoch_B: np.ndarray, *, seed: int, count: int) -> np.ndarray:
    """float64 (B, count) in [0, 1), by splitmix64 of the key and of which number it is."""
    key_B = mixed(np.full(len(id_B), seed % 2**64, dtype=np.uint64))
    for word_B in (epoch_B, id_B):
        key_B = mixed(key_B ^ word_B.astype(np.int64).view(np.uint64))
    word_BN = mixed(key_B[:, None] ^ mixed(np.arange(count, dtype=np.uint64)))
    return (word_BN >> np.uint64(11)) * 2.0**-53
