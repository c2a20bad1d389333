"""A frozen image model whose features the concept heads are trained on, with its pixels.

F is the width of its features. A picture comes as `data/images.py: evaluation_view` makes it: the
shortest side resized bicubically to `image_size`, the centre cut out. The model's own library may
resize to a little more before it cuts, or bilinearly; that moves its features by less than another
crop would, and the heads are trained on exactly these.
"""

import difflib
import hashlib
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from winnow.concepts.teachers import (
    efficientnet_lite,
    open_clip_models,
    timm_models,
    torchvision_models,
)
from winnow.concepts.teachers.pretrained import Pretrained
from winnow.data.images import VIEW_VERSION
from winnow.models.devices import usable_device
from winnow.models.towers import ImageNormalizer
from winnow.types import InputError

_LONGEST_FOLDER_NAME = 200
_KINDS: dict[str, Callable[[str, int | None], Pretrained]] = {
    "efficientnet-lite0": efficientnet_lite.load,
    "timm": timm_models.load,
    "torchvision": torchvision_models.load,
    "open_clip": open_clip_models.load,
}


class Teacher:
    """An image model in evaluation mode, without gradients, on one device.

    Any module will do that turns normalised pictures (B, 3, S, S) into (B, F). It computes in the
    precision of its weights: a module of bfloat16 is given bfloat16, and its features come out as
    float32. Raises InputError where the module does not take such pictures.
    """

    def __init__(
        self,
        *,
        name: str,
        module: nn.Module,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: str = "cpu",
    ) -> None:
        self.name = name
        self.image_size = image_size
        self._device = usable_device(device)
        # Convolutions are up to half as fast again on it (EfficientNet-Lite0, two cores).
        self._module = module.eval().requires_grad_(False).to(self._device)
        self._module.to(memory_format=torch.channels_last)
        self._pixels = f"shortest side bicubic, centre; mean {tuple(mean)}, std {tuple(std)}"
        self._normalize = ImageNormalizer(mean, std).to(self._device)
        self.width = self._find_width()
        """F."""

    @torch.inference_mode()
    def features(self, image_BCHW: Tensor) -> Tensor:
        """float32 (B, F) on the CPU, of uint8 pictures (B, 3, image_size, image_size).

        Raises InputError where the module gives something else, or numbers that are not finite.
        """
        image_BCHW = self._normalize(image_BCHW.to(self._device)).to(self._dtype)
        features_BF = self._module(image_BCHW)
        if not isinstance(features_BF, Tensor) or features_BF.shape[:-1] != image_BCHW.shape[:1]:
            raise InputError(
                f"teacher {self.name} gives {_described(features_BF)} for {len(image_BCHW)} "
                "pictures: pool it to one feature of a fixed width a picture"
            )
        features_BF = features_BF.float().cpu()
        if not features_BF.isfinite().all():
            raise InputError(
                f"teacher {self.name} gives features that are not finite: its weights or its "
                "precision are broken"
            )
        return features_BF

    def identity(self) -> str:
        """16 hex digits over weights, kinds of layers and pixels, but not the name."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256(f"{VIEW_VERSION} {self.image_size} {self._pixels}".encode())
        # Two models may differ in an activation or a stride alone, which are no weights. What is
        # printed as an address is another one in every process.
        digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(self._module)).encode())
        for name, value in sorted(self._module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _dtype(self) -> torch.dtype:
        weights = (w.dtype for w in self._module.state_dict().values() if w.is_floating_point())
        return next(weights, torch.float32)

    def _find_width(self) -> int:
        gray_BCHW = torch.full((2, 3, self.image_size, self.image_size), 127, dtype=torch.uint8)
        try:
            return self.features(gray_BCHW).shape[1]
        except InputError:
            raise
        except (RuntimeError, AssertionError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"teacher {self.name} does not take pictures of {self.image_size} pixels: "
                f"{str(error).partition(chr(10))[0]}"
            ) from error


def load_teacher(name: str, *, image_size: int | None = None, device: str = "cpu") -> Teacher:
    """The pretrained model called `name`, at `image_size` or at the size it was trained at.

        efficientnet-lite0                        its weights are in a package of the index
        timm:NAME, timm:NAME@FILE                 timm's weights, or a checkpoint on this machine
        torchvision:NAME, torchvision:NAME:WEIGHTS
        open_clip:NAME:TAG, open_clip:NAME:FILE, open_clip:local-dir:PATH
        PATH                                      a run of winnow

    Raises InputError for an unknown name, and where its weights are not at hand.
    """
    kind, _, rest = name.partition(":")
    if kind not in _KINDS and (Path(name) / "model").is_dir():
        kind, rest = "open_clip", f"local-dir:{name}/model"
    if kind not in _KINDS:
        raise InputError(
            f"there is no teacher {name!r}; near it: {', '.join(_near(rest or name))} (or a run)"
        )
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size {image_size} of teacher {name} must be at least 1 pixel")
    model = _KINDS[kind](rest, image_size)
    return Teacher(
        name=name,
        module=model.module,
        image_size=model.image_size,
        mean=model.mean,
        std=model.std,
        device=device,
    )


def folder_name(teacher: Teacher) -> str:
    """What a teacher's folders are called: its name made safe, its pixels, and whose weights.

    So teachers share none, whatever they are called.
    """
    return f"{_safe(teacher.name)}-{teacher.image_size}px-{teacher.identity()[:8]}"


def _safe(teacher: str) -> str:
    """Letters, digits, dots, dashes and underscores."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", teacher).strip(".-")[-_LONGEST_FOLDER_NAME:]
    if not safe:
        raise InputError(f"{teacher!r} names no teacher: it must have a letter or a digit")
    return safe


def _near(name: str) -> list[str]:
    known = ["efficientnet-lite0"]
    for library in (timm_models, torchvision_models, open_clip_models):
        known += library.names()
    by_tail: dict[str, list[str]] = {}
    for full in known:
        by_tail.setdefault(full.partition(":")[2] or full, []).append(full)
    tails = difflib.get_close_matches(name, by_tail, n=4, cutoff=0.3)
    return [full for tail in tails for full in by_tail[tail]] or list(_KINDS)


def _described(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
