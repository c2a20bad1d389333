"""CLIP score: how close a model puts a caption to its picture.

    score = x . t / (|x| |t|)

with x and t the embeddings of picture and caption (Hessel et al., "CLIPScore", arXiv 2104.08718,
without its factor 2.5 and its cut at 0; the `clip_*_similarity_score` of DataComp, arXiv
2304.14108). The picture is the view that `winnow evaluate` takes, the model's own.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.data.images import VIEW_VERSION, ImageError, View, evaluation_view
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.models.encoder import Encoder

_VERSION = 1
"""To be raised with any change in what is made of the features."""


@dataclass(frozen=True, kw_only=True)
class ClipScore(Annotator):
    """The cosine, in float32, of the embeddings of picture and caption."""

    reads_pictures: ClassVar[bool] = True

    model: str
    """The folder of a winnow run, `local-dir:PATH`, or NAME:WEIGHTS of open_clip."""
    batch_size: int = 64
    """Pairs that are embedded at once; changes scores by rounding at most."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"ClipScore(batch_size={self.batch_size}): give 1 or more")

    @property
    def name(self) -> str:
        """See Annotator."""
        return "clip-score"

    @property
    def schema(self) -> pa.Schema:
        """See Annotator."""
        return pa.schema([("clip_score", pa.float32())])

    def identity(self) -> str:
        """See Annotator: weights, architecture and preprocessing. Raises InputError."""
        return f"{self.name} {_VERSION} view {VIEW_VERSION} {self._fingerprint}"

    @cached_property
    def _fingerprint(self) -> str:
        # Kept, and sent along to workers, for it reads and hashes all weights.
        return _load(self.model, device="cpu").fingerprint

    def open(self) -> Annotate:
        """See Annotator. Raises InputError where the model or the device is not at hand."""
        encoder = _load(self.model, device=self.device)
        schema = pa.schema([*self.schema, ERROR])

        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            scores: list[float | None] = []
            errors: list[str | None] = []
            pairs_of_rows = zip(rows["caption"].to_pylist(), pictures, strict=True)
            for pairs in _batched(pairs_of_rows, self.batch_size):
                for score, error in _score(encoder, pairs):
                    scores.append(score)
                    errors.append(error)
            return pa.RecordBatch.from_pydict(
                {"clip_score": scores, "error": errors}, schema=schema
            )

        return annotate


def _load(model: str, *, device: str) -> "Encoder":
    from winnow.models.devices import usable_device
    from winnow.models.encoder import load_encoder

    return load_encoder(model, device=str(usable_device(device)))


def _batched(pairs: Iterable[tuple[str, bytes]], size: int) -> Iterator[list[tuple[str, bytes]]]:
    rest = iter(pairs)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _score(
    encoder: "Encoder", pairs: list[tuple[str, bytes]]
) -> Iterator[tuple[float | None, str | None]]:
    """Score or error of every pair."""
    views: list[np.ndarray | ImageError] = [_view(picture, encoder.view) for _, picture in pairs]
    readable = [v for v in views if not isinstance(v, ImageError)]
    captions = [c for (c, _), v in zip(pairs, views, strict=True) if not isinstance(v, ImageError)]
    cosines = iter(_cosines(encoder, np.stack(readable), captions) if readable else [])
    for view in views:
        if isinstance(view, ImageError):
            yield None, str(view)
            continue
        cosine = next(cosines)
        if np.isfinite(cosine):
            yield cosine, None
        else:
            yield None, f"score not finite: the model gives {cosine}"


def _view(picture: bytes, view: View) -> np.ndarray | ImageError:
    try:
        return evaluation_view(picture, view=view)
    except ImageError as error:
        return error


def _cosines(encoder: "Encoder", image_BCHW: np.ndarray, captions: list[str]) -> list[float]:
    import torch
    from torch.nn.functional import cosine_similarity

    image_BD = encoder.encode_image(torch.from_numpy(image_BCHW))
    text_BD = encoder.encode_text(captions)
    return cosine_similarity(image_BD, text_BD, dim=1).tolist()
