"""What is said of the pictures of a split, kept beside their features: samples.parquet.

key, labels, captions, statements and answer of every picture, in the split's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.evaluation.sets import Sample
from winnow.evaluation.statements import Statements
from winnow.types import InputError

SAMPLES_FILE = "samples.parquet"
_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "labels": pa.list_(pa.int32()),
        "captions": pa.list_(pa.string()),
        "statements": pa.list_(pa.string()),
        "answer": pa.int32(),
    }
)


class Captions(NamedTuple):
    """The captions of a split, each once."""

    texts: tuple[str, ...]
    """M distinct ones in the order of first occurrence."""
    pair_P2: np.ndarray
    """int64: (picture, distinct caption) that belong together, each once."""


class AskedStatements(NamedTuple):
    """The statements of a split, and of which picture each is a candidate."""

    texts: tuple[str, ...]
    """M distinct ones in the order of first occurrence."""
    asked: Statements


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTable:
    """Keys, labels, captions and statements, without the pictures."""

    table: pa.Table

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "SampleTable":
        """From the samples of a split, in order."""
        rows = [{name: getattr(sample, name) for name in _FIELDS} for sample in samples]
        return cls(table=pa.Table.from_pylist(rows, schema=_SCHEMA))

    def write(self, folder: Path) -> None:
        """Into `folder`, so that the file appears whole or not at all."""
        partial = folder / f"{SAMPLES_FILE}.partial"
        pq.write_table(self.table, partial)
        partial.replace(folder / SAMPLES_FILE)

    @classmethod
    def read(cls, folder: Path) -> "SampleTable":
        """From `folder`. Raises InputError where the file is missing or damaged."""
        path = folder / SAMPLES_FILE
        try:
            return cls(table=pq.read_table(path, schema=_SCHEMA))
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path} is missing or damaged ({error}): delete the folder, and the same command "
                "makes it again"
            ) from error

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The pictures' names."""
        return tuple(self.table.column("key").to_pylist())

    @cached_property
    def label_N(self) -> np.ndarray:
        """int64; for a set whose pictures have one label each."""
        return self.table.column("labels").combine_chunks().flatten().to_numpy().astype(np.int64)

    def label_NK(self, num_classes: int) -> np.ndarray:
        """bool; for a set whose pictures have any number of labels."""
        lists = self.table.column("labels").combine_chunks()
        label_NK = np.zeros((len(lists), num_classes), dtype=bool)
        rows = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
        label_NK[rows, lists.flatten().to_numpy()] = True
        return label_NK

    @cached_property
    def captions(self) -> Captions:
        """The captions; none for a set without."""
        texts: dict[str, int] = {}
        pairs = [
            (picture, caption)
            for picture, captions in enumerate(self.table.column("captions").to_pylist())
            for caption in dict.fromkeys(texts.setdefault(text, len(texts)) for text in captions)
        ]
        return Captions(tuple(texts), np.array(pairs, dtype=np.int64).reshape(-1, 2))

    @cached_property
    def statements(self) -> AskedStatements:
        """The statements; for a set that has them."""
        lists = self.table.column("statements").combine_chunks()
        encoded = lists.flatten().dictionary_encode()
        starts = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
        text_S = encoded.indices.to_numpy().astype(np.int64)
        answer_N = self.table.column("answer").to_numpy().astype(np.int64)
        texts = tuple(encoded.dictionary.to_pylist())
        return AskedStatements(texts, Statements(starts, text_S, answer_N))


_FIELDS = tuple(_SCHEMA.names)
