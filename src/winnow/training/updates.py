"""One update of a run: from the batch that the loader gave to the numbers that are logged."""

from dataclasses import dataclass

from winnow.data.batch import Batch
from winnow.data.device_augmentation import apply_colors
from winnow.distributed import largest, world
from winnow.training.assembly import Assembly
from winnow.training.audit_log import AuditLog
from winnow.training.average import update_average
from winnow.training.chance import seed_step
from winnow.training.flops import peak_flops
from winnow.training.memory import memory_gb
from winnow.training.metrics import Clock
from winnow.training.norms import UpdateNorm
from winnow.training.optimizer import set_learning_rate
from winnow.training.parallel import autocast
from winnow.training.recipe import Recipe
from winnow.training.run_data import RunData
from winnow.training.step import StepReport, means, training_step


@dataclass(frozen=True)
class Updates:
    """What every update of a run needs."""

    recipe: Recipe
    data: RunData
    assembly: Assembly
    audit: AuditLog | None
    """What is kept of every pair, if anything is."""

    def clock(self) -> Clock:
        """One that knows what a step computes."""
        peak = peak_flops(self.assembly.device, self.recipe.precision)
        return Clock(
            self.recipe.batch_size,
            forward_flops=self.assembly.forward_flops,
            peak_flops=None if peak is None else peak * world().size,
        )

    def make(self, batch: Batch, step: int, clock: Clock) -> dict[str, float]:
        """The update of one step; its row of numbers where it is logged. Collective."""
        recipe, assembly = self.recipe, self.assembly
        is_logged = (step + 1) % recipe.runtime.log_every == 0 or step + 1 == recipe.steps
        norm = UpdateNorm(assembly.towers) if is_logged else None
        learning_rate = set_learning_rate(
            assembly.optimizer, recipe.optimizer, step=step, steps=recipe.steps
        )
        seed_step(seed=recipe.seed, step=step, rank=world().rank)
        row_B = batch.row_B
        batch = self._on_device(batch)
        report = training_step(
            assembly.towers,
            assembly.optimizer,
            batch,
            rule=recipe.objective,
            mask=recipe.mask,
            step=step,
            progress=step / max(1, recipe.steps - 1),
            seed=recipe.seed,
            micro_batches=recipe.micro_batches,
            max_gradient_norm=recipe.optimizer.max_gradient_norm,
            precision=autocast(recipe.precision, assembly.device),
            teacher=assembly.average if recipe.teacher == "average" else None,
            loss_scale=assembly.loss_scale,
        )
        if assembly.average is not None and recipe.average is not None:
            update_average(assembly.average, assembly.towers, recipe.average, step=step + 1)
        if self.audit is not None:
            self.audit.observe(step, row_B, report)
        clock.step_done(tokens=batch.text_BT.shape[1])
        if norm is None:
            return {}
        row = {"samples": float((step + 1) * recipe.batch_size)}
        row |= report.row() | norm.row() | {"learning_rate": learning_rate}
        return row | self._sources(report, batch, step) | self._resources(clock)

    def _on_device(self, batch: Batch) -> Batch:
        id_B, epoch_B = batch.id_B, batch.epoch_B
        batch = batch.to(self.assembly.device)
        if self.recipe.augmentation.colours_on == "workers":
            return batch
        assert epoch_B is not None, "the loader always says"
        image_BCHW = apply_colors(
            batch.image_BCHW,
            id_B,  # as it is on the CPU, where chance is drawn
            epoch_B,
            augmentation=self.recipe.augmentation,
            seed=self.recipe.seed,
        )
        return batch._replace(image_BCHW=image_BCHW)

    def _sources(self, report: StepReport, batch: Batch, step: int) -> dict[str, float]:
        samples = self.data.samples_of_sources((step + 1) * self.recipe.batch_size)
        losses = means(self.data.losses_of_sources(report.loss_B, batch.source_B))
        return samples | {name: loss for name, loss in losses.items() if loss == loss}

    def _resources(self, clock: Clock) -> dict[str, float]:
        row = clock.lap() | {"memory_gb": memory_gb(self.assembly.device)}
        # All wait for the rank that waits for data, and the first one's own share says little.
        row["data_wait_share"] = largest(row["data_wait_share"])
        if self.assembly.loss_scale is not None:
            row["skipped_steps"] = float(self.assembly.loss_scale.skipped)
        return row
