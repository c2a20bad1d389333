"""What a run reads: its pairs, and what is joined to them by uid; refused where it does not fit."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from winnow.data.batch import Batch
from winnow.data.captions import Captions
from winnow.data.concept_targets import ConceptTargets
from winnow.data.loader import load_batches
from winnow.data.mixture import MixedOrder, Mixture
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.distributed import World
from winnow.models.short_text import ShortTokens
from winnow.models.towers import Towers
from winnow.training.interrupts import StopRequest
from winnow.training.recipe import Recipe
from winnow.training.refusals import (
    data_facts,
    refuse_another_run,
    refuse_few_pairs,
    refuse_unshared_batch,
    refuse_wrong_targets,
)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The pairs of a run, and this process's share of them."""

    recipe: Recipe
    selection: Selection | Mixture
    targets: ConceptTargets | None
    captions: Captions | None
    validation: Selection | None
    world: World

    def refuse(self, out: Path) -> None:
        """Raise InputError where the data does not fit the recipe, or `out` another run."""
        refuse_unshared_batch(self.recipe, self.world)
        refuse_wrong_targets(self.recipe, self.selection, self.targets)
        refuse_another_run(out, self.recipe, self.facts())
        refuse_few_pairs(self.recipe, self.selection)
        if self.validation is not None:
            refuse_few_pairs(self.recipe, self.validation)

    def facts(self) -> dict[str, Any]:
        """What the run's folder remembers of its data."""
        return data_facts(self.selection, self.targets, self.captions)

    def batches(
        self, towers: Towers, *, first_step: int, stops: Callable[[], bool]
    ) -> Generator[Batch, None, None]:
        """This rank's part of every step's pairs, from `first_step` on.

        They end early where `stops` says so while one is waited for.
        """
        return load_batches(
            self.selection,
            self._order,
            augmentation=self.recipe.augmentation,
            first_step=first_step,
            last_step=self.recipe.steps,
            image_ids=self.recipe.mask.same_image,
            targets=self.targets,
            captions=self.captions,
            choice=self.recipe.captions,
            stops=stops,
            **self._common(towers),
        )

    def validation_batches(
        self, towers: Towers, request: StopRequest
    ) -> Generator[Batch, None, None]:
        """This rank's part of the held-out pairs: the same ones each time, as they are."""
        assert self.validation is not None
        count = min(
            self.recipe.runtime.validation_batches, len(self.validation) // self.recipe.batch_size
        )
        return load_batches(
            self.validation,
            self.validation.order(0),
            augmentation=towers.view,
            first_step=0,
            last_step=count,
            image_ids=self.recipe.mask.same_image,
            stops=request.is_made,
            **self._common(towers),
        )

    def losses_of_sources(
        self, loss_B: torch.Tensor, source_B: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """The loss of each source's pairs, NaN for the others': to be averaged over all ranks."""
        if len(self.selection.names) == 1 or source_B is None:
            return {}
        nothing = torch.full_like(loss_B, torch.nan)
        return {
            f"source/{name}/loss": torch.where(source_B == index, loss_B.detach(), nothing)
            for index, name in enumerate(self.selection.names)
        }

    def samples_of_sources(self, samples: int) -> dict[str, float]:
        """How many of the first `samples` pairs were each source's."""
        if not isinstance(self.selection, Mixture):
            return {}
        counts = self._order.counts(samples)
        return {
            f"source/{name}/samples": float(count)
            for name, count in zip(self.selection.names, counts, strict=True)
        }

    @cached_property
    def _order(self) -> Order | MixedOrder:
        return self.selection.order(self.recipe.seed)

    def _common(self, towers: Towers) -> dict[str, Any]:
        runtime = self.recipe.runtime
        return {
            "tokenize": ShortTokens(towers.tokenize),
            "image_size": towers.image_size,
            "batch_size": self.recipe.batch_size,
            "workers": runtime.workers,
            "prefetch": runtime.prefetch,
            "patience": runtime.patience,
            "cache": runtime.cache,
            "rank": self.world.rank,
            "world_size": self.world.size,
        }
