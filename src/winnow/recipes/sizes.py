"""Recipes for the data sets that papers train on, CC3M to DataComp's largest, by three methods.

At each size `clip_`, `psd_` and `diht_` differ in the method alone: the objective, and for DiHT the
teacher's concepts. Data, towers, batch, schedule and samples seen are one, so that any difference
is the method's. Everything but the method comes from a documented run, which the size's docstring
names; neither method's paper published its optimizer, so the baseline's is used for all three. What
is our reading rather than its source's is said there too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from winnow.models import NamedTowers
from winnow.objectives import (
    ConceptDistillation,
    HardNegativeNCE,
    InfoNCE,
    ProgressiveSelfDistillation,
)
from winnow.training.optimizer import AdamW
from winnow.training.recipe import Recipe, Runtime

CC3M_PAIRS = 2_905_954
"""In the copy of CC3M that open_clip's maintainers put up (mlfoundations/open_clip#930)."""
CC12M_PAIRS = 10_062_127
"""Of CC12M that a user could still fetch (mlfoundations/open_clip#448)."""

_RUNTIME = Runtime(workers=8, log_every=50, checkpoint_every=1000)


def cc3m() -> Recipe:
    """CC3M as open_clip's maintainers train it: about 19 % zero-shot on ImageNet for CLIP.

    Documented (open_clip's README, sample running code; batch and accuracy in its #448):
    ResNet-50, batch 1,024, AdamW at 1e-3 with decay 0.1, 10,000 steps of warm-up, cosine, 30
    epochs; open_clip's defaults for what is no vision transformer, beta2 0.999 and epsilon 1e-8;
    gradients not clipped. Our reading: bf16, and the number of pairs. A maintainer calls the
    warm-up long and would take 1,000 to 2,000 steps (#930).
    """
    return Recipe(
        objective=InfoNCE(),
        model=NamedTowers(name="RN50"),
        optimizer=_resnet_optimizer(learning_rate=1e-3),
        batch_size=1024,
        steps=30 * CC3M_PAIRS // 1024,
        precision="bf16",
        runtime=_RUNTIME,
    )


def cc12m() -> Recipe:
    """CC12M for the ResNet-50 that open_clip has weights of: 36.45 % zero-shot on ImageNet.

    Documented (open_clip's docs/PRETRAINED.md): the model, `RN50-quickgelu`, and its accuracy; for
    the weights of YFCC-15M beside it, 8 GPUs and the sample code with a learning rate of 5e-4 and
    32 epochs. Our reading: that CC12M was trained alike, so as `cc3m` but for those two; bf16. A
    user measured about 30 % with other settings on as many pairs (#448).
    """
    return Recipe(
        objective=InfoNCE(),
        model=NamedTowers(name="RN50-quickgelu"),
        optimizer=_resnet_optimizer(learning_rate=5e-4),
        batch_size=1024,
        steps=32 * CC12M_PAIRS // 1024,
        precision="bf16",
        runtime=_RUNTIME,
    )


def datacomp_small() -> Recipe:
    """DataComp's small scale: 12.8 million samples seen, ViT-B/32 at a batch of 4,096.

    Documented (Gadre et al. 2023, arXiv 2304.14108; scale_configs.py and train.py of datacomp): the
    model, batch, samples seen, learning rate and warm-up of every scale, and beta2 0.95 of the
    largest; the rest is open_clip's defaults: decay 0.2, beta2 0.98, epsilon 1e-6, cosine,
    gradients not clipped. Our reading: bf16 for its fp16, and epochs of a permuted order for its
    draws with replacement.
    """
    return _datacomp(samples=12_800_000, model="ViT-B-32", batch_size=4096)


def datacomp_medium() -> Recipe:
    """DataComp's medium scale: 128 million samples seen, ViT-B/32 at a batch of 4,096.

    Sources and readings as for the small one.
    """
    return _datacomp(samples=128_000_000, model="ViT-B-32", batch_size=4096)


