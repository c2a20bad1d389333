"""Locked layers stay as they are, bit for bit, alone and in several processes.

One spawn runs all cases of two ranks; each rank writes what went wrong.
"""

import copy
import traceback
from dataclasses import replace

import pytest
import torch
from small_towers import SMALL
from test_step import run_step, towers_and_batch
from torch import distributed as dist
from torch import multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from winnow.data.loader import Batch
from winnow.models import TimmImageTower
from winnow.models.layers import image_parameters, text_parameters
from winnow.models.locking import FineTuning, lock
from winnow.models.towers import unwrapped
from winnow.training.optimizer import AdamW, Muon, build_optimizer

COUNT = 8
OPTIMIZERS = {
    "adamw": AdamW(learning_rate=0.01, warmup_steps=0),
    "muon": Muon(learning_rate=0.01, warmup_steps=0),
}
LOCKS = {
    "nothing": FineTuning(),
    "image": FineTuning(lock_image="all"),
    "text": FineTuning(lock_text="all", image_layer_decay=0.5),
    "first layers": FineTuning(lock_image="2", lock_text="-1", text_layer_decay=0.5),
}
CASES = [("adamw", "image"), ("adamw", "first layers"), ("muon", "nothing"), ("muon", "text")]


def whole(tensor):
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found.detach().clone()


def trained(optimizer, locked, wrap, part, *, config=SMALL, micro_batches=1, steps=2):
    """All weights before and after some steps, and the parameters that have optimizer state."""
    towers, batch = towers_and_batch(COUNT, config=config)
    fine_tuning = LOCKS[locked]
    lock(towers, fine_tuning)
    wrapped = wrap(towers.double().train())
    inner = unwrapped(wrapped)
    before = {name: whole(p) for name, p in inner.clip.state_dict().items()}
    built = build_optimizer(inner, OPTIMIZERS[optimizer], fine_tuning=fine_tuning)
    batch = Batch(*(tensor[part] for tensor in batch[:6]))
    for _ in range(steps):
        run_step(wrapped, batch, built, micro_batches=micro_batches)
    after = {name: whole(p) for name, p in inner.clip.state_dict().items()}
    stateful = [n for n, p in inner.clip.named_parameters() if p in built.state]
    return before, after, stateful


def locked_names(locked):
    towers, _ = towers_and_batch(COUNT)
    lock(towers, LOCKS[locked])
    return {name for name, p in towers.clip.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(("optimizer", "locked"), CASES)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_what_is_locked_stays_and_the_rest_moves(optimizer, locked, micro_batches):
    before, after, stateful = trained(
        optimizer, locked, lambda towers: towers, slice(0, COUNT), micro_batches=micro_batches
    )
    stays = locked_names(locked)
    assert (len(stays) > 0) == (locked != "nothing")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == after.keys() - stays
    assert set(stateful) == moved


def test_a_locked_tower_is_run_without_a_graph_and_in_evaluation():
    image = TimmImageTower(name="resnet18", image_size=32)
    towers, batch = towers_and_batch(COUNT, config=replace(SMALL, image=image))
    lock(towers, LOCKS["image"])
    towers.train()
    modes = {module.training for module in towers.clip.visual.modules()}
    assert modes == {False} and towers.clip.transformer.training
    found = towers(batch.image_BCHW, batch.text_BT)
    assert not found.image_BD.requires_grad and found.text_BD.requires_grad
    before, after, _ = trained(
        "adamw", "image", lambda t: t, slice(0, COUNT), config=replace(SMALL, image=image)
    )
    statistics = [name for name in before if "running_" in name or "num_batches" in name]
    assert len(statistics) == 60
    for name in statistics:
        assert torch.equal(before[name], after[name]), name


def test_the_first_layers_keep_their_statistics_and_the_last_ones_do_not():
    config = replace(SMALL, image=TimmImageTower(name="resnet18", image_size=32))
    towers, _ = towers_and_batch(COUNT, config=config)
    lock(towers, FineTuning(lock_image="-3"))
    towers.train()
    trunk = towers.clip.visual.trunk
    assert not trunk.bn1.training and not trunk.layer1[0].bn1.training
    assert trunk.layer4[1].bn1.training


def sharded(towers):
    for block in towers.blocks():
        fully_shard(block)
    return fully_shard(towers)


WRAPPERS = {"ddp": DistributedDataParallel, "fsdp2": sharded}


def near(found, expected, before):
    """The steps are equal to rounding, and so is their length."""
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-6 * (value - before[name]).norm(), name


def rank_main(rank, world_size, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    expected = torch.load(folder / "expected", weights_only=False)
    share = COUNT // world_size
    failures = []
    for wrapper, wrap in WRAPPERS.items():
        for optimizer, locked in CASES:
            part = slice(rank * share, (rank + 1) * share)
            try:
                before, found, _ = trained(optimizer, locked, wrap, part)
                near(found, expected[optimizer, locked], before)
            except Exception:
                failures.append(f"{wrapper} {optimizer} {locked}\n{traceback.format_exc()}")
    (folder / f"failures-{rank}").write_text("\n".join(failures))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_train_what_one_does_with_either_optimizer(tmp_path):
    expected = {}
    for optimizer, locked in CASES:
        _, after, _ = trained(optimizer, locked, lambda towers: towers, slice(0, COUNT))
        expected[optimizer, locked] = copy.deepcopy(after)
    torch.save(expected, tmp_path / "expected")
    multiprocessing.spawn(rank_main, (2, tmp_path), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"failures-{rank}").read_text() == ""


def test_the_towers_share_out_all_parameters_but_the_temperature():
    towers, _ = towers_and_batch(COUNT)
    every = {name for name, _ in towers.clip.named_parameters()}
    image, text = image_parameters(towers.clip), text_parameters(towers.clip)
    assert set(image) | set(text) == every - {"logit_scale"} and not set(image) & set(text)
