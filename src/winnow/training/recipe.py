"""A recipe: everything that decides what a run computes, typed, saved with the run."""

from dataclasses import dataclass, field
from typing import Literal

from winnow.data.images import Augmentation
from winnow.models import CustomTowers, NamedTowers
from winnow.objectives import (
    ConceptDistillation,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
)
from winnow.training.mask import Mask
from winnow.training.optimizer import OptimizerConfig
from winnow.types import InputError

Objective = (
    InfoNCE | HardNegativeNCE | ProgressiveSelfDistillation | HardNegativeSelfDistillation | SigLIP
)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is carried out; nothing here changes what it computes."""

    workers: int = 2
    """Processes that read and decode pictures; 0 does it in the training process."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""

    def __post_init__(self) -> None:
        if (
            self.workers < 0
            or min(self.log_every, self.checkpoint_every, self.keep_checkpoints) < 1
        ):
            raise InputError(
                "Runtime: workers must be at least 0; log_every, checkpoint_every and "
                f"keep_checkpoints at least 1 (given: {self})"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run computes, and how it is carried out."""

    objective: Objective
    """The rule that turns a batch of embeddings into a loss."""
    model: NamedTowers | CustomTowers
    """The towers."""
    concept_distillation: ConceptDistillation | None = None
    """Heads on the image embedding that learn a teacher's concepts; none: the objective alone."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    mask: Mask = field(default_factory=Mask)
    """Which pairs of a batch are no negatives of each other."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What happens to a picture on its way into training."""
    batch_size: int = 256
    """Pairs in a step, over all micro-batches."""
    micro_batches: int = 1
    """Parts a batch is embedded in: more of them, less memory, same gradient."""
    steps: int = 1000
    """Updates."""
    seed: int = 0
    """Seeds the weights, the order, the augmentation and the objective's choices."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the towers under autocast; weights, loss and optimizer stay float32."""
    runtime: Runtime = field(default_factory=Runtime)
    """Workers, device, logging."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.steps, self.micro_batches) < 1:
            raise InputError(
                f"batch_size {self.batch_size}, steps {self.steps} and micro_batches "
                f"{self.micro_batches} of a recipe must be at least 1"
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed} of a recipe must be from 0 to 2**63 - 1")
        if self.micro_batches > self.batch_size:
            raise InputError(
                f"{self.micro_batches} micro_batches cannot share a batch of {self.batch_size}"
            )
