"""A selection that somebody else made, by the uids of its pairs."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule, reason_where
from winnow.curation.rules.stamp import stamp
from winnow.data.subset import Subset

_MEND = "give a subset.npy as DataComp or a selection has it"


@dataclass(frozen=True, kw_only=True)
class InSubset(Rule):
    """Keeps the pairs whose uid is in a subset file of DataComp's form (see `data.subset`).

    It needs shards whose json carries the uids that the subset was made from, as DataComp's do:
    elsewhere a uid is a hash of the pair.
    """

    codes: ClassVar[tuple[str, ...]] = ("not-in-subset",)

    path: Path

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule. Raises InputError where the file cannot be read or is not sorted."""
        return reason_where(
            ~_open(self.path, stamp(self.path, mend=_MEND)).contains(rows["uid"]), "not-in-subset"
        )


# Rules travel to workers afresh with every shard, and opening a subset reads it once.
@lru_cache(maxsize=4)
def _open(path: Path, _: tuple[int, int]) -> Subset:
    return Subset.open(path)
