"""What a vocabulary is made of and what came of it: its configuration, and `vocabulary.json`."""

import hashlib
import json
from dataclasses import dataclass

from winnow.concepts import HEADS
from winnow.concepts.candidates import normalize
from winnow.concepts.labels import MOST_CONCEPTS
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """Which of what captions name becomes a concept."""

    min_count: int = 5
    """Pairs that a concept must be in."""
    max_objects: int = 10_000
    """The most frequent ones are kept."""
    max_attributes: int = 3_000
    """The most frequent ones are kept."""
    stop: tuple[str, ...] = ()
    """Further words to leave out, of both heads, with all that ends in them: "watermark" takes
    "shop watermark" too, and does not make it a shop."""

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise InputError(f"VocabularyConfig(min_count={self.min_count}): it must be 1 or more")
        for name in ("max_objects", "max_attributes"):
            if not 1 <= getattr(self, name) <= MOST_CONCEPTS:
                raise InputError(
                    f"VocabularyConfig({name}={getattr(self, name)}): it must be between 1 and "
                    f"{MOST_CONCEPTS:,}"
                )
        if not all(map(normalize, self.stop)):
            raise InputError(f"VocabularyConfig(stop={self.stop!r}): one of them is no word")

    def most(self, head: str) -> int:
        """How many concepts `head` may have."""
        return {"objects": self.max_objects, "attributes": self.max_attributes}[head]


@dataclass(frozen=True, kw_only=True)
class SelectionFacts:
    """Which selection a vocabulary is of."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class HeadNumbers:
    """One head's vocabulary in numbers: candidates = size + stopped + rare + beyond."""

    size: int
    """Concepts."""
    candidates: int
    """Distinct ones that captions name, without what is said of the picture at their end, and the
    shorter ones that those were counted as."""
    rare: int
    """Candidates in fewer than `min_count` pairs."""
    beyond: int
    """Candidates frequent enough, but not among the most frequent."""
    stopped: int
    """Candidates frequent enough, but on the stop list."""
    labelled: float
    """Share of the pairs that have at least one concept."""
    mean: float
    """Concepts of a pair, on average over all pairs."""


@dataclass(frozen=True, kw_only=True)
class VocabularySource:
    """All that a vocabulary depends on: with the same, one that is there is taken."""

    selection: SelectionFacts
    num_pairs: int
    parse: str
    """Identity of the parser that read the captions."""
    config: VocabularyConfig
    rules: str
    """Version of the code, and fingerprint of the stop list."""


@dataclass(frozen=True, kw_only=True)
class VocabularyFacts:
    """What stands in `vocabulary.json`."""

    source: VocabularySource
    heads: dict[str, HeadNumbers]
    fingerprint: str
    """sha256 over the concepts of both heads, in order: equal for the same vocabulary, whatever the
    selection."""
    labels: str
    """sha256 of `labels.arrow`, which says what every pair names."""


def fingerprint_of(concepts: dict[str, tuple[str, ...]]) -> str:
    """See VocabularyFacts."""
    return hashlib.sha256(
        json.dumps([[head, concepts[head]] for head in HEADS]).encode()
    ).hexdigest()
