"""Text that is to be seen in the picture: what `rules/text_spotting.py` compares with captions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.spotting import SpottingError, open_spotter, spotter_identity
from winnow.types import InputError

SPOTTED = pa.list_(
    pa.struct(
        [
            pa.field("text", pa.string()),
            pa.field("confidence", pa.float32()),  # 0 to 1
            pa.field("box", pa.list_(pa.int32())),  # x, y of four corners, clockwise, in pixels
        ]
    )
)


@dataclass(frozen=True, kw_only=True)
class SpotText(Annotator):
    """Fills `spotted`, the lines of text in the picture; an empty list where there are none."""

    reads_pictures: ClassVar[bool] = True

    max_side: int = 640
    """Longer side in pixels at which text is looked for; larger pictures are reduced to it.

    640 leaves the 512-pixel pictures that datasets are mostly stored as untouched. The time goes
    with the area: 320 takes a third of it on them and misses small text.
    """
    min_confidence_stored: float = 0.5
    """Less certain lines, 0 to 1, are not kept; a rule can ask for more, not for less."""

    def __post_init__(self) -> None:
        if self.max_side < 32:
            raise InputError(f"max_side is {self.max_side}: text needs 32 pixels or more")
        if not 0 <= self.min_confidence_stored <= 1:
            raise InputError(
                f"min_confidence_stored is {self.min_confidence_stored}: give a number from 0 to 1"
            )

    @property
    def name(self) -> str:
        """See Annotator."""
        return "spotting"

    @property
    def schema(self) -> pa.Schema:
        """See Annotator."""
        return pa.schema([pa.field("spotted", SPOTTED)])

    def identity(self) -> str:
        """See Annotator."""
        engine = spotter_identity(max_side=self.max_side)
        return f"{engine} min_confidence_stored={self.min_confidence_stored!r}"

    def open(self) -> Annotate:
        """See Annotator."""
        spot = open_spotter(max_side=self.max_side)
        schema = self.schema.append(ERROR)

        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            found: list[dict[str, Any]] = []
            for picture in pictures:
                try:
                    lines = [
                        line._asdict()
                        for line in spot(picture)
                        if line.confidence >= self.min_confidence_stored
                    ]
                    found.append({"spotted": lines, "error": None})
                except SpottingError as error:
                    found.append({"spotted": None, "error": f"spotting failed: {error}"})
            assert len(found) == rows.num_rows, "there is one picture for each row"
            return pa.RecordBatch.from_pylist(found, schema=schema)

        return annotate
