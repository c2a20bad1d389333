"""Parsed captions by hand, in the columns that vocabularies are made of."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from winnow.concepts import KeptRows
from winnow.concepts.vocabulary import (
    SelectionFacts,
    Vocabulary,
    VocabularyConfig,
    build_vocabulary,
)
from winnow.curation.annotators.parse import SCHEMA as PARSE

COLUMNS = pa.schema(
    [
        ("uid", pa.string()),
        ("sha256", pa.string()),
        ("caption", pa.string()),
        PARSE.field("objects"),
    ]
)

Pair = tuple[str, Sequence[tuple[str, Sequence[str]]]]
"""A caption, and its objects with their attributes."""


def pairs(*captions: str, times: int = 1) -> list[Pair]:
    """Each caption `times` times: "old tired+dog, cat" has the tired old dog and a cat."""
    return [(caption, [_object(part) for part in caption.split(", ")]) for caption in captions] * (
        times
    )


def table(found: Sequence[Pair]) -> pa.Table:
    """COLUMNS; a caption without objects has null."""
    rows = [
        {
            "uid": f"{number:032x}",
            "sha256": hashlib.sha256(caption.encode()).hexdigest(),
            "caption": caption,
            "objects": [
                {"text": lemma, "lemma": lemma, "attributes": said, "start": 0, "end": 1}
                for lemma, said in objects
            ]
            or None,
        }
        for number, (caption, objects) in enumerate(found)
    ]
    return pa.Table.from_pylist(rows, schema=COLUMNS)


def batches(rows: pa.Table, size: int) -> KeptRows:
    """The rows in batches of `size`, which begin in the middle of their memory."""
    return lambda: iter(rows.combine_chunks().to_batches(max_chunksize=size))


def build(
    folder: Path,
    rows: pa.Table | Sequence[Pair],
    *,
    batch_size: int = 1000,
    name: str = "clean",
    fingerprint: str = "f0",
    parse: str = "rules 1",
    **config,
) -> Vocabulary:
    """The vocabulary of `rows`, with an attribute that is always there."""
    rows = rows if isinstance(rows, pa.Table) else table(rows)
    return build_vocabulary(
        batches(rows, batch_size),
        folder,
        config=VocabularyConfig(**config),
        selection=SelectionFacts(name=name, fingerprint=fingerprint),
        parse=parse,
        num_rows=len(rows),
    )


def counted(vocabulary: Vocabulary, head: str) -> dict[str, int]:
    """Concepts in order, with their counts."""
    return dict(zip(vocabulary.concepts[head], vocabulary.counts[head].tolist(), strict=True))


def _object(words: str) -> tuple[str, list[str]]:
    said, _, lemma = words.rpartition("+")
    return lemma, said.split()
