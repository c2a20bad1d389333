"""The loader: a selection and an order in, batches of uint8 pictures and tokens out.

Step s is the positions [s * batch_size, (s + 1) * batch_size) of the order, and a rank's batch is
its contiguous part of them. Everything in it is a function of the step: workers read, decode and
crop whole batches, and their number changes nothing. Chance is keyed by (seed, epoch, uid).

While a step's pictures are read, the runs whose turn comes one window later are announced to the
system, so that disks see long sequential reads and workers find the bytes in the page cache.
"""

import hashlib
import signal
import warnings
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from winnow.data.augmentation import Augmentation
from winnow.data.concept_targets import ConceptTargets, SparseTargets
from winnow.data.images import ImageError, training_view
from winnow.data.order import Order
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import Columns, Reader, open_reader
from winnow.types import InputError

_OPEN_SHARDS = 16


class Batch(NamedTuple):
    """One rank's pairs of one step."""

    image_BCHW: torch.Tensor
    """uint8, RGB."""
    text_BT: torch.Tensor
    """int64 tokens."""
    id_B: torch.Tensor
    """int64: the first 16 hex digits of the uid, as two's complement."""
    row_B: torch.Tensor
    """int64 row of the selection."""
    caption_id_B: torch.Tensor
    """int64; two are equal where the tokens of the captions are."""
    image_id_B: torch.Tensor | None
    """int64; two are equal where the bytes of the pictures are. None where it was not asked for."""
    targets: dict[str, SparseTargets] | None = None
    """A teacher's concepts in the pictures, by head. None where there is no teacher."""

    def to(self, device: torch.device) -> "Batch":
        """The same pairs on `device`."""
        tensors = {n: part for n, part in self._asdict().items() if isinstance(part, torch.Tensor)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return self._replace(
            **moved, targets=self._targets(lambda t: t.to(device, non_blocking=True))
        )

    def targets_of(self, part: slice) -> dict[str, SparseTargets] | None:
        """The targets of some of the pairs."""
        return self._targets(lambda tensor: tensor[part])

    def _targets(
        self, each: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, SparseTargets] | None:
        if self.targets is None:
            return None
        return {
            head: SparseTargets(each(own.index_BK), each(own.mass_BK))
            for head, own in self.targets.items()
        }


def load_batches(
    selection: Selection,
    order: Order,
    *,
    tokenize: Callable[[list[str]], Any],
    image_size: int,
    augmentation: Augmentation,
    workers: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    image_ids: bool = False,
    targets: ConceptTargets | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[Batch, None, None]:
    """The batches of steps [first_step, last_step), of which a rank gets its share.

    `tokenize` turns captions into int64 (captions, tokens). `image_ids` asks for ids of the
    pictures: hashing their bytes takes 1 to 5 % of the time that decoding them does. `targets` are
    joined by uid. Tensors are in pinned memory where there is a GPU. Closing the generator ends its
    workers. Raises InputError, naming shard and key, where a picture that was readable when the
    ledger was made no longer is, and naming the uid where a sample has no targets.
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
        rank=rank,
        world_size=world_size,
    )
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        # Its own generator: workers would else be seeded from torch's state, and a resumed run,
        # which starts them once more, would find another state in its dropout.
        generator=torch.Generator(),
        worker_init_fn=_start_worker,
    )
    return _batches(loader, steps.readers)


def image_random(*, seed: int, epoch: int, uid: str) -> np.random.Generator:
    """The chance of one picture in one epoch: a stream of its own for each key."""
    key = (seed % 2**64, int(uid[:16], 16))
    # Philox counts up in the first word, so the others may hold the rest of the key.
    counter = (0, 0, epoch, int(uid[16:], 16))
    return np.random.Generator(np.random.Philox(key=_words(key), counter=_words(counter)))


def content_id(data: bytes) -> int:
    """The first 8 bytes of the sha256, as a signed number."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def caption_ids(text_BT: torch.Tensor) -> torch.Tensor:
    """int64 (B,): an id of each caption.

    Of its tokens and not of its letters: captions that differ in case, or past where they are cut,
    are one and the same to the text tower.
    """
    return torch.tensor([content_id(row.tobytes()) for row in text_BT.numpy()])


def _words(values: tuple[int, ...]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def _start_worker(_: int) -> None:
    # Ctrl-C goes to every process of the terminal, and schedulers end whole process groups; the
    # main process decides what becomes of it, and saves. Its end is the workers' end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module="PIL")  # the ledger says which pictures are odd


def _batches(loader: DataLoader, readers: "_Readers") -> Generator[Batch, None, None]:
    try:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        readers.close()  # those of this process; a worker's end with it


@dataclass(kw_only=True)
class _Steps(Dataset):
    """A rank's batch by step."""

    selection: Selection
    order: Order
    tokenize: Callable[[list[str]], Any]
    image_size: int
    augmentation: Augmentation
    batch_size: int
    first_step: int
    image_ids: bool
    targets: ConceptTargets | None
    rank: int
    world_size: int
    readers: "_Readers" = field(default_factory=lambda: _Readers())

    def __getitem__(self, step: int) -> Batch | InputError:
        share = self.batch_size // self.world_size
        start = step * self.batch_size + self.rank * share
        try:
            self._announce(step)
            return self._read(np.arange(start, start + share))
        except InputError as error:
            return error  # raised in a worker it would come out wrapped in the worker's traceback

    def _read(self, positions: np.ndarray) -> Batch:
        rows = self.order.rows(positions)
        samples = self.selection.samples(rows)
        images = np.empty((len(rows), 3, self.image_size, self.image_size), dtype=np.uint8)
        image_id_B = torch.empty(len(rows), dtype=torch.int64) if self.image_ids else None
        for place in np.argsort(rows):  # rows are numbered in the order of shards and offsets
            sample, epoch = samples[place], int(positions[place]) // len(self.order)
            data = self._reader(sample.shard).read(sample.address)
            images[place] = self._view(sample, data, epoch)
            if image_id_B is not None:
                image_id_B[place] = content_id(data)
        text_BT = torch.as_tensor(self.tokenize([sample.caption for sample in samples])).long()
        ids = _words(tuple(int(sample.uid[:16], 16) for sample in samples)).view(np.int64)
        return Batch(
            image_BCHW=torch.from_numpy(images),
            text_BT=text_BT,
            id_B=torch.from_numpy(ids),
            row_B=torch.from_numpy(rows),
            caption_id_B=caption_ids(text_BT),
            image_id_B=image_id_B,
            targets=None if self.targets is None else self.targets.of([s.uid for s in samples]),
        )

    def _view(self, sample: KeptSample, data: bytes, epoch: int) -> np.ndarray:
        random = image_random(seed=self.order.seed, epoch=epoch, uid=sample.uid)
        try:
            return training_view(
                data, size=self.image_size, augmentation=self.augmentation, random=random
            )
        except ImageError as error:
            raise InputError(
                f"{sample.shard}: {sample.address.key} could be read when the ledger was made and "
                f"cannot now ({error}): curate the shard again"
            ) from error

    def _announce(self, step: int) -> None:
        start, ahead = step * self.batch_size, self.order.window
        # At first the window begun is needed at once, with runs whose turn was before this step.
        first = max(0, start - ahead) if step == self.first_step else start + ahead
        for row, end in self.order.runs(first, start + self.batch_size + ahead):
            head, tail = self.selection.samples(np.array([row, end - 1]))
            self._reader(head.shard).will_need(head.address, tail.address)

    def _reader(self, shard: str) -> Reader:
        return self.readers.get(shard, self.selection.columns)


class _Readers:
    """The shards this process has open, at most so many, the longest unused closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Reader] = OrderedDict()

    def get(self, shard: str, columns: Columns) -> Reader:
        if shard not in self._open:
            if len(self._open) == _OPEN_SHARDS:
                _, oldest = self._open.popitem(last=False)
                oldest.__exit__(None, None, None)
            self._open[shard] = open_reader(shard, columns=columns).__enter__()
        self._open.move_to_end(shard)
        return self._open[shard]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].__exit__(None, None, None)
