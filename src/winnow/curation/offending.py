"""What in a pair makes a rule drop it: the words of the caption, the place in the picture.

Rules give a reason for a whole pair. For people who look at one, this points at the part of it. Of
text-spotting that is the run that both share; of rules on what words hold, the words that they
would drop if each were a caption; of other rules on captions, the caption.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.rules.caption_markup import CaptionMarkup
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.rules.rule import Rule
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.text_match import longest_shared_run

_BY_WORD = (CaptionUrl, CaptionMarkup)
"""Rules that look for something inside a caption."""

_MAX_WORDS = 200
"""Words that are tried one by one; a scraped caption can have a hundred thousand."""


class Marks(NamedTuple):
    """Where to look."""

    spans: tuple[tuple[int, int], ...] = ()
    """Starts and ends in the caption, in characters."""
    boxes: tuple[tuple[int, ...], ...] = ()
    """Four corners each, x and y in pixels of the picture, clockwise from the top left."""


NOTHING = Marks()


def offending(rule: Rule, row: pa.RecordBatch) -> Marks:
    """What makes `rule` drop the one readable row; it does drop it."""
    if isinstance(rule, TextSpotting):
        return _shared_run(rule, row["caption"][0].as_py(), row["spotted"][0].as_py() or [])
    whole = (0, len(row["caption"][0].as_py()))
    if isinstance(rule, _BY_WORD):
        return Marks(spans=_words_alone(rule, row) or (whole,))
    is_on_captions = all(code.startswith("caption-") for code in rule.codes)
    return Marks(spans=(whole,)) if is_on_captions and not rule.needs else NOTHING


def _shared_run(rule: TextSpotting, caption: str, lines: Sequence[dict[str, Any]]) -> Marks:
    # As the rule compares: float32, as stored.
    sure = [one for one in lines if np.float32(one["confidence"]) >= np.float32(rule.confidence)]
    texts = [line["text"] for line in sure]
    least = rule.least_run
    match = longest_shared_run(caption, texts, least_run=least, shortest=least)
    if match is None:
        return NOTHING
    return Marks(spans=((match.start, match.stop),), boxes=(tuple(sure[match.line]["box"]),))


def _words_alone(rule: Rule, row: pa.RecordBatch) -> tuple[tuple[int, int], ...]:
    """The words that the rule drops by themselves; none where what it looks for spans several."""
    caption = row["caption"][0].as_py()
    words = [found.span() for found in re.finditer(r"\S+", caption)][:_MAX_WORDS]
    alone = row.take(pa.array([0] * len(words), pa.int64()))
    column = alone.schema.get_field_index("caption")
    texts = pa.array([caption[start:end] for start, end in words], pa.string())
    alone = alone.set_column(column, alone.schema.field(column), texts)
    dropped = rule.verdicts(alone, Corpus(list)).is_valid().to_pylist()
    return tuple(span for span, is_dropped in zip(words, dropped, strict=True) if is_dropped)
