"""The labels of every kept pair: which concepts of the vocabulary its caption names.

`labels.arrow` is an uncompressed Arrow IPC file with a row per pair, in the selection's order, and
a list of uint16 per head: positions in the vocabulary, ascending and distinct. It is memory-mapped;
the vocabulary beside it has its sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from winnow.concepts import HEADS
from winnow.concepts.candidates import Candidates
from winnow.data.files import sha256_of
from winnow.data.folder import Folder
from winnow.progress import track
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.concepts.vocabulary import Vocabulary

LABELS_FILE = "labels.arrow"
MOST_CONCEPTS = 65_536
"""Of one head: what uint16 can number."""

_SCHEMA = pa.schema([pa.field(head, pa.list_(pa.uint16()), nullable=False) for head in HEADS])


class HeadLabels(NamedTuple):
    """The labels of one head: those of pair n are values[offsets_N1[n] : offsets_N1[n + 1]]."""

    offsets_N1: np.ndarray
    """int64 (pairs + 1,)."""
    values: np.ndarray
    """uint16, positions in the vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of all pairs of a selection."""

    table: pa.Table
    """A column per head, memory-mapped."""

    def __len__(self) -> int:
        return self.table.num_rows

    def head(self, head: str) -> HeadLabels:
        """The labels of one head, 8 bytes a pair and 2 a label in memory."""
        chunks = self.table[head].chunks
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
        offsets_N1 = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.concatenate(lengths), out=offsets_N1[1:])
        values = np.concatenate([chunk.flatten().to_numpy() for chunk in chunks])
        return HeadLabels(offsets_N1, values)

    @classmethod
    def open(cls, folder: Path, vocabulary: Vocabulary) -> Labels:
        """The labels beside `vocabulary`. Raises InputError where they are damaged or another's."""
        path = folder / LABELS_FILE
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise _damaged(path, str(error)) from error
        if digest != vocabulary.facts.labels:
            raise _damaged(path, "its sha256 is not the one that the vocabulary names")
        return cls(table=pa.ipc.open_file(pa.memory_map(str(path))).read_all())


def write_labels(
    folder: Path,
    candidates: dict[str, Candidates],
    place: dict[str, np.ndarray],
) -> dict[str, int]:
    """Write the labels of all pairs; gives for each head how many pairs have one.

    `place` is the concept of each candidate, below 0 for none.
    """
    labelled = dict.fromkeys(HEADS, 0)
    num_pairs = len(candidates[HEADS[0]])
    with (
        Folder.at(folder).writing(LABELS_FILE) as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
        track("labels", total=num_pairs, unit="pairs") as advance,
    ):
        for start, stop in candidates[HEADS[0]].chunks():
            columns = []
            for head in HEADS:
                pair, concept = candidates[head].places(place[head], start, stop)
                counts = np.bincount(pair, minlength=stop - start)
                labelled[head] += int(np.count_nonzero(counts))
                columns.append(_lists(counts, concept))
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            advance(stop - start)
    return labelled


def _lists(counts: np.ndarray, concept: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, concept.astype(np.uint16))


def _damaged(path: Path, detail: str) -> InputError:
    return InputError(
        f"{path} of a vocabulary is missing or damaged ({detail}): make it again with "
        "`winnow concepts DIR`"
    )
