"""The training recipes.

`clip`, `psd`, `hn_nce` and `hn_psd` are one ViT-B/32 run that differs in its objective alone, so
that any difference is the objective's; `siglip` also starts from the scale and the bias that belong
to its loss. `diht` is `hn_nce` with a teacher's concepts: DiHT as a whole on a selection by CAT.
`diht_psd` has PSD's soft targets too. `lit` trains a text tower for the image tower of given
weights. `tiny` trains on a laptop; its constants are measured (docs/log.md, 2026-11-22).
"""

import math
from dataclasses import replace

from winnow.data.images import Augmentation
from winnow.models import CustomTowers, NamedTowers, TextTransformer, TimmImageTower
from winnow.models.locking import FineTuning
from winnow.objectives import (
    ConceptDistillation,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
)
from winnow.recipes.sizes import SIZED_RECIPES
from winnow.training.optimizer import AdamW
from winnow.training.recipe import Recipe, Runtime


def tiny() -> Recipe:
    """Towers of a few million parameters on small pictures: minutes on two CPU cores.

    Without batch normalisation, so that micro-batches stay exact.
    """
    return Recipe(
        objective=InfoNCE(),
        model=CustomTowers(
            embed_dim=256,
            image=TimmImageTower(name="test_efficientnet_gn", image_size=48),
            text=TextTransformer(context_length=12, width=128, heads=2, layers=1),
        ),
        optimizer=AdamW(learning_rate=1.5e-3, weight_decay=0.1, warmup_steps=40),
        augmentation=Augmentation(crop_area=(0.8, 1.0), grayscale_probability=0.2),
        batch_size=256,
        steps=480,
        runtime=Runtime(workers=1, checkpoint_every=100),
    )


def clip() -> Recipe:
    """CLIP (Radford et al. 2021) with ViT-B/32 at a batch of 1,024.

    The constants are those that open_clip's users train CC3M to CC12M with: AdamW, peak 5e-4,
    decay 0.2, 10,000 steps of warm-up shortened to 2,000 for the shorter run.
    """
    return Recipe(
        objective=InfoNCE(),
        model=NamedTowers(name="ViT-B-32"),
        optimizer=AdamW(learning_rate=5e-4, weight_decay=0.2, warmup_steps=2000),
        augmentation=Augmentation(),
        batch_size=1024,
        steps=90_000,
        precision="bf16",
        runtime=Runtime(workers=8, log_every=50, checkpoint_every=1000),
    )


def psd() -> Recipe:
    """`clip` with progressive self-distillation (Andonian et al. 2022)."""
    return replace(clip(), objective=ProgressiveSelfDistillation())


def hn_nce() -> Recipe:
    """`clip` with hard negatives (Radenovic et al. 2023)."""
    return replace(clip(), objective=HardNegativeNCE())


def hn_psd() -> Recipe:
    """`clip` with hard negatives and progressive self-distillation at once."""
    return replace(clip(), objective=HardNegativeSelfDistillation())


def diht() -> Recipe:
    """`hn_nce` with concept distillation: DiHT (Radenovic et al. 2023), on data that CAT selected.

    That is, `winnow curate --rules clean cat`, then `winnow concepts`, then this.
    """
    return replace(hn_nce(), concept_distillation=ConceptDistillation())


def diht_psd() -> Recipe:
    """`diht` with PSD's soft targets on the hard negatives: both papers at once."""
    return replace(hn_psd(), concept_distillation=ConceptDistillation())


def siglip() -> Recipe:
    """`clip` with the sigmoid loss, from a scale of 10 and a bias of -10 (Zhai et al. 2023)."""
    model = NamedTowers(name="ViT-B-32", logit_scale=math.log(10), logit_bias=-10.0)
    return replace(clip(), objective=SigLIP(), model=model)


def lit() -> Recipe:
    """A text tower for a locked image tower (LiT; Zhai et al. 2022): cheap, and good early on.

    Batch, peak, warm-up of 3 %, clipping and the first temperature are those of the authors' public
    configuration (big_vision, lit_coco.py), for other data; the decay, which big_vision scales in
    another way, and the pairs seen are those of `clip`. `--model.weights` takes any image tower.
    """
    return replace(
        clip(),
        model=NamedTowers(
            name="ViT-B-32", weights="laion2b_s34b_b79k", start="image", logit_scale=math.log(10)
        ),
        fine_tuning=FineTuning(lock_image="all"),
        optimizer=AdamW(learning_rate=1e-3, weight_decay=0.2, warmup_steps=675),
        batch_size=4096,
        steps=22_500,
    )


RECIPES = {
    "tiny": tiny,
    "clip": clip,
    "psd": psd,
    "hn_nce": hn_nce,
    "hn_psd": hn_psd,
    "diht": diht,
    "diht_psd": diht_psd,
    "siglip": siglip,
    "lit": lit,
    **SIZED_RECIPES,
}
"""The training recipes by the name that `winnow train` knows."""
