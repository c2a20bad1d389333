"""Captions without words: only digits, punctuation or symbols."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import normalised
from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range, reason_where


@dataclass(frozen=True, kw_only=True)
class CaptionLetters(Rule):
    """Drops captions in which letters, of any script, are too small a share.

    Article numbers, dates, prices and phone numbers are what the share catches beyond captions
    without any letter; "4 x 4 off-road car, 2004" is two thirds letters and stays.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-not-words",)

    min_share: float = 0.3
    """Least share, 0 to 1, of letters and their marks among the characters that are no spaces.

    Our choice: low enough for "iPhone 12, 64 GB, 2020", high enough for "2020-10-13 12:40 h".
    """

    def __post_init__(self) -> None:
        check_range(self, "min_share", least=0, most=1)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        captions = normalised(rows["caption"])
        letters = pc.utf8_length(pc.replace_substring_regex(captions, r"[^\p{L}\p{M}]+", ""))
        visible = pc.subtract(pc.utf8_length(captions), pc.count_substring(captions, " "))
        # A blank caption has no letter either: it must not escape as a share of 0 / 0.
        least = pc.max_element_wise(pc.multiply(pc.cast(visible, pa.float64()), self.min_share), 1)
        return reason_where(pc.less(letters, least), "caption-not-words")

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule."""
        captions = normalised(rows["caption"])
        letters = pc.utf8_length(pc.replace_substring_regex(captions, r"[^\p{L}\p{M}]+", ""))
        visible = pc.subtract(pc.utf8_length(captions), pc.count_substring(captions, " "))
        # A blank caption has none: 0 of 1.
        share = pc.divide(pc.cast(letters, pa.float64()), pc.max_element_wise(visible, 1))
        return (Measure("share of letters", share, least=self.min_share),)
