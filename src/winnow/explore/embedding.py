"""Every picture and every distinct caption seen once by a model, and kept.

Features are kept by what they depend on, as evaluation keeps them: the model, its precision, its
view, and the hashes of the pictures, or the captions. Another selection of the same ledger embeds
nothing anew.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby

import numpy as np

from winnow.data.images import VIEW_VERSION, ImageError, evaluation_view
from winnow.data.ledger import Address
from winnow.evaluation.embed import PICTURES_A_PART, Embedder, Encoder
from winnow.evaluation.feature_cache import FeatureCache, Part
from winnow.explore.pairs import Pairs
from winnow.progress import track
from winnow.types import InputError, View

_BATCHES_AHEAD = 2


def picture_features(pairs: Pairs, embedder: Embedder) -> np.ndarray:
    """(N, D) float32 features of the pictures, memory-mapped, not normalized.

    Raises InputError where a picture is not the one of the ledger any more, cannot be read, or has
    a feature that is not finite.
    """
    encoder = embedder.encoder
    depends = {
        "model": encoder.fingerprint,
        "precision": encoder.precision,
        "pictures": pairs.pictures_digest,
        "view": list(encoder.view),
        "view_version": VIEW_VERSION,
    }

    def compute(parts: Sequence[Part]) -> Iterator[tuple[Part, dict[str, np.ndarray]]]:
        total = sum(part.stop - part.start for part in parts)
        with (
            track("embedding pictures", total=total, unit="pictures") as advance,
            ThreadPoolExecutor() as pool,
        ):
            for part in parts:
                found = []
                for views in _ahead(_begun(pairs, part, embedder, pool)):
                    found.append(embedded(encoder, [view.result() for view in views]))
                    advance(len(views))
                yield part, {"projected": np.concatenate(found)}

    _, arrays = FeatureCache(folder=embedder.cache / "pictures").rows(
        depends, compute, num_rows=len(pairs), part_rows=PICTURES_A_PART
    )
    return arrays["projected"]


def caption_features(pairs: Pairs, embedder: Embedder) -> np.ndarray:
    """(M, D) float32 features of `Pairs.distinct_captions`, memory-mapped, not normalized."""
    captions, _ = pairs.distinct_captions
    return embedder.texts(captions, what="captions")


def embedded(encoder: Encoder, views: Sequence[np.ndarray]) -> np.ndarray:
    """(B, D) float32 features of views, uint8 (3, size, size) each, not normalized.

    Raises InputError where one is not finite.
    """
    import torch

    features = encoder.encode_image(torch.from_numpy(np.stack(views)))
    return finite(features.detach().float().cpu().numpy(), encoder)


def finite(features_BD: np.ndarray, encoder: Encoder) -> np.ndarray:
    """The same. Raises InputError where a feature is not finite."""
    if not np.isfinite(features_BD).all():
        raise InputError(
            f"model {encoder.name} gives features that are not finite: its weights or its "
            "precision are broken, and nothing could be found by them"
        )
    return features_BD


def _begun(
    pairs: Pairs, part: Part, embedder: Embedder, pool: ThreadPoolExecutor
) -> Iterator[list[Future[np.ndarray]]]:
    """Batches of views that are being decoded; their bytes are read one shard after another."""
    for start in range(part.start, part.stop, embedder.batch_size):
        rows = range(start, min(start + embedder.batch_size, part.stop))
        # Decoding releases the interpreter's lock, so threads suffice.
        yield [
            pool.submit(_view, data, name, embedder.encoder.view)
            for name, data in _pictures(pairs, rows)
        ]


def _pictures(pairs: Pairs, rows: range) -> Iterator[tuple[str, bytes]]:
    """What messages call each picture, and its encoded bytes."""
    columns = pairs.table.slice(rows.start, len(rows)).select(["key", "offset", "size", "sha256"])
    facts = zip(rows, columns.to_pylist(), strict=True)
    for shard, own in groupby(facts, key=lambda of: pairs.shard(of[0])):
        with pairs.reader(shard) as reader:
            for _, one in own:
                name = f"{one['key']} of {shard}"
                data = reader.read(Address(one["key"], one["offset"], one["size"]))
                if hashlib.sha256(data).hexdigest() != one["sha256"]:
                    raise InputError(
                        f"the picture {name} is another one than the ledger has: curate again "
                        "with the shards"
                    )
                yield name, data


def _view(data: bytes, name: str, view: View) -> np.ndarray:
    try:
        return evaluation_view(data, view=view)
    except ImageError as error:
        raise InputError(
            f"the picture {name} cannot be read ({error}) though it could be when it was curated: "
            "curate again with the shards"
        ) from error


def _ahead(batches: Iterable[list[Future[np.ndarray]]]) -> Iterator[list[Future[np.ndarray]]]:
    """The same, some of them already begun: pictures are decoded while the model runs."""
    begun: deque[list[Future[np.ndarray]]] = deque()
    for batch in batches:
        begun.append(batch)
        if len(begun) > _BATCHES_AHEAD:
            yield begun.popleft()
    yield from begun
