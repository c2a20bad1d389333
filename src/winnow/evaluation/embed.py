"""Embed a task once; every protocol then works on the stored features.

What is stored is keyed by what it depends on: the model's fingerprint, the preprocessing, the
task's fingerprint and the precision. Any change is another key, so nothing stale can be read. The
arrays of a key are `.npy` files in one folder; `facts.json` comes last, so an interrupted embedding
is done again.

N pictures, M distinct captions, K classes, P pairs of a picture and a caption of its own.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from winnow.config import read_json, write_json
from winnow.data.images import VIEW_VERSION, ImageError, evaluation_view
from winnow.evaluation.ranking import normalised
from winnow.evaluation.tasks import PLACEHOLDER, Sample, Task
from winnow.progress import track
from winnow.types import InputError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

FACTS_FILE = "facts.json"
ARRAYS = ("image_ND", "label_N", "class_KD", "caption_MD", "pair_P2")


class Encoder(Protocol):
    """All that evaluation needs of a model; features are float32 and not normalised."""

    name: str
    fingerprint: str
    image_size: int

    def encode_image(self, image_BCHW: "torch.Tensor", /) -> "torch.Tensor":
        """From uint8 RGB."""
        ...

    def encode_text(self, texts: list[str], /) -> "torch.Tensor":
        """In the order of `texts`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """The features of one model on one task; arrays are memory-mapped."""

    keys: tuple[str, ...]
    """The pictures' names, in the task's order."""
    captions: tuple[str, ...]
    """Distinct, in the order of first occurrence."""
    image_ND: np.ndarray
    label_N: np.ndarray
    """int64; empty for a task without classes, as is the next."""
    class_KD: np.ndarray
    """The prompt ensembles, normalised."""
    caption_MD: np.ndarray
    """Empty for a task without captions, as is the next."""
    pair_P2: np.ndarray
    """int64: (picture, distinct caption) that belong together, each once."""


def embed(
    encoder: Encoder,
    task: Task,
    *,
    cache: Path,
    precision: str = "fp32",
    batch_size: int = 256,
) -> Embeddings:
    """The features of `task`, from `cache` or computed into it.

    `precision` names what the encoder computes in. Raises InputError for a picture that cannot be
    read and for features that are not finite.
    """
    dependencies = {
        "model": encoder.fingerprint,
        "task": task.fingerprint,
        "precision": precision,
        "image_size": encoder.image_size,
        "view_version": VIEW_VERSION,
    }
    key = hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache / key
    if not (folder / FACTS_FILE).is_file():
        _store(folder, _compute(encoder, task, batch_size=batch_size), dependencies)
    return _load(folder)


def prompt_ensemble(
    encoder: Encoder, classnames: Iterable[str], templates: tuple[str, ...], *, batch_size: int
) -> np.ndarray:
    """One normalised feature a class (K, D): every prompt's is normalised, then averaged."""
    prompts = (
        (index, template.replace(PLACEHOLDER, name))
        for index, name in enumerate(classnames)
        for template in templates
    )
    sums: dict[int, np.ndarray] = {}
    for batch in _batched(prompts, batch_size):
        features = _finite(encoder.encode_text([text for _, text in batch]), encoder, "a prompt")
        for (index, _), feature in zip(batch, normalised(features), strict=True):
            sums[index] = sums.get(index, 0.0) + feature
    return normalised(np.stack(list(sums.values())))


def _compute(encoder: Encoder, task: Task, *, batch_size: int) -> Embeddings:
    keys: list[str] = []
    labels: list[int] = []
    captions: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    images: list[np.ndarray] = []
    bar = track(f"embedding {task.name}", total=task.num_samples, unit="pictures")
    with bar as advance:
        for samples, image_BCHW in _views(task, size=encoder.image_size, batch_size=batch_size):
            what = f"pictures {samples[0].key} to {samples[-1].key} of {task.folder}"
            images.append(_finite(encoder.encode_image(image_BCHW), encoder, what))
            for sample in samples:
                own = dict.fromkeys(
                    captions.setdefault(text, len(captions)) for text in sample.captions
                )
                pairs += [(len(keys), caption) for caption in own]
                labels += [] if sample.label is None else [sample.label]
                keys.append(sample.key)
            advance(len(samples))
    texts = [
        _finite(encoder.encode_text(batch), encoder, f"captions of {task.folder}")
        for batch in _batched(captions, batch_size)
    ]
    nothing = np.empty((0, images[0].shape[1]), dtype=np.float32)
    class_KD = nothing
    if task.classnames:
        class_KD = prompt_ensemble(encoder, task.classnames, task.templates, batch_size=batch_size)
    return Embeddings(
        keys=tuple(keys),
        captions=tuple(captions),
        image_ND=np.concatenate(images),
        label_N=np.array(labels, dtype=np.int64),
        class_KD=class_KD,
        caption_MD=np.concatenate(texts) if texts else nothing,
        pair_P2=np.array(pairs, dtype=np.int64).reshape(-1, 2),
    )


def _views(
    task: Task, *, size: int, batch_size: int
) -> Iterator[tuple[list[Sample], "torch.Tensor"]]:
    import torch

    def view(sample: Sample) -> np.ndarray:
        try:
            return evaluation_view(sample.image, size=size)
        except ImageError as error:
            where = f"{task.folder}, sample {sample.key}"
            raise InputError(f"{where} has a picture that cannot be read: {error}") from error

    # Decoding releases the interpreter's lock, so threads suffice.
    with ThreadPoolExecutor() as pool:
        for samples in _batched(task.samples(), batch_size):
            yield samples, torch.from_numpy(np.stack(list(pool.map(view, samples))))


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _finite(features: "torch.Tensor", encoder: Encoder, what: str) -> np.ndarray:
    array = features.detach().float().cpu().numpy()
    if not np.isfinite(array).all():
        raise InputError(
            f"model {encoder.name} gives features that are not finite for {what}: its weights or "
            "its precision are broken, and a score would mean nothing"
        )
    return array


def _store(folder: Path, embeddings: Embeddings, dependencies: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        partial = folder / f"{name}.partial"
        with partial.open("wb") as file:
            np.save(file, getattr(embeddings, name), allow_pickle=False)
        partial.replace(folder / f"{name}.npy")
    names = {"keys": embeddings.keys, "captions": embeddings.captions}
    write_json(folder / FACTS_FILE, {**dependencies, **names})


def _load(folder: Path) -> Embeddings:
    facts = read_json(folder / FACTS_FILE)
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
    }
    return Embeddings(keys=tuple(facts["keys"]), captions=tuple(facts["captions"]), **arrays)
