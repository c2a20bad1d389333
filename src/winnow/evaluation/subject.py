"""An evaluation set as the protocols see it: its splits, and a model's features of what they need.

Which split is which goes by its name: "test" is measured on where there is one, else what is held
out for validation; a probe is fitted on "train", and chosen on a validation split that is not
measured on. Everything is embedded when it is first asked for, on all ranks together.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from winnow.evaluation.embed import Embedder, ImageFeatures
from winnow.evaluation.sets import EvaluationSet, MissingSetError, open_set, splits_of
from winnow.types import InputError

PROBES = ("linear-probe", "few-shot")
"""The protocols that fit something, on a training split."""
PROTOCOLS = ("zero-shot", "retrieval", "statements", *PROBES)
_VALIDATION = ("val", "validation", "valid", "dev")


class UnsuitableError(InputError):
    """A protocol cannot be run on a set; the words say what it needs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One set and one model."""

    embedder: Embedder
    test: EvaluationSet
    train: EvaluationSet | None
    """What probes are fitted on; None where there is none, or nothing asks for it."""
    validation: EvaluationSet | None
    """What probes are chosen on, likewise."""
    caption: str
    """What a caption is put into: "{}", "a photo of {}."."""

    @classmethod
    def open(
        cls,
        place: Path | str,
        *,
        name: str,
        embedder: Embedder,
        with_training: bool,
        caption: str,
        records: Path,
    ) -> "Subject":
        """Open and check the splits that are needed of the set at `place`.

        Raises MissingSetError where there is none, and InputError for one that is not whole.
        """
        present = splits_of(place)
        test = next((split for split in ("test", *_VALIDATION) if split in present), None)
        if test is None:
            raise MissingSetError(
                f"{place} has no split to measure on: it has {', '.join(present)}, and "
                f"{', '.join(('test', *_VALIDATION))} would be taken, the first that is there"
            )
        chosen = {"test": test}
        if with_training:
            rest = [split for split in _VALIDATION if split in present and split != test]
            chosen |= {"train": "train"} if "train" in present else {}
            chosen |= {"validation": rest[0]} if rest else {}
        opened = {
            role: open_set(place, split=split, name=name, records=records)
            for role, split in chosen.items()
        }
        return cls(
            embedder=embedder,
            test=opened["test"],
            train=opened.get("train"),
            validation=opened.get("validation"),
            caption=caption,
        )

    def lacks(self, protocol: str) -> str | None:
        """What a protocol needs and this set has not; None where it can run."""
        single = self.test.label_kind == "single"
        if protocol == "zero-shot":
            return "labels" if self.test.label_kind == "none" else None
        if protocol == "retrieval":
            return None if self.test.has_captions else "captions"
        if protocol == "statements":
            return None if self.test.has_statements else "statements"
        if not single:
            return "pictures with one label each"
        return None if self.train is not None else "a split called train"

    def embed(self, protocols: Sequence[str]) -> None:
        """Have everything embedded that these protocols need."""
        runs = [protocol for protocol in protocols if self.lacks(protocol) is None]
        needs = {
            "zero-shot": ("class_KD",),
            "retrieval": ("caption_MD",),
            "statements": ("statement_MD",),
            "linear-probe": ("training", "validating"),
            "few-shot": ("training", "class_KD"),
        }
        # In one order on all ranks.
        for name in dict.fromkeys(["tested", *(need for run in runs for need in needs[run])]):
            getattr(self, name)

    @cached_property
    def tested(self) -> ImageFeatures:
        """Of the pictures that are measured on."""
        return self.embedder.images(self.test)

    @cached_property
    def training(self) -> ImageFeatures | None:
        """Of the pictures that probes are fitted on."""
        return None if self.train is None else self.embedder.images(self.train)

    @cached_property
    def validating(self) -> ImageFeatures | None:
        """Of the pictures that probes are chosen on."""
        return None if self.validation is None else self.embedder.images(self.validation)

    @cached_property
    def class_KD(self) -> np.ndarray:
        """The prompt ensembles of the classes, normalized."""
        return self.embedder.classes(self.test.classnames, self.test.templates)

    @cached_property
    def caption_MD(self) -> np.ndarray:
        """Of the distinct captions."""
        texts = [self.caption.replace("{}", text) for text in self.tested.samples.captions.texts]
        return self.embedder.texts(texts, what=f"captions of {self.test.name}")

    @cached_property
    def statement_MD(self) -> np.ndarray:
        """Of the distinct statements."""
        texts = self.tested.samples.statements.texts
        return self.embedder.texts(texts, what=f"statements of {self.test.name}")

    def prompts(self, protocol: str) -> str:
        """16 hex digits over what texts were put into; empty where no text was, or none into
        another."""
        if protocol in ("zero-shot", "few-shot"):
            return _digest((self.test.classnames, self.test.templates))
        is_plain = protocol != "retrieval" or self.caption == "{}"
        return "" if is_plain else _digest(self.caption)


def _digest(texts: object) -> str:
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16]


def open_subjects(
    places: Mapping[str, Path | str], protocols: Sequence[str], *, embedder: Embedder, caption: str
) -> tuple[list[Subject], dict[str, str]]:
    """Every set that is there, and for every other one why it is not."""
    subjects, missing = [], {}
    for name, place in places.items():
        try:
            subject = Subject.open(
                place,
                name=name,
                embedder=embedder,
                with_training=any(protocol in PROBES for protocol in protocols),
                caption=caption,
                records=embedder.cache / "sets",
            )
        except MissingSetError as error:
            missing[name] = str(error)
        else:
            subjects.append(subject)
    return subjects, missing
