"""Captions too short or too long to describe a picture."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import normalised, num_words
from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class CaptionLength(Rule):
    """Drops captions outside a range of words and characters.

    The defaults suit alt text of any length, class names ("red apple") among it. DataComp's basic
    filter (arXiv 2304.14108) asks for 3 words and 6 characters, LAION-400M (arXiv 2111.02114) for
    5 characters.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-too-short", "caption-too-long")

    min_words: int = 1
    """Words are what spaces separate; leave 1 for languages written without."""
    min_characters: int = 3
    max_words: int | None = 256
    """The ceiling of Conceptual 12M (arXiv 2102.08981); no text tower here reads more.

    None is no ceiling.
    """

    def __post_init__(self) -> None:
        check_range(self, "min_words", least=0)
        check_range(self, "min_characters", least=0)
        if self.max_words is not None:
            check_range(self, "max_words", least=1)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        captions = normalised(rows["caption"])
        words = num_words(captions)
        too_few = pc.less(words, self.min_words)
        too_short = pc.less(pc.utf8_length(captions), self.min_characters)
        reasons = reason_where(pc.or_(too_few, too_short), "caption-too-short")
        if self.max_words is None:
            return reasons
        too_many = pc.greater(words, self.max_words)
        return pc.coalesce(reasons, reason_where(too_many, "caption-too-long"))

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        captions = normalised(rows["caption"])
        return (
            Measure("words", num_words(captions), least=self.min_words, most=self.max_words),
            Measure("characters", pc.utf8_length(captions), least=self.min_characters),
        )
