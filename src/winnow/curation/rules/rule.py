"""What a rule is: thresholds in, at most one reason per row out.

A **reason** is a short code, or "code: detail". Counts go by code; the detail says what a person
looking at the row wants to know.
"""

from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus


class Rule(Protocol):
    """A frozen dataclass of thresholds that judges rows of the ledger."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    codes: ClassVar[tuple[str, ...]]
    """Every code that a reason of this rule can begin with."""

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """One string per row: the reason to drop it, or null to keep it.

        `rows` are readable rows of the ledger with their PLACE: caption, sha256, width and height
        are never null. `corpus` covers the rows that no earlier rule drops.
        """


def reason_where(drop: pa.Array | np.ndarray, reason: str | pa.Array) -> pa.Array:
    """`reason` where `drop` is true, null elsewhere."""
    mask = pa.array(drop) if isinstance(drop, np.ndarray) else drop
    return pc.if_else(mask, reason, pa.scalar(None, pa.string()))


def code_of(reasons: pa.Array) -> pa.Array:
    """The code that each reason begins with."""
    return pc.replace_substring_regex(reasons, r"(?s)^([^:]+):.*$", r"\1")
