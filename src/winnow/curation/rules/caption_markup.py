"""Captions with pieces of the page's source in them."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule, reason_where

# Tags by name, for "<3" and Conceptual 12M's "<PERSON>" are no markup. Entities of punctuation
# ("&amp;", "&#39;") are not here: good captions carry them.
_MARKUP = (
    r"(?i)</?(?:a|b|i|p|u|br|hr|em|h[1-6]|li|ul|ol|td|th|tr|div|img|font|span|table|strong|center|"
    r"script|style|iframe|figure)(?:\s[^>]*)?/?>"
    r"|<!--|-->|&(?:nbsp|lt|gt);"
    r"|\{\{|\}\}|<\?|%%|\{\$"
    r"|\[/?(?:caption|gallery|embed|url|img|quote)\b[^\]]*\]"
    r"|\b(?:function\s*\(|document\.|window\.|var\s+\w+\s*=)"
)


@dataclass(frozen=True, kw_only=True)
class CaptionMarkup(Rule):
    """Drops captions that hold html tags, template braces, forum codes or script."""

    codes: ClassVar[tuple[str, ...]] = ("caption-markup",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        return reason_where(pc.match_substring_regex(rows["caption"], _MARKUP), "caption-markup")
