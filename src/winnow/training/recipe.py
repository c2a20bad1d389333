"""A recipe: everything that decides what a run computes, typed, saved with the run."""

from dataclasses import dataclass, field
from typing import Literal

from winnow.data.block_cache import BlockCache
from winnow.data.captions import CaptionChoice
from winnow.data.images import Augmentation
from winnow.models import CustomTowers, NamedTowers
from winnow.models.locking import FineTuning
from winnow.objectives import (
    ConceptDistillation,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
)
from winnow.training.average import WeightAverage
from winnow.training.health_rules import HealthConfig
from winnow.training.mask import Mask
from winnow.training.optimizer import AdamW, Optimizer
from winnow.training.parallel import Parallel, Precision
from winnow.training.telemetry import SinkName
from winnow.training.time_limit import seconds_of
from winnow.types import InputError

Objective = (
    InfoNCE | HardNegativeNCE | ProgressiveSelfDistillation | HardNegativeSelfDistillation | SigLIP
)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is carried out; nothing here changes what it computes, but for rounding."""

    workers: int = 2
    """Processes that read and decode pictures; 0 does it in the training process."""
    prefetch: int = 2
    """Batches that each of them reads ahead."""
    patience: float = 600.0
    """Seconds that a worker may stand still before a run gives up, saved; what it reads is named
    long before."""
    cache: BlockCache | None = None
    """Where blocks of remote shards are kept on this machine, and how many; none: every read is a
    request."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    keep_every: int | None = None
    """Steps between checkpoints that stay for good; a multiple of `checkpoint_every`."""
    evaluate_every: int = 0
    """Steps between evaluations of what was asked for; 0: none before the end."""
    best_by: str | None = None
    """The measure whose best model is kept in best/; default: the first accuracy, else the
    validation loss."""
    validation_batches: int = 8
    """Batches of the validation pairs that an evaluation takes the loss of."""
    time_limit: str | None = None
    """Save and stop after so long, as H:MM:SS, or 90m, 3.5h: to be gone before a job is killed."""
    parallel: Parallel = "ddp"
    """How several processes share the work: `ddp` has all of the model in each, `fsdp` a shard."""
    gradient_checkpointing: bool = False
    """Compute activations a second time instead of keeping them: about a third more time, far less
    memory."""
    compile: bool = False
    """Compile the towers (torch.compile): minutes at the start, faster steps."""
    telemetry: tuple[SinkName, ...] = ()
    """Where numbers go beside metrics.jsonl: `tensorboard`, `wandb`."""
    health: HealthConfig = field(default_factory=HealthConfig)
    """When a run says that something is wrong with it, and what ends it."""
    audit: bool = True
    """Keep what training says of every pair, some 15 bytes each time it is seen, for
    `winnow audit`."""

    def __post_init__(self) -> None:
        if (
            min(self.workers, self.evaluate_every) < 0
            or min(self.prefetch, self.patience) <= 0
            or min(self.log_every, self.checkpoint_every, self.keep_checkpoints) < 1
            or self.validation_batches < 1
        ):
            raise InputError(
                "Runtime: workers and evaluate_every must be at least 0; prefetch and "
                "patience above 0; log_every, checkpoint_every, keep_checkpoints and "
                "validation_batches at least 1 "
                f"(given: {self})"
            )
        if self.keep_every is not None and (
            self.keep_every < 1 or self.keep_every % self.checkpoint_every
        ):
            raise InputError(
                f"keep_every {self.keep_every} of a Runtime must be a multiple of checkpoint_every "
                f"{self.checkpoint_every}"
            )
        if self.time_limit is not None:
            seconds_of(self.time_limit)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run computes, and how it is carried out."""

    objective: Objective
    """The rule that turns a batch of embeddings into a loss."""
    model: NamedTowers | CustomTowers
    """The towers."""
    concept_distillation: ConceptDistillation | None = None
    """Heads on the image embedding that learn a teacher's concepts; none: the objective alone."""
    optimizer: Optimizer = field(default_factory=AdamW)
    """What turns gradients into steps, and how large these are from first to last."""
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    """Which layers of the towers stay as they are, and how fast the others learn."""
    average: WeightAverage | None = None
    """A running average of the weights, which is then what is evaluated and exported."""
    teacher: Literal["itself", "average"] = "itself"
    """Whose predictions PSD's soft targets are: the model's own, at no cost, or the average's, for
    one more forward pass a step."""
    mask: Mask = field(default_factory=Mask)
    """Which pairs of a batch are no negatives of each other."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What happens to a picture on its way into training."""
    captions: CaptionChoice = field(default_factory=CaptionChoice)
    """Which caption is shown of pairs that have several; no files of captions: each its own."""
    batch_size: int = 256
    """Pairs in a step, over all micro-batches."""
    micro_batches: int = 1
    """Parts a batch is embedded in: more of them, less memory, same gradient."""
    steps: int = 1000
    """Updates."""
    seed: int = 0
    """Seeds the weights, the order, the augmentation and the objective's choices."""
    precision: Precision = "fp32"
    """`bf16` and `fp16` run the towers under autocast; weights, loss and optimizer stay float32."""
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
        if self.teacher == "average":
            self._refuse_idle_teacher()

    def _refuse_idle_teacher(self) -> None:
        if self.average is None:
            raise InputError("teacher `average` of a recipe needs a weight average to be kept")
        if not isinstance(
            self.objective, ProgressiveSelfDistillation | HardNegativeSelfDistillation
        ):
            raise InputError(
                f"{type(self.objective).__name__} has no soft targets, so the teacher `average` "
                "would be asked for nothing: leave it at `itself`"
            )
