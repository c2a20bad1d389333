"""Captions in another language than the text tower reads."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class Language(Rule):
    """Keeps captions that fastText takes for the language, with at least so much confidence.

    `least=0` is the test for English of DataComp's basic filter (arXiv 2304.14108), which takes the
    likeliest language whatever its confidence; the rest of that filter is more than 2 words, more
    than 5 characters, a shorter side of at least 200 pixels and an aspect ratio of at most 3. Of
    few words no model can be sure: a threshold drops short captions first.
    """

    codes: ClassVar[tuple[str, ...]] = ("language-other", "language-uncertain")

    language: str = "en"
    """ISO 639 code, as fastText's lid.176 has it."""
    least: float = 0.5
    """Confidence, 0 to 1."""

    def __post_init__(self) -> None:
        check_range(self, "least", least=0, most=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return ("language", "language_confidence")

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        found = pc.fill_null(rows["language"], "none")
        confidence = pc.fill_null(rows["language_confidence"], 0.0)
        percent = pc.cast(pc.round(pc.multiply(confidence, 100)), pa.int32())
        detail = pc.binary_join_element_wise(found, " ", pc.cast(percent, pa.string()), "%", "")
        is_other = pc.not_equal(found, self.language)
        is_unsure = pc.less(confidence, pa.scalar(self.least, confidence.type))
        return pc.coalesce(
            reason_where(is_other, pc.binary_join_element_wise("language-other", detail, ": ")),
            reason_where(
                is_unsure, pc.binary_join_element_wise("language-uncertain", detail, ": ")
            ),
        )

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        return (Measure("confidence in the language", rows["language_confidence"], self.least),)