def datacomp_large() -> Recipe:
    """DataComp's large scale: 1.28 billion samples seen, ViT-B/16 at a batch of 8,192.

    Sources and readings as for the small one.
    """
    return _datacomp(samples=1_280_000_000, model="ViT-B-16", batch_size=8192)


def datacomp_xlarge() -> Recipe:
    """DataComp's largest scale: 12.8 billion samples seen, ViT-L/14 at a batch of 90,112.

    Sources and readings as for the small one.
    """
    recipe = _datacomp(samples=12_800_000_000, model="ViT-L-14", batch_size=90_112)
    optimizer = replace(recipe.optimizer, learning_rate=1e-3, beta2=0.95, warmup_steps=10_000)
    return replace(recipe, optimizer=optimizer)


@dataclass(frozen=True, kw_only=True)
class Size:
    """A data set that a run is made for."""

    baseline: Callable[[], Recipe]
    """CLIP at this size."""
    data: str
    """What the run is meant for, in a few words."""


SIZES: Mapping[str, Size] = {
    "cc3m": Size(baseline=cc3m, data="CC3M, 2.9 million pairs"),
    "cc12m": Size(baseline=cc12m, data="CC12M, 10 million pairs"),
    "datacomp_small": Size(baseline=datacomp_small, data="DataComp small, 12.8 million pairs"),
    "datacomp_medium": Size(baseline=datacomp_medium, data="DataComp medium, 128 million pairs"),
    "datacomp_large": Size(baseline=datacomp_large, data="DataComp large, 1.28 billion pairs"),
    "datacomp_xlarge": Size(baseline=datacomp_xlarge, data="DataComp xlarge, 12.8 billion pairs"),
}
"""Every size by its name; the pairs are those of the whole pool, before curation."""


def with_clip(baseline: Recipe) -> Recipe:
    """The baseline itself: InfoNCE."""
    return baseline


def with_psd(baseline: Recipe) -> Recipe:
    """The baseline with progressive self-distillation (Andonian et al. 2022)."""
    return replace(baseline, objective=ProgressiveSelfDistillation())


def with_diht(baseline: Recipe) -> Recipe:
    """The baseline with hard negatives and a teacher's concepts (Radenovic et al. 2023).

    DiHT as a whole on pairs that CAT selected: `winnow curate --rules clean cat`, then `winnow
    concepts`.
    """
    return replace(
        baseline, objective=HardNegativeNCE(), concept_distillation=ConceptDistillation()
    )


METHODS: Mapping[str, Callable[[Recipe], Recipe]] = {
    "clip": with_clip,
    "psd": with_psd,
    "diht": with_diht,
}
"""What turns a size's baseline into a recipe of another method."""


def sized_recipe(method: str, size: str) -> Recipe:
    """The recipe of a method in METHODS at a size in SIZES."""
    return METHODS[method](SIZES[size].baseline())


SIZED_RECIPES: Mapping[str, Callable[[], Recipe]] = {
    f"{method}_{size}": partial(sized_recipe, method, size) for size in SIZES for method in METHODS
}
"""Every method at every size, by the name that `winnow train` knows: `psd_cc12m`."""


def _resnet_optimizer(*, learning_rate: float) -> AdamW:
    return AdamW(
        learning_rate=learning_rate,
        weight_decay=0.1,
        beta2=0.999,
        epsilon=1e-8,
        warmup_steps=10_000,
        max_gradient_norm=math.inf,
    )


def _datacomp(*, samples: int, model: str, batch_size: int) -> Recipe:
    return Recipe(
        objective=InfoNCE(),
        model=NamedTowers(name=model),
        optimizer=AdamW(
            learning_rate=5e-4,
            weight_decay=0.2,
            warmup_steps=500,
            max_gradient_norm=math.inf,
        ),
        batch_size=batch_size,
        steps=samples // batch_size,
        precision="bf16",
        runtime=_RUNTIME,
    )
