"""Decontamination: training pairs whose picture is in an evaluation set, or nearly."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.decontamination import EvaluationPictures, content_of
from winnow.curation.hamming import check_radius
from winnow.curation.rules.rule import Measure, Rule
from winnow.curation.rules.stamp import stamp

_MEND = "`winnow curate --against SET` writes it, and every machine that curates has to see it"


@dataclass(frozen=True, kw_only=True)
class Contaminated(Rule):
    """Drops pictures that an index of evaluation sets holds, or whose perceptual hash is near one.

    The reason names the picture of the set.
    """

    codes: ClassVar[tuple[str, ...]] = ("contaminated",)

    against: Path
    """A file that `decontamination.write_index` wrote."""
    radius: int = 2
    """In how many of 64 bits two hashes may differ, 0 to 10."""

    def __post_init__(self) -> None:
        check_radius(self.radius, of="Contaminated")

    def identity(self) -> str:
        """See Rule. By what is in the index: wherever it lies and whoever wrote it again."""
        content = _content(self.against, stamp(self.against, mend=_MEND))
        return json.dumps([self.name(), self.radius, content])

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule. Raises InputError where the index is missing, damaged or outdated."""
        pictures = _open(self.against, stamp(self.against, mend=_MEND), self.radius)
        same = pictures.same(rows)
        near, distances = pictures.nearest(rows)
        differing = pc.binary_join_element_wise(
            pc.cast(pa.array(distances), pa.string()), "of 64 bits differ", " "
        )
        return pc.coalesce(
            pc.binary_join_element_wise("contaminated: is ", same, ""),
            pc.binary_join_element_wise("contaminated: like ", near, ", ", differing, ""),
        )

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule. Null where no picture of the sets is within the radius."""
        pictures = _open(self.against, stamp(self.against, mend=_MEND), self.radius)
        _, distances = pictures.nearest(rows)
        values = pa.array(np.where(distances < 0, 0, distances), mask=distances < 0)
        return (Measure("bits from an evaluation picture", values, least=self.radius + 1),)


# Slices and workers ask once for every shard.
@lru_cache(maxsize=4)
def _content(path: Path, _: tuple[int, int]) -> str:
    return content_of(path)


# Rules travel to workers afresh with every shard, and opening an index sorts its hashes.
@lru_cache(maxsize=4)
def _open(path: Path, _: tuple[int, int], radius: int) -> EvaluationPictures:
    return EvaluationPictures.open(path, radius=radius)
