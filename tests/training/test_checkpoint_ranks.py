"""Checkpoints of many ranks: any number of them, in any wrapper, finds what any other saved.

One new process imports torch; the ranks are forked from it.
"""

import shutil

import pytest
import torch
from checkpoint_processes import in_new_process, limit_files, ranks
from torch import distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from winnow.training.checkpoint import Checkpoints
from winnow.types import InputError

WRAPPERS = {"alone": lambda model: model, "ddp": DistributedDataParallel, "fsdp2": fully_shard}


def trained(wrap, seed):
    """A small wrapped model, no size of which is a multiple of 2 or 4, and its AdamW."""
    torch.manual_seed(seed)
    layers = (nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 301), nn.Linear(301, 299))
    model = wrap(nn.Sequential(*layers))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01 * seed)
    model(torch.randn(6, 5)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def state_of(model, optimizer):
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments, "note": "here"}


def whole(value):
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return value.full_tensor() if isinstance(value, DTensor) else value


def assert_equal(found, expected):
    """Bit for bit, in every leaf."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            assert_equal(found[name], expected[name])
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    else:
        assert found == expected


def load_and_save(rank, size, folder, wrappers):
    """Load what all others saved into each of `wrappers`; save it from there."""
    sources = sorted(path for path in folder.glob("by-*") if path.is_dir())
    expected = torch.load(folder / "expected", weights_only=False)
    if size > 1:
        dist.barrier()
    for name in wrappers:
        for source in sources:
            model, optimizer = trained(WRAPPERS[name], seed=2)
            state = state_of(model, optimizer)
            state["note"] = "nothing"
            assert Checkpoints(source).load_newest(state).step == 1
            assert state["note"] == "here"
            set_state_dict(
                model,
                optimizer,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )
            assert_equal(whole(state_of(model, optimizer)), expected)
        if folder / f"by-{size}-{name}" in sources:
            continue
        checkpoints = Checkpoints(folder / f"by-{size}-{name}")
        checkpoints.save(1, state_of(model, optimizer))
        # Training goes on with the default group meanwhile.
        for _ in range(20 if size > 1 else 0):
            dist.all_reduce(torch.ones(1))
        checkpoints.wait()
        checkpoints.close()


def begin(folder):
    state = state_of(*trained(WRAPPERS["alone"], seed=1))
    torch.save(whole(state), folder / "expected")
    checkpoints = Checkpoints(folder / "by-1-alone")
    checkpoints.save(1, state)
    checkpoints.wait()
    checkpoints.close()


def go_through(folder, sizes):
    begin(folder)
    for size in sizes:
        if size == 1:
            load_and_save(0, 1, folder, ["alone"])
        else:
            ranks(size, folder, load_and_save, folder, ["ddp", "fsdp2"])
    assert_written_once_and_by_all(folder)


def bytes_by_rank(folder):
    files = (folder / "step-00000001").glob("__*.distcp")
    return {path.name.split("_")[2]: path.stat().st_size for path in files}


def assert_written_once_and_by_all(folder):
    alone = sum(bytes_by_rank(folder / "by-1-alone").values())
    for name in ("ddp", "fsdp2"):
        by_rank = bytes_by_rank(folder / f"by-2-{name}")
        assert sorted(by_rank) == ["0", "1"]
        assert alone * 0.95 < sum(by_rank.values()) < alone * 1.1
        assert min(by_rank.values()) > alone * 0.3


def plain(step):
    """A state that every rank has whole; each writes a part."""
    return {str(index): torch.full((50,), step) for index in range(8)}


def save_steps(rank, size, folder):
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, plain(step))
    checkpoints.wait()
    checkpoints.close()


def find_what_is_whole(rank, size, folder):
    state = plain(0)
    found = Checkpoints(folder).load_newest(state)
    assert (found.step, found.damaged) == (1, ("step-00000003", "step-00000002"))
    assert all((value == 1).all() for value in state.values())


def find_nothing_whole(rank, size, folder):
    with pytest.raises(InputError, match=r"every checkpoint in .* is damaged"):
        Checkpoints(folder).load_newest(plain(0))


def share_no_folder(rank, size, folder):
    shutil.copytree(folder / "good", folder / "of-0", dirs_exist_ok=True) if rank == 0 else None
    dist.barrier()
    checkpoints = Checkpoints(folder / f"of-{rank}")
    with pytest.raises(InputError, match="is there for some processes of this run and not for"):
        checkpoints.load_newest(plain(0))
    assert (folder / "of-0" / "step-00000003").is_dir()
    checkpoints.save(4, plain(4))
    with pytest.raises(InputError, match="a folder that all its machines share"):
        checkpoints.wait()


def fill_one_disk(rank, size, folder):
    """Only the last rank's disk is full; all are told, and which file it was."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, plain(1))
    checkpoints.wait()
    if rank == size - 1:
        limit_files(700)
    checkpoints.save(2, plain(2))
    checkpoints.close()
    failure = checkpoints.failure()
    limit_files(-1)
    assert f"step-00000002.partial/__{size - 1}_0.distcp cannot be used" in str(failure)
    assert str(failure).endswith("goes on from step 1")
    dist.barrier()
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001"]
    assert Checkpoints(folder).load_newest(plain(0)).step == 1


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def agree(folder):
    ranks(2, folder, save_steps, folder / "good")
    shutil.copytree(folder / "good", folder / "bad")
    # One that only the second rank looks at, and one that only the first does.
    flip_a_byte(folder / "bad" / "step-00000003" / "__0_0.distcp")
    flip_a_byte(folder / "bad" / "step-00000002" / "__1_0.distcp")
    ranks(2, folder, find_what_is_whole, folder / "bad")
    aside = {path.name for path in (folder / "bad").glob("*.damaged")}
    assert aside == {"step-00000003.damaged", "step-00000002.damaged"}
    flip_a_byte(folder / "bad" / "step-00000001" / ".metadata")
    ranks(2, folder, find_nothing_whole, folder / "bad")
    ranks(2, folder, share_no_folder, folder)
    ranks(2, folder, fill_one_disk, folder / "full")


def both(folder):
    (folder / "wrappers").mkdir()
    go_through(folder / "wrappers", (2, 1))
    agree(folder)


@pytest.mark.slow
def test_two_ranks_find_what_one_saved_and_one_what_two_did(tmp_path):
    in_new_process(both, tmp_path)


@pytest.mark.slow
def test_four_ranks_find_what_two_saved_and_two_what_four_did(tmp_path):
    in_new_process(go_through, tmp_path, (2, 4, 2, 1))
