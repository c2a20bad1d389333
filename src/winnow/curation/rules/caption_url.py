"""Captions that are an address of the web, or mostly one."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import normalised, num_words
from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule, check_range, reason_where

_ADDRESS = (
    r"\b(?:https?://|www\.)\S+"
    r"|\b[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|\b[\w-]+(?:\.[\w-]+)*\.(?:com|net|org|info|biz|edu|gov)\b(?:/\S*)?"
)


@dataclass(frozen=True, kw_only=True)
class CaptionUrl(Rule):
    """Drops captions of which web or mail addresses are too large a share.

    "Red apple - www.example.com" has words of its own and stays, however long the address.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-url",)

    least_share: float = 0.5
    """Dropped from this share on, 0 to 1, of addresses among the words."""

    def __post_init__(self) -> None:
        check_range(self, "least_share", least=0, most=1)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        captions = normalised(rows["caption"])
        addresses = pc.count_substring_regex(captions, _ADDRESS)
        words = num_words(captions)
        too_many = pc.greater_equal(
            addresses, pc.multiply(pc.cast(words, pa.float64()), self.least_share)
        )
        return reason_where(pc.and_(too_many, pc.greater(addresses, 0)), "caption-url")
