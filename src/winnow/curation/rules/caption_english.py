"""Captions in another language than English, by their script and their small words."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class CaptionEnglish(Rule):
    """Drops captions that the parser does not take for English; the reason names what they are.

    Captions too short to show their language ("red apple", "Casa Batllo") stay.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-not-english",)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return ("foreign",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return pc.binary_join_element_wise("caption-not-english", rows["foreign"], ": ")
