"""Embed pictures and texts once; every protocol then works on the stored features.

Features are kept by what they depend on: the model's fingerprint (weights, architecture,
preprocessing), its precision, how pictures become views, and the pictures or texts themselves
(`feature_cache.py`). Class names and prompts are texts: other prompts embed no picture anew.

N pictures, D the width of the joint space, H that before the projection into it, M distinct texts,
K classes, P pairs of a picture and a caption of its own.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from winnow.data.images import VIEW_VERSION, ImageError, View, evaluation_view
from winnow.evaluation.feature_cache import FeatureCache, Part
from winnow.evaluation.ranking import normalised
from winnow.evaluation.sample_table import SampleTable
from winnow.evaluation.sets import EvaluationSet, Sample
from winnow.evaluation.sets.text_files import PLACEHOLDER
from winnow.progress import Advance, track
from winnow.types import InputError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

PICTURES_A_PART, TEXTS_A_PART, CLASSES_A_PART = 1024, 4096, 64
"""What a kill loses at most, on each rank."""
_BATCHES_AHEAD = 2


class Encoder(Protocol):
    """All that evaluation needs of a model; features are float32 and not normalized.

    A model may also have `encode_image_stages(image_BCHW)`, which gives two tensors: the features
    before the projection (B, H), and after it (B, D). Without it the two are one.
    """

    name: str
    precision: str
    """What it computes in."""
    view: View
    """How a picture comes to it."""

    @property
    def fingerprint(self) -> str:
        """Over weights, architecture and preprocessing, as they are at the moment."""
        ...

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with to be logits."""
        ...

    def encode_image(self, image_BCHW: "torch.Tensor", /) -> "torch.Tensor":
        """From uint8 RGB."""
        ...

    def encode_text(self, texts: list[str], /) -> "torch.Tensor":
        """In the order of `texts`."""
        ...


class ImageFeatures(NamedTuple):
    """The pictures of one split, as one model sees them; arrays are memory-mapped."""

    samples: SampleTable
    image_ND: np.ndarray
    """In the joint space, not normalized."""
    hidden_NH: np.ndarray
    """Before the projection; the former where the model has no such stage."""


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """One model and where its features are kept. Under torchrun every rank calls the same."""

    encoder: Encoder
    cache: Path
    batch_size: int = 256

    def images(self, evaluation_set: EvaluationSet) -> ImageFeatures:
        """The features of a split, computed as far as they lack.

        Raises InputError for a picture that cannot be read and for features that are not finite.
        """
        seen: list[Sample] = []
        depends = {
            **self._model(),
            "set": evaluation_set.fingerprint,
            "view": list(self.encoder.view),
            "view_version": VIEW_VERSION,
        }

        def compute(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, np.ndarray]]]:
            what = f"embedding {evaluation_set.name} {evaluation_set.split}"
            with _track(what, parts, "pictures") as advance:
                for part, views in _part_views(evaluation_set, parts, self, seen):
                    yield part, _concatenated(self._image(batch, advance) for batch in views)

        folder, arrays = FeatureCache(folder=self.cache / "images").rows(
            depends,
            compute,
            num_rows=evaluation_set.num_samples,
            part_rows=PICTURES_A_PART,
            before_facts=lambda folder: SampleTable.of(seen).write(folder),
        )
        image_ND = arrays["projected"]
        return ImageFeatures(SampleTable.read(folder), image_ND, arrays.get("hidden", image_ND))

    def texts(self, texts: Sequence[str], *, what: str) -> np.ndarray:
        """(M, D) features of `texts`, not normalized; `what` names them for people."""

        def compute(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, np.ndarray]]]:
            with _track(f"embedding {what}", parts, "texts") as advance:
                for part in parts:
                    batches = _batched(texts[part.start : part.stop], self.batch_size)
                    yield part, _concatenated(self._text(batch, what, advance) for batch in batches)

        return self._kept_texts(compute, {"texts": _digest(texts)}, len(texts), TEXTS_A_PART)

    def classes(self, classnames: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """(K, D): the prompt ensemble of every class (Radford et al. 2021, 3.1.4), normalized.

        Every prompt's feature is normalized, then they are averaged and normalized again.
        """
        num_prompts = len(templates)

        def compute(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, np.ndarray]]]:
            with _track("embedding prompts", parts, "prompts", times=num_prompts) as advance:
                for part in parts:
                    names = classnames[part.start : part.stop]
                    prompts = [t.replace(PLACEHOLDER, name) for name in names for t in templates]
                    batches = _batched(prompts, self.batch_size)
                    texts = _concatenated(self._text(b, "prompts", advance) for b in batches)
                    prompt_KTD = normalised(texts["text"]).reshape(len(names), num_prompts, -1)
                    yield part, {"text": normalised(prompt_KTD.mean(axis=1))}

        of = {"classes": _digest(classnames), "templates": _digest(templates)}
        return self._kept_texts(compute, of, len(classnames), CLASSES_A_PART)

    def _kept_texts(
        self, compute: Any, of: dict[str, str], rows: int, part_rows: int
    ) -> np.ndarray:
        cache = FeatureCache(folder=self.cache / "texts")
        depends = {**self._model(), **of}
        _, arrays = cache.rows(depends, compute, num_rows=rows, part_rows=part_rows)
        return arrays["text"]

    def _model(self) -> dict[str, str]:
        return {"model": self.encoder.fingerprint, "precision": self.encoder.precision}

    def _image(self, batch: "_Views", advance: Advance) -> dict[str, np.ndarray]:
        import torch

        views = torch.from_numpy(np.stack([future.result() for future in batch.views]))
        stages = getattr(self.encoder, "encode_image_stages", None)
        hidden, projected = stages(views) if stages else (None, self.encoder.encode_image(views))
        arrays = {"projected": _finite(projected, self.encoder, batch.what)}
        if hidden is not None and hidden is not projected:
            arrays["hidden"] = _finite(hidden, self.encoder, batch.what)
        advance(len(views))
        return arrays

    def _text(self, texts: list[str], what: str, advance: Advance) -> dict[str, np.ndarray]:
        features = _finite(self.encoder.encode_text(texts), self.encoder, what)
        advance(len(texts))
        return {"text": features}


