"""How concept heads are trained, and what stands beside them on disk."""

from dataclasses import dataclass
from pathlib import Path

from winnow.concepts.measures import HeadReport
from winnow.config import load
from winnow.types import InputError

HEADS_FILE = "heads.safetensors"
FACTS_FILE = "heads.json"
HEADS_VERSION = 1
"""Raised when the same features and labels can give other heads: they are then trained again."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """How the two linear heads learn the captions' concepts from the teacher's features."""

    epochs: int = 10
    """Passes over the training pairs; many millions of pairs need fewer."""
    batch_size: int = 512
    """Pictures of one update of a head."""
    learning_rate: float = 1e-2
    """Of AdamW, at the start; it falls to 0 along a cosine."""
    weight_decay: float = 50_000.0
    """AdamW's decay of the weights (not of biases) times the pairs that a head learns from: like a
    prior's, its say falls as they grow."""
    upsampling_threshold: float = 1e-3
    """A picture with a concept of frequency f below this is repeated sqrt(this / f) times."""
    held_out: float = 0.05
    """Share of pictures that no head learns from, with all their copies: what is measured on."""
    window_rows: int = 32_768
    """Rows whose features are in memory at once: how wide the shuffle is."""
    seed: int = 0
    """Chooses what is held out, and the order."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "window_rows"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of the heads is {getattr(self, name)}: at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate of the heads is {self.learning_rate}: above 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"weight_decay of the heads is {self.weight_decay}: 0 or more")
        if not 0 <= self.upsampling_threshold <= 1:
            raise InputError(
                f"upsampling_threshold of the heads is {self.upsampling_threshold}: it is a "
                "frequency, from 0 (repeat nothing) to 1"
            )
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out of the heads is {self.held_out}: between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class HeadsFacts:
    """What trained heads depend on, and what they are worth."""

    vocabulary: str
    """Fingerprint of the vocabularies: what the rows of the weights stand for."""
    labels: str
    """Hash of what every pair's caption names of them."""
    selection: str
    """Fingerprint of the selection whose captions they learned."""
    pictures: str
    """Hash over the pictures, which a selection knows by place and size alone."""
    teacher: str
    """Name of the frozen image model."""
    teacher_identity: str
    """Hash of its weights and preprocessing."""
    config: HeadsConfig
    version: int
    """HEADS_VERSION of the code that trained them."""
    report: dict[str, HeadReport]
    """By head, on held-out pairs."""

    @classmethod
    def of(cls, folder: Path) -> "HeadsFacts | None":
        """The facts of the heads in `folder`; None where there are no complete ones.

        Raises InputError where they are damaged.
        """
        saved = SavedHeads.of(folder)
        return saved.facts if saved else None


@dataclass(frozen=True, kw_only=True)
class SavedHeads:
    """What stands in `heads.json`, which is written last: present means complete."""

    fingerprint: str
    """Of the weights beside it; see `Heads.fingerprint`."""
    facts: HeadsFacts

    @classmethod
    def of(cls, folder: Path) -> "SavedHeads | None":
        """What is in the folder's `heads.json`; see HeadsFacts.of."""
        path = folder / FACTS_FILE
        if not path.is_file():
            return None
        try:
            return load(cls, path)
        except InputError as error:
            raise damaged(folder, str(error)) from error


def damaged(folder: Path, detail: str) -> InputError:
    """The error of a folder whose heads cannot be used."""
    return InputError(
        f"the concept heads in {folder} are damaged ({detail}): delete {folder / FACTS_FILE} and "
        "make them again with `winnow concepts DIR`"
    )
