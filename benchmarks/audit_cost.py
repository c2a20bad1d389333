"""What it costs to gather what training says of every pair: steps with the audit and without.

Same towers, optimizer, pictures and process; peers take turns. A turn with the audit also writes
its segment, after every `--steps` steps: more often than a run with checkpoints every hundred. The
margins, which the loss has with and without it, are in both.

    python benchmarks/audit_cost.py [--rounds 12] [--steps 20]
    python benchmarks/audit_cost.py --device cuda [--rounds 20] [--steps 50]
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from harness import RATIO_COLUMNS, Ratio, Table, alternate, ratio_of, write_table

from winnow.data.audit_segments import SegmentFacts
from winnow.data.batch import Batch
from winnow.models.towers import Towers
from winnow.objectives import InfoNCE, ProgressiveSelfDistillation, Rule
from winnow.recipes.training import clip, tiny
from winnow.training.audit_log import AuditLog
from winnow.training.mask import Mask
from winnow.training.optimizer import build_optimizer
from winnow.training.parallel import autocast
from winnow.training.recipe import Recipe
from winnow.training.step import StepReport, training_step

AIM = 0.98
"""Of the speed without it."""
WITH, WITHOUT = "with the audit", "without"
RULES: dict[str, Rule] = {
    "InfoNCE": InfoNCE(),
    "PSD": ProgressiveSelfDistillation(initial_share=0.2),
}


def main() -> None:
    """Measure and write the table of this device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    recipe = tiny() if arguments.device == "cpu" else clip()
    recipe = replace(recipe, batch_size=arguments.batch_size or recipe.batch_size)
    ratios = [
        compare(name, rule, recipe, rounds=arguments.rounds, steps=arguments.steps, on=arguments)
        for name, rule in RULES.items()
    ]
    towers = "recipe tiny, float32" if arguments.device == "cpu" else "recipe clip, bf16"
    write_table(
        "audit_cost",
        Table(
            title=f"What the audit costs a training step, on {arguments.device}",
            columns=RATIO_COLUMNS,
            rows=[cells(ratio) for ratio in ratios],
            data=[vars(ratio) | {"verdict": ratio.verdict} for ratio in ratios],
            notes={"towers": towers, "steps in a turn, and in a segment": arguments.steps},
        ),
    )


def compare(
    name: str, rule: Rule, recipe: Recipe, *, rounds: int, steps: int, on: argparse.Namespace
) -> Ratio:
    """The speed of steps with the audit over that without."""
    with tempfile.TemporaryDirectory(prefix="audit-cost-") as folder:
        steps_of = Steps(rule, recipe, torch.device(on.device), Path(folder))
        peers: dict[str, Callable[[], None]] = {
            WITH: lambda: steps_of.with_audit(steps),
            WITHOUT: lambda: steps_of.without(steps),
        }
        times = alternate(peers, rounds=rounds)
    claim = f"{steps} steps, {name}, batch {recipe.batch_size}"
    return ratio_of(times, claim=claim, ours=WITH, theirs=WITHOUT, aim=AIM)


def cells(ratio: Ratio) -> tuple[str, ...]:
    """The cells of RATIO_COLUMNS, to a tenth of a percent."""
    low_to_high = f"{ratio.low:.3f} to {ratio.high:.3f}"
    numbers = (f"{ratio.median:.3f}", low_to_high, str(ratio.rounds), f"{ratio.aim:.2f}")
    return (ratio.claim, ratio.ours, ratio.theirs, *numbers, ratio.verdict)


@dataclass
class Steps:
    """Steps of one model on one batch."""

    rule: Rule
    recipe: Recipe
    device: torch.device
    folder: Path
    done: int = field(default=0, init=False)
    """Steps with the audit."""

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.towers = Towers(self.recipe.model).to(self.device).train()
        self.optimizer = build_optimizer(self.towers, self.recipe.optimizer)
        on_cpu = random_batch(self.towers, self.recipe.batch_size)
        self.row_B, self.batch = on_cpu.row_B, on_cpu.to(self.device)

    def with_audit(self, steps: int) -> None:
        """So many, and their segment."""
        log = AuditLog(self.folder, SegmentFacts(1, "benchmark"), first_step=self.done)
        for _ in range(steps):
            log.observe(self.done, self.row_B, self.step())
            self.done += 1
        log.write()

    def without(self, steps: int) -> None:
        """So many."""
        for _ in range(steps):
            self.step()

    def step(self) -> StepReport:
        """One step as `winnow train` does it."""
        return training_step(
            self.towers,
            self.optimizer,
            self.batch,
            rule=self.rule,
            mask=Mask(),
            step=0,
            progress=1.0,
            seed=0,
            micro_batches=1,
            max_gradient_norm=self.recipe.optimizer.max_gradient_norm,
            precision=autocast(self.recipe.precision, self.device),
        )


def random_batch(towers: Towers, size: int) -> Batch:
    """Pictures and captions of the shape that the towers take."""
    random, side = torch.Generator().manual_seed(0), towers.image_size
    image = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, generator=random)
    text = towers.tokenize([f"a picture of thing number {i}" for i in range(size)])
    ids = torch.arange(size)
    return Batch(image, text, ids, ids, caption_id_B=ids, image_id_B=None)


if __name__ == "__main__":
    main()
