"""A step through DDP and FSDP2 is the step of one process, at any number of micro-batches.

One spawn per world size runs all cases; each rank writes what went wrong.
"""

import copy
import traceback
from itertools import product

import pytest
import torch
from test_step import BIASED, RULES, distilling, run_step, towers_and_batch
from torch import distributed as dist
from torch import multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from winnow.data.batch import Batch

COUNT = 8


def sharded(towers):
    for block in (*towers.clip.visual.transformer.resblocks, towers.clip.visual):
        fully_shard(block)
    return fully_shard(towers)


WRAPPERS = {"ddp": DistributedDataParallel, "fsdp2": sharded}
# What is trained: a rule by itself, and the last one with heads on the image embedding too.
KINDS = [*range(len(RULES)), "with heads"]
CASES = list(product(WRAPPERS, KINDS, (1, 2)))


def stepped(kind, wrap, part, micro_batches):
    """Every parameter after one step of plain gradient descent, and the step's report."""
    if kind == "with heads":
        towers, batch = distilling(COUNT, config=BIASED)
        rule = RULES[-2]
    else:
        towers, batch = towers_and_batch(COUNT, config=BIASED)
        rule = RULES[kind]
    towers = wrap(towers.double())
    # No clipping by elements: the gradient itself must arrive.
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.1)
    report = run_step(
        towers,
        Batch(*(tensor[part] for tensor in batch[:6]), batch.targets_of(part)),
        optimizer,
        rule=rule,
        micro_batches=micro_batches,
        max_norm=0.5,
    )
    named = {name.removeprefix("module."): p.detach() for name, p in towers.named_parameters()}
    whole = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in named.items()}
    return copy.deepcopy(whole), report


def rank_main(rank, world_size, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    expected = torch.load(folder / "expected", weights_only=False)
    share = COUNT // world_size
    part = slice(rank * share, (rank + 1) * share)
    failures = []
    for wrapper, kind, micro_batches in CASES:
        found, report = stepped(kind, WRAPPERS[wrapper], part, micro_batches)
        parameters, loss, parts, norm = expected[kind]
        try:
            assert report.loss == pytest.approx(loss, rel=1e-10)
            assert report.parts == pytest.approx(parts, rel=1e-10)
            assert report.gradient_norm == pytest.approx(norm, rel=1e-6)
            torch.testing.assert_close(found, parameters, rtol=1e-7, atol=1e-9)
        except AssertionError:
            failures.append(f"{wrapper} {kind} {micro_batches}\n{traceback.format_exc()}")
    (folder / f"failures-{rank}").write_text("\n".join(failures))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 4])
def test_a_wrapped_step_is_the_step_of_one_process(world_size, tmp_path):
    whole = slice(0, COUNT)
    expected = {}
    for kind in KINDS:
        parameters, report = stepped(kind, lambda towers: towers, whole, 1)
        expected[kind] = (parameters, report.loss, report.parts, report.gradient_norm)
    torch.save(expected, tmp_path / "expected")
    multiprocessing.spawn(rank_main, (world_size, tmp_path), nprocs=world_size)
    for rank in range(world_size):
        assert (tmp_path / f"failures-{rank}").read_text() == ""
