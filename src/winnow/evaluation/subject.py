"""An evaluation set as the protocols see it: its splits, and a model's features of what they need.

Which split is which goes by its name: unless another is asked for, "test" is measured on where
there is one, else what is held out for validation; a probe is fitted on "train", and chosen on a
validation split that is not measured on. Everything is embedded when it is first asked for, on all
ranks together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from winnow.evaluation.embed import Embedder, ImageFeatures
from winnow.evaluation.sets import EvaluationSet, MissingSetError, open_set, splits_of
from winnow.evaluation.sets.contents import VALIDATION
from winnow.types import InputError


class UnsuitableError(InputError):
    """A protocol cannot be run on a set; the words say what it needs."""


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """Which split of a set is measured, and in which words its texts are put to the model."""

    split: str | None = None
    """The one to measure on; None: test, else the first that is held out for validation."""
    classnames: tuple[str, ...] = ()
    """In label order, in the place of the set's own; none: the set's own."""
    templates: tuple[str, ...] = ()
    """Prompts, in which "{c}" stands for the class; none: the set's own."""
    caption: str = "{}"
    """What a caption is put into before it is embedded; DiHT's is "a photo of {}."."""

    def __post_init__(self) -> None:
        if "{}" not in self.caption:
            raise InputError(f"the caption template {self.caption!r} has no {{}} for the caption")

    def measured(self, present: Sequence[str], place: Path | str) -> str:
        """The split to measure on. Raises MissingSetError where it is not among `present`."""
        if self.split is not None:
            # Whether it is there, opening it says.
            return self.split
        test = next((split for split in ("test", *VALIDATION) if split in present), None)
        if test is None:
            raise MissingSetError(
                f"{place} has no split to measure on: it has {', '.join(present)}, and "
                f"{', '.join(('test', *VALIDATION))} would be taken, the first that is there; "
                "name another with --split"
            )
        return test

    def put(self, opened: EvaluationSet) -> EvaluationSet:
        """The set in these words. Raises InputError where the names are not one a class."""
        if opened.label_kind == "none":
            return opened
        if self.classnames and len(self.classnames) != len(opened.classnames):
            raise InputError(
                f"{opened.folder} has {len(opened.classnames)} classes, and the class names that "
                f"are given are {len(self.classnames)}: one a line, in the order of its labels"
            )
        return replace(
            opened,
            classnames=self.classnames or opened.classnames,
            templates=self.templates or opened.templates,
        )


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
        presentation: Presentation,
        records: Path,
    ) -> "Subject":
        """Open and check the splits that are needed of the set at `place`.

        Raises MissingSetError where there is none, and InputError for one that is not whole.
        """
        present = splits_of(place)
        test = presentation.measured(present, place)
        chosen = {"test": test}
        if with_training:
            rest = [split for split in VALIDATION if split in present and split != test]
            chosen |= {"train": "train"} if "train" in present and test != "train" else {}
            chosen |= {"validation": rest[0]} if rest else {}
        opened = {
            role: open_set(place, split=split, name=name, records=records)
            for role, split in chosen.items()
        }
        return cls(
            embedder=embedder,
            test=presentation.put(opened["test"]),
            train=opened.get("train"),
            validation=opened.get("validation"),
            caption=presentation.caption,
        )

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


def open_subjects(
    places: Mapping[str, Path | str],
    *,
    embedder: Embedder,
    with_training: bool,
    presentation: Presentation,
) -> tuple[list[Subject], dict[str, str]]:
    """Every set that is there, and for every other one why it is not."""
    subjects, missing = [], {}
    for name, place in places.items():
        try:
            subject = Subject.open(
                place,
                name=name,
                embedder=embedder,
                with_training=with_training,
                presentation=presentation,
                records=embedder.cache / "sets",
            )
        except MissingSetError as error:
            missing[name] = str(error)
        else:
            subjects.append(subject)
    return subjects, missing
