"""What an annotator is: settings in, columns out, row by row.

An annotator sees rows of the ledger and, where it asks for them, their pictures; it knows nothing
of other rows, of thresholds or of files. What it finds is stored beside the ledger (see
`curation.annotations`), so that a rule may judge it again and again without a model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import pyarrow as pa

Annotate = Callable[[pa.RecordBatch, Iterable[bytes]], pa.RecordBatch]
"""`annotate(rows, pictures)`: one row of the annotator's columns and `error` for each of `rows`.

`rows` are at most a thousand readable rows of the ledger. `pictures` are their encoded bytes in the
same order, to be gone through once; there are none where the annotator does not read pictures. A
row that fails gets nulls and an `error`, "code: detail"; an exception is a defect, not a bad row.
"""

ERROR = pa.field("error", pa.string())
"""The last column of what an annotator returns: null where it went well."""


class Annotator(ABC):
    """A frozen keyword-only dataclass of settings; cheap to make and to pickle."""

    reads_pictures: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What its folder and the rules call it: lower-case letters, digits and hyphens."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns it fills, without `error`; all may be null, no other annotator has them."""

    @abstractmethod
    def identity(self) -> str:
        """All that decides the values: version of the code, settings, hashes of the weights.

        Values of another identity are stale. Raises InputError where a model is not at hand.
        """

    @abstractmethod
    def open(self) -> Annotate:
        """The function itself, its models loaded; called once in a process, on one thread."""
