"""The loader: data and an order in, batches of uint8 pictures and tokens out.

Step s is the positions [s * batch_size, (s + 1) * batch_size) of the order, and a rank's batch is
its contiguous part of them. Everything in it is a function of the step: workers read, decode and
crop whole batches, and their number changes nothing. Chance is keyed by (seed, epoch, uid).

While a step's pictures are read, the runs whose turn comes one window later are announced to the
system, so that disks see long sequential reads and workers find the bytes in the page cache.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from winnow.data.augmentation import Augmentation
from winnow.data.batch import Batch, caption_ids, content_id
from winnow.data.block_cache import BlockCache
from winnow.data.captions import CaptionChoice, Captions
from winnow.data.concept_targets import ConceptTargets
from winnow.data.images import ImageError, evaluation_view, training_view
from winnow.data.mixture import MixedOrder, Mixture
from winnow.data.order import Order
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import Columns, Reader, open_reader
from winnow.data.watch import Notes, Watch
from winnow.data.workers import read_steps
from winnow.progress import say_to_stderr
from winnow.types import InputError, View

_OPEN_SHARDS = 16


def load_batches(
    selection: Selection | Mixture,
    order: Order | MixedOrder,
    *,
    tokenize: Callable[[list[str]], Any],
    image_size: int,
    augmentation: Augmentation | View,
    workers: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    image_ids: bool = False,
    targets: ConceptTargets | None = None,
    captions: Captions | None = None,
    choice: CaptionChoice | None = None,
    cache: BlockCache | None = None,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    patience: float = 600.0,
    say: Callable[[str], None] = say_to_stderr,
    clock: Callable[[], float] = monotonic,
    stops: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """The batches of steps [first_step, last_step), of which a rank gets its share.

    `order` is one of the selection's own. `tokenize` turns captions into int64 (captions, tokens);
    a caption is the sample's own, or the one that `choice` takes among it and its alternatives in
    `captions`. Of a picture a random view is shown, or the evaluation's where `augmentation` is a
    View, of side `image_size`. `image_ids` asks for ids of the pictures: hashing their bytes takes
    1 to 5 % of the time that decoding them does. `targets` are joined by uid. Remote shards are
    read through `cache`. Each worker reads `prefetch` batches ahead. Tensors are in pinned memory
    where there is a GPU. Closing the generator ends its workers.

    A batch that is waited for longer than 10 s is told to `say`, with the shard and the key that
    are being read; so is a worker that dies, and it is replaced. Raises InputError, naming shard
    and key, where a picture that was readable when the ledger was made no longer is, and where a
    worker has not moved for `patience` seconds of `clock`; naming the uid where a sample has no
    targets. Without workers a read that stands still is told of, and goes on being waited for; with
    them there are no more batches once `stops` says so while one is waited for.
    """
    if batch_size % world_size:
        raise InputError(f"a batch of {batch_size} cannot be shared by {world_size} processes")
    steps = _Steps(
        selection=selection,
        order=order,
        tokenize=tokenize,
        image_size=image_size,
        augmentation=augmentation,
        batch_size=batch_size,
        first_step=first_step,
        image_ids=image_ids,
        targets=targets,
        captions=captions,
        choice=choice,
        rank=rank,
        world_size=world_size,
        readers=_Readers(cache),
        notes=Notes(max(1, workers)),
    )
    batches = read_steps(
        steps,
        first_step=first_step,
        last_step=last_step,
        workers=workers,
        prefetch=prefetch,
        watch=Watch(patience=patience, say=say, clock=clock, stops=stops),
    )
    return _closing(steps.readers, batches)


def image_random(*, seed: int, epoch: int, uid: str) -> np.random.Generator:
    """The chance of one picture in one epoch: a stream of its own for each key."""
    key = (seed % 2**64, int(uid[:16], 16))
    # Philox counts up in the first word, so the others may hold the rest of the key.
    counter = (0, 0, epoch, int(uid[16:], 16))
    return np.random.Generator(np.random.Philox(key=_words(key), counter=_words(counter)))


def _words(values: tuple[int, ...]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def _closing(
    readers: "_Readers", batches: Generator[Batch, None, None]
) -> Generator[Batch, None, None]:
    try:
        yield from batches
    finally:
        readers.close()  # those of this process; a worker's end with it


@dataclass(kw_only=True)
class _Steps:
    """A rank's batch by step."""

    selection: Selection | Mixture
    order: Order | MixedOrder
    tokenize: Callable[[list[str]], Any]
    image_size: int
    augmentation: Augmentation | View
    batch_size: int
    first_step: int
    image_ids: bool
    targets: ConceptTargets | None
    captions: Captions | None
    choice: CaptionChoice | None
    rank: int
    world_size: int
    readers: "_Readers"
    notes: Notes
    _reader: int = field(default=0, init=False)

    def __getitem__(self, step: int) -> Batch | InputError:
        worker = get_worker_info()
        self._reader = 0 if worker is None else worker.id
        share = self.batch_size // self.world_size
        start = step * self.batch_size + self.rank * share
        self.notes.begin(self._reader, step, share)
        try:
            self._announce(step)
            return self._read(np.arange(start, start + share))
        except InputError as error:
            return error  # raised in a worker it would come out wrapped in the worker's traceback

    def _read(self, positions: np.ndarray) -> Batch:
        places = self.order.places(positions)
        samples = self.selection.samples(places.rows)
        images, image_id_B = self._images(places.rows, places.epochs, samples)
        text_BT = torch.as_tensor(self.tokenize(self._texts(samples, places.epochs))).long()
        ids = _words(tuple(int(sample.uid[:16], 16) for sample in samples)).view(np.int64)
        return Batch(
            image_BCHW=torch.from_numpy(images),
            text_BT=text_BT,
            id_B=torch.from_numpy(ids),
            row_B=torch.from_numpy(places.rows),
            caption_id_B=caption_ids(text_BT),
            image_id_B=image_id_B,
            targets=None if self.targets is None else self.targets.of([s.uid for s in samples]),
            epoch_B=torch.from_numpy(places.epochs),
            source_B=torch.from_numpy(places.sources),
            weight_B=self._weights(samples),
        )

    def _images(
        self, rows: np.ndarray, epochs: np.ndarray, samples: list[KeptSample]
    ) -> tuple[np.ndarray, torch.Tensor | None]:
        images = np.empty((len(rows), 3, self.image_size, self.image_size), dtype=np.uint8)
        image_id_B = torch.empty(len(rows), dtype=torch.int64) if self.image_ids else None
        for place in np.argsort(rows):  # rows are numbered in the order of shards and offsets
            sample = samples[place]
            self.notes.at(self._reader, f"reading {sample.shard} (key {sample.address.key})")
            data = self.readers.get(sample).read(sample.address)
            images[place] = self._view(sample, data, int(epochs[place]))
            if image_id_B is not None:
                image_id_B[place] = content_id(data)
            self.notes.has_read(self._reader)
        self.notes.at(self._reader, "")
        return images, image_id_B

    def _weights(self, samples: list[KeptSample]) -> torch.Tensor | None:
        if not self.selection.is_weighted:
            return None
        return torch.tensor([sample.weight for sample in samples], dtype=torch.float32)

    def _texts(self, samples: list[KeptSample], epochs: np.ndarray) -> list[str]:
        if self.captions is None:
            return [sample.caption for sample in samples]
        assert self.choice is not None, "who gives captions says how one is chosen"
        return self.captions.choose(samples, epochs, seed=self.order.seed, choice=self.choice)

    def _view(self, sample: KeptSample, data: bytes, epoch: int) -> np.ndarray:
        try:
            if isinstance(self.augmentation, View):
                return evaluation_view(data, view=self.augmentation)
            random = image_random(seed=self.order.seed, epoch=epoch, uid=sample.uid)
            return training_view(
                data, size=self.image_size, augmentation=self.augmentation, random=random
            )
        except ImageError as error:
            raise InputError(
                f"{sample.shard}: {sample.address.key} could be read when the ledger was made and "
                f"cannot now ({error}): curate the shard again"
            ) from error

    def _announce(self, step: int) -> None:
        begins = step == self.first_step
        runs = self.order.first_runs if begins else self.order.next_runs
        for row, end in runs(step * self.batch_size, (step + 1) * self.batch_size):
            head, tail = self.selection.samples(np.array([row, end - 1]))
            self.notes.at(self._reader, f"opening {head.shard} (for key {head.address.key} on)")
            self.readers.get(head).will_need(head.address, tail.address)


class _Readers:
    """The shards this process has open, at most so many, the longest unused closed first."""

    def __init__(self, cache: BlockCache | None) -> None:
        self._cache = cache
        self._open: OrderedDict[tuple[str, Columns], Reader] = OrderedDict()

    def get(self, sample: KeptSample) -> Reader:
        """The reader of the shard that `sample` is in."""
        key = sample.shard, sample.columns
        if key not in self._open:
            if len(self._open) == _OPEN_SHARDS:
                _, oldest = self._open.popitem(last=False)
                oldest.__exit__(None, None, None)
            reader = open_reader(sample.shard, columns=sample.columns, cache=self._cache)
            self._open[key] = reader.__enter__()
        self._open.move_to_end(key)
        return self._open[key]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].__exit__(None, None, None)
