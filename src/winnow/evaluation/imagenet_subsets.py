"""The ImageNet classes that ImageNet-R, ImageNet-A and ObjectNet show, and accuracy over them.

A shift that shows 200 classes is compared with ImageNet's accuracy over those 200: only samples of
these classes count, and only they can be predicted. ObjectNet's 113 classes are coarser than
ImageNet's: "chair" stands for barber chair, folding chair and rocking chair, so 113 classes are 125
of ImageNet's.

Published lines take ObjectNet's x over the 125, a barber chair for a rocking chair being wrong
(imagenet-testbed, eval_settings/objectnet.py: val-on-objectnet-classes, 6,250 = 125 x 50 pictures).
On the shifted set itself prompts are made of its own class names, 113 for ObjectNet.

Sources: timm's package data (imagenet_r_indices.txt, imagenet_a_indices.txt); ObjectNet's own
mapping of names, matched with timm's names of ImageNet's synsets (`objectnet_classes.json`).
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from winnow.types import InputError

IMAGENET_CLASSES = 1000
SUBSETS = ("imagenet-r", "imagenet-a", "objectnet")
"""What `imagenet_subset` knows."""
_OBJECTNET_FILE = "objectnet_classes.json"


@dataclass(frozen=True, kw_only=True)
class ImageNetSubset:
    """Which ImageNet classes the classes of a shifted set stand for."""

    name: str
    groups: tuple[tuple[int, ...], ...]
    """For each class of the shifted set, in its label order, its ImageNet indices."""

    @property
    def indices(self) -> tuple[int, ...]:
        """All ImageNet indices, in ImageNet's order."""
        return tuple(sorted(index for group in self.groups for index in group))


@cache
def imagenet_subset(name: str) -> ImageNetSubset:
    """The classes of "imagenet-r", "imagenet-a" or "objectnet".

    Labels are numbered as clip-benchmark's sets number them: by synset, or by ObjectNet's folders.
    """
    if name not in SUBSETS:
        raise InputError(f"there is no ImageNet subset {name!r}; there are {', '.join(SUBSETS)}")
    if name == "objectnet":
        text = (files(__package__) / _OBJECTNET_FILE).read_text(encoding="utf-8")
        classes = json.loads(text)["classes"]
        groups = tuple(tuple(classes[folder]["imagenet"]) for folder in sorted(classes))
    else:
        path = files("timm.data") / "_info" / f"{name.replace('-', '_')}_indices.txt"
        groups = tuple((int(line),) for line in path.read_text().split())
    return ImageNetSubset(name=name, groups=groups)


def subset_of(
    image_ND: np.ndarray, class_KD: np.ndarray, label_N: np.ndarray, subset: ImageNetSubset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ImageNet's features and labels with only the S classes of `subset`:
    `(image_MD, class_SD, label_M)`.

    The M samples of these classes keep their order; labels are numbered anew, 0 to S - 1.
    """
    if len(class_KD) != IMAGENET_CLASSES:
        raise InputError(
            f"accuracy over a subset of ImageNet needs all {IMAGENET_CLASSES:,} classes in "
            f"ImageNet's order, and this set has {len(class_KD):,}: give the whole ImageNet "
            "validation set"
        )
    indices = list(subset.indices)
    place_K = np.full(IMAGENET_CLASSES, -1)
    place_K[indices] = np.arange(len(indices))
    place_N = place_K[label_N]
    kept_N = np.flatnonzero(place_N >= 0)
    return image_ND[kept_N], class_KD[indices], place_N[kept_N]
