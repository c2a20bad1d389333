"""The pairs of selections as one model sees them: every picture, and every distinct caption once.

Features are kept by what they depend on (`embed.py`), so a second look costs nothing, and a killed
one goes on where it was.

N pairs in the order of the selections, M distinct captions, D the width of the joint space.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.data.selection import Selection
from winnow.data.sources import open_reader
from winnow.evaluation.embed import Embedder
from winnow.evaluation.sets import EvaluationSet, Sample


class PairFeatures(NamedTuple):
    """What a model makes of pairs; features are as it gives them, not normalized, float32."""

    image_ND: np.ndarray
    """Memory-mapped, as is the next."""
    text_MD: np.ndarray
    text_N: np.ndarray
    """int64: which of the M captions is each pair's."""
    captions: pa.Array
    """The M distinct ones, in the order of first occurrence."""


def embed_pairs(embedder: Embedder, selections: Sequence[Selection]) -> PairFeatures:
    """The features of all pairs of `selections`, computed as far as they lack.

    Raises InputError for a shard that is gone or has changed, and for a picture that cannot be
    read.
    """
    columns = [chunk for one in selections for chunk in one.table["caption"].chunks]
    encoded = pc.dictionary_encode(pa.chunked_array(columns, pa.string())).combine_chunks()
    return PairFeatures(
        image_ND=embedder.images(_as_set(selections)).image_ND,
        text_MD=embedder.texts(encoded.dictionary.to_pylist(), what="captions"),
        text_N=encoded.indices.to_numpy().astype(np.int64),
        captions=encoded.dictionary,
    )


def _as_set(selections: Sequence[Selection]) -> EvaluationSet:
    """The pictures as an evaluation set, which needs no reading to be known."""
    prints = "\0".join(one.fingerprint for one in selections)
    return EvaluationSet(
        name=" and ".join(one.directory.name for one in selections),
        folder=selections[0].directory,
        split="pairs",
        classnames=(),
        templates=(),
        label_kind="none",
        has_captions=True,
        has_statements=False,
        num_samples=sum(map(len, selections)),
        fingerprint=hashlib.sha256(prints.encode()).hexdigest(),
        captions_each=(1, 1),
        read=lambda: _pictures(selections),
    )


def _pictures(selections: Sequence[Selection]) -> Iterator[Sample]:
    for selection in selections:
        for shard, kept in selection.by_shard():
            with open_reader(shard, columns=selection.columns) as reader:
                for one in kept:
                    yield Sample(one.address.key, reader.read(one.address))
