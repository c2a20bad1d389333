"""Pairs whose picture spells out its caption: the T of CAT (see `curation/text_match.py`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, check_range
from winnow.curation.text_match import longest_shared_run, nearest_run

_SHORTEST_MEASURED = 3


@dataclass(frozen=True, kw_only=True)
class TextSpotting(Rule):
    """Drops pairs where a run of letters in the picture is also in the caption.

    A model can match such a pair by reading. The reason says which run, and how surely it is read.
    """

    codes: ClassVar[tuple[str, ...]] = ("text-in-caption",)

    confidence: float = 0.8
    """Lines read with less, 0 to 1, are ignored.

    Below `SpotText.min_confidence_stored` (0.5) nothing changes, for such lines are not stored.
    """
    least_run: int = 5
    """Dropped from this many letters and digits on, in a run that holds more than stop words."""

    def __post_init__(self) -> None:
        check_range(self, "confidence", least=0, most=1)
        check_range(self, "least_run", least=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """See Rule."""
        return ("spotted",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        reasons: list[str | None] = [None] * rows.num_rows
        for row, caption, lines in self._rows_with_text(rows):
            texts = [line["text"] for line in lines]
            match = longest_shared_run(
                caption, texts, least_run=self.least_run, shortest=self.least_run
            )
            if match is not None:
                sureness = lines[match.line]["confidence"]
                reasons[row] = f'text-in-caption: "{match.run}" ({sureness:.2f})'
        return pa.array(reasons, type=pa.string())

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule. Runs below 3 letters are not looked for and count as 0."""
        letters = np.zeros(rows.num_rows, dtype=np.int32)
        shortest = min(_SHORTEST_MEASURED, self.least_run)
        for row, caption, lines in self._rows_with_text(rows):
            texts = [line["text"] for line in lines]
            match = longest_shared_run(caption, texts, least_run=self.least_run, shortest=shortest)
            letters[row] = match.letters if match is not None else 0
        name = "longest run of letters shared with the picture"
        return (Measure(name, pa.array(letters), most=self.least_run - 1),)

    def near_matches(self, rows: pa.RecordBatch) -> pa.Array:
        """One string per row: the near match of a row that this rule keeps; null where none is.

        They drop nothing; how many there are says what misreading may cost.
        """
        found: list[str | None] = [None] * rows.num_rows
        for row, caption, lines in self._rows_with_text(rows):
            texts = [line["text"] for line in lines]
            dropped = longest_shared_run(
                caption, texts, least_run=self.least_run, shortest=self.least_run
            )
            near = nearest_run(caption, texts, least_run=self.least_run)
            if dropped is None and near is not None:
                found[row] = f'"{near.run}" seen as "{near.seen}"'
        return pa.array(found, type=pa.string())

    def _rows_with_text(
        self, rows: pa.RecordBatch
    ) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
        """Number, caption and confident lines of the rows that have any."""
        spotted, captions = rows["spotted"], rows["caption"]
        # float32, as stored: a line of exactly the least confidence passes.
        least = np.float32(self.confidence)
        for row in np.flatnonzero(pc.list_value_length(spotted).to_numpy(zero_copy_only=False)):
            lines = [line for line in spotted[row].as_py() if line["confidence"] >= least]
            if lines:
                yield int(row), captions[row].as_py(), lines
