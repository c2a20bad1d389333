"""The few collectives that winnow needs, on torch's default process group; alone, they do nothing.

Tensors are joined along their first dimension, in the order of the ranks, and every rank brings as
many rows as every other. None of these is differentiable: the loss engine knows its gradients.
"""

import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from winnow.types import InputError, ToldByAnotherError

Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class World:
    """This process's place among those that train together."""

    rank: int
    size: int


def world() -> World:
    """The default process group's, or that of a process alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return World(rank=0, size=1)
    return World(rank=dist.get_rank(), size=dist.get_world_size())


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Within, this process works together with those that torchrun started beside it, if it did.

    The group is left at the end, and with it whoever waits for this rank.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield world()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Waiting for the slowest rank may take as long as its share of the work does.
    patience = datetime.timedelta(hours=12)
    # What ranks agree on between steps is a number on the CPU: no GPU waits for it.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # torchrun starts processes again beside a store that still has the addresses of the dead ones.
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, rank, size = next(dist.rendezvous("env://", timeout=patience))
    store = dist.PrefixStore(f"life-{life}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    try:
        yield world()
    except (InputError, KeyboardInterrupt):
        dist.destroy_process_group()  # what all ranks stop for
        raise
    except BaseException:
        # NCCL's end waits for the others, who may wait for this rank; torchrun ends them.
        if device.type != "cuda":
            dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every rank is here."""
    if world().size > 1:
        dist.barrier()


@contextmanager
def stopping_together() -> Iterator[None]:
    """Every rank gets to the end, or all stop, with the words of the first that has an InputError.

    On the others these are a ToldByAnotherError, so that a user reads them once.
    """
    own: InputError | None = None
    try:
        yield
    except InputError as error:
        own = error
    if world().size > 1:
        words: list[str | None] = [None] * world().size
        dist.all_gather_object(words, None if own is None else str(own))
        told = [(rank, reason) for rank, reason in enumerate(words) if reason is not None]
        if told and told[0][0] != world().rank:
            raise ToldByAnotherError(told[0][1])
    if own is not None:
        raise own


def largest(number: Number) -> Number:
    """The largest of all ranks' numbers; integers up to 2^53."""
    if world().size == 1:
        return number
    numbers = torch.tensor([number], dtype=torch.float64)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return type(number)(numbers.item())


def from_the_first(value: Result) -> Result:
    """The first rank's value, on every rank; anything that can be pickled."""
    if world().size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def first_rank_first(work: Callable[[], Result]) -> Result:
    """What `work` gives, done by the first rank, and then by the others, who find it done.

    Where it raises InputError on one rank, all ranks do.
    """
    result: list[Result] = []
    for is_turn in (world().rank == 0, world().rank > 0):
        with stopping_together():
            if is_turn:
                result.append(work())
    return result[0]


def on_every_rank(values: Iterable[str]) -> set[str]:
    """Those of `values` that all ranks have."""
    own = set(values)
    if world().size == 1:
        return own
    of_ranks: list[set[str]] = [set()] * world().size
    dist.all_gather_object(of_ranks, own)
    return own.intersection(*of_ranks)


def require_same(facts: Mapping[str, tuple[int, str]]) -> None:
    """Raise InputError, on every rank alike, for the first fact in which ranks differ.

    A fact is a number by name, with what to do where ranks have different ones. The numbers are
    exchanged on the CPU, and no GPU is waited for, unless the process group knows GPUs alone.
    """
    if world().size == 1:
        return
    device = "cpu" if "cpu:" in dist.get_backend_config() else "cuda"
    own = torch.tensor([[number for number, _ in facts.values()]], device=device)
    for (name, (_, mend)), numbers in zip(facts.items(), all_gather(own).T.tolist(), strict=True):
        if len(set(numbers)) > 1:
            raise InputError(f"the ranks differ in {name}: {numbers}, rank by rank; {mend}")


class PendingGather:
    """An all-gather under way: `own` is there at once, the whole when it is asked for."""

    def __init__(self, own: Tensor) -> None:
        self.own = own.contiguous()
        self._work: dist.Work | None = None
        if world().size == 1:
            self._whole = self.own
            return
        self._whole = own.new_empty((world().size * len(own), *own.shape[1:]))
        self._work = dist.all_gather_into_tensor(self._whole, self.own, async_op=True)

    def whole(self) -> Tensor:
        """All ranks' rows; waits for them the first time."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return self._whole


def all_gather(own: Tensor) -> Tensor:
    """All ranks' rows."""
    return PendingGather(own).whole()


def all_sum(tensor: Tensor) -> Tensor:
    """The sum over ranks, on every rank."""
    if world().size == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def reduce_scatter(whole: Tensor) -> Tensor:
    """This rank's rows of the sum over ranks."""
    if world().size == 1:
        return whole
    own = whole.new_empty((len(whole) // world().size, *whole.shape[1:]))
    dist.reduce_scatter_tensor(own, whole)
    return own


def exchange(whole: Tensor) -> Tensor:
    """(ranks, rows, ...) what each rank holds of this rank's rows."""
    size = world().size
    if size == 1:
        return whole[None]
    received = torch.empty_like(whole, memory_format=torch.contiguous_format)
    dist.all_to_all_single(received, whole.contiguous())
    return received.view(size, len(whole) // size, *whole.shape[1:])


@contextmanager
def local_gradients(module: nn.Module) -> Iterator[None]:
    """Within, backward passes of a DDP or FSDP2 module only accumulate; nothing is reduced."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(module, DistributedDataParallel):
        with module.no_sync():
            yield
    elif isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            module.set_requires_gradient_sync(True)
    else:
        yield