class _Views(NamedTuple):
    """A batch of pictures being decoded."""

    views: "list[Future[np.ndarray]]"
    what: str


def _part_views(
    evaluation_set: EvaluationSet, parts: Sequence[Part], embedder: Embedder, seen: list[Sample]
) -> Iterator[tuple[Part, Iterator[_Views]]]:
    """Batches of every part asked for; all samples of the set are put into `seen`, pictureless."""

    def view(sample: Sample) -> np.ndarray:
        try:
            return evaluation_view(sample.image, view=embedder.encoder.view)
        except ImageError as error:
            where = f"{evaluation_set.folder} ({evaluation_set.split}), sample {sample.key}"
            raise InputError(
                f"{where} has a picture that cannot be read ({error}): mend it, or take the sample "
                "out"
            ) from error

    def take(count: int) -> Iterator[Sample]:
        for sample in itertools.islice(samples, count):
            seen.append(sample._replace(image=b""))
            yield sample

    samples = iter(evaluation_set.samples())
    position = 0
    # Decoding releases the interpreter's lock, so threads suffice.
    with ThreadPoolExecutor() as pool:
        for part in parts:
            deque(take(part.start - position), maxlen=0)
            own = take(part.stop - part.start)

            def batches(own: Iterator[Sample] = own) -> Iterator[_Views]:
                for batch in _batched(own, embedder.batch_size):
                    what = f"pictures {batch[0].key} to {batch[-1].key} of {evaluation_set.folder}"
                    yield _Views([pool.submit(view, sample) for sample in batch], what)

            yield part, _ahead(batches())
            position = part.stop
    deque(take(evaluation_set.num_samples - position), maxlen=0)


def _ahead(batches: Iterator[_Views]) -> Iterator[_Views]:
    """The same, some of them already begun: pictures are decoded while the model runs."""
    begun: deque[_Views] = deque()
    for batch in batches:
        begun.append(batch)
        if len(begun) > _BATCHES_AHEAD:
            yield begun.popleft()
    yield from begun


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _concatenated(batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    whole = list(batches)
    return {name: np.concatenate([batch[name] for batch in whole]) for name in whole[0]}


def _track(what: str, parts: Sequence[Part], unit: str, *, times: int = 1) -> Any:
    total = sum(part.stop - part.start for part in parts) * times
    return track(what, total=total, unit=unit)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(repr(tuple(texts)).encode()).hexdigest()


def _finite(features: "torch.Tensor", encoder: Encoder, what: str) -> np.ndarray:
    array = features.detach().float().cpu().numpy()
    if not np.isfinite(array).all():
        raise InputError(
            f"model {encoder.name} gives features that are not finite for {what}: its weights or "
            "its precision are broken, and a score would mean nothing"
        )
    return array
