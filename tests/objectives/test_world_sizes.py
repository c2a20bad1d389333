"""Any number of ranks finds what one process finds: loss, diagnostics and every gradient.

One spawn per world size runs all cases; each rank writes the names of those that failed.
"""

import traceback
from dataclasses import replace

import pytest
import torch
from cases import EXECUTIONS, RULES, embeddings
from torch import distributed as dist
from torch import multiprocessing

from winnow.distributed import largest
from winnow.objectives import Context, Teacher, contrastive_loss
from winnow.objectives.checks import check_batch
from winnow.types import InputError

COUNT = 12
CASES = [
    (rule, execution, extras)
    for rule in RULES
    for execution in ("dense", "blocks-of-4", "tiled", "tiles-of-1")
    for extras in ("plain", "masks, weights, bias", "teacher", "bfloat16")
]


def inputs(extras):
    dtype = torch.bfloat16 if extras == "bfloat16" else torch.float64
    image, text = embeddings(count=COUNT)
    return [t.to(dtype) for t in (image, text, torch.tensor(5.0), torch.tensor(-1.0))]


def options(extras, part):
    """What the loss is given beside the features, for the pairs in `part`."""
    ids = torch.arange(70, 70 + COUNT)[part]
    if extras in ("plain", "bfloat16"):
        return {"context": Context(sample_id_B=ids, seed=3)}
    if extras == "teacher":
        image, text = embeddings(count=COUNT, seed=8)
        teacher = Teacher(image_BD=image[part], text_BD=text[part], scale=torch.tensor(4.0))
        return {"context": Context(sample_id_B=ids), "teacher": teacher}
    context = Context(
        sample_id_B=ids,
        weight_B=torch.linspace(0, 2, COUNT)[part],
        caption_id_B=torch.tensor([0, 1, 2, 0, 3, 4, 1, 5, 0, 6, 7, 8])[part],
        image_id_B=torch.tensor([0, 1, 1, 3, 4, 5, 6, 7, 8, 9, 9, 9])[part],
    )
    return {"context": context}


def run(case, part):
    """Loss and gradients of the pairs in `part`, as this rank finds them."""
    rule, execution, extras = case
    image, text, scale, bias = (t.requires_grad_() for t in inputs(extras))
    image, text = (t[part].detach().requires_grad_() for t in (image, text))
    wanted = [image, text, scale] + ([bias] if "bias" in extras else [])
    loss = contrastive_loss(
        RULES[rule],
        image,
        text,
        scale,
        bias=bias if "bias" in extras else None,
        progress=0.9,
        step=2,
        **options(extras, part),
        **EXECUTIONS[execution],
    )
    return loss, torch.autograd.grad(loss.total, wanted)


def run_here(case, part):
    """The loss and gradients of this rank, its scalars' averaged over ranks as a wrapper does."""
    loss, (image, text, *scalars) = run(case, part)
    for scalar in scalars:
        dist.all_reduce(scalar)
    return loss, image, text, [scalar / dist.get_world_size() for scalar in scalars]


def check(extras, found, expected, part):
    loss, image, text, scalars = found
    whole, (whole_image, whole_text, *whole_scalars) = expected
    # Features of 8 bits are gathered as such, and get gradients of 8 bits.
    close = {"rtol": 1e-2, "atol": 1e-4} if extras == "bfloat16" else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(loss.total, whole.total, **close)
    torch.testing.assert_close(loss.per_pair_B, whole.per_pair_B[part], **close)
    for name, value in whole.diagnostics.items():
        torch.testing.assert_close(loss.diagnostics[name], value[part], **close)
    world_size = dist.get_world_size()
    torch.testing.assert_close(image, world_size * whole_image[part], **close)
    torch.testing.assert_close(text, world_size * whole_text[part], **close)
    torch.testing.assert_close(scalars, whole_scalars, **close)


def check_refusals(rank):
    """What one rank has wrong, or otherwise than the others, stops all of them."""
    image, text, scale, _ = inputs("plain")

    def refused(match, count=3, **given):
        with pytest.raises(InputError, match=match):
            contrastive_loss(RULES["infonce"], image[:count], text[:count], scale, **given)

    first = rank == 0
    refused(r"differ in pairs: \[2, 3.*drop_last", count=2 if first else 3)
    refused(r"differ in pairs: \[0, 3.*drop_last", count=0 if first else 3)
    ids = torch.arange(3)
    only_captions, only_images = Context(caption_id_B=ids), Context(image_id_B=ids)
    refused(r"caption_id_B: \[1, 0.*every rank", context=only_captions if first else only_images)
    refused(r"differ in seeds", context=Context(seed=rank))
    refused(r"differ in steps", step=rank)
    bad = Context(weight_B=-torch.ones(3)) if first else Context(weight_B=torch.ones(3))
    refused(r"weight_B .* from -1 to 1", context=bad)
    refused(r"problems", context=Context(sample_id_B=ids[: 3 - first]))
    # No number of a device is asked for: a GPU would have to be waited for.
    anywhere = torch.empty(3, 4, device="meta")
    with pytest.raises(InputError, match=r"differ in steps done: \[0, 1"):
        check_batch(
            anywhere,
            anywhere,
            scale,
            bias=None,
            teacher=None,
            context=Context(),
            progress=0.0,
            step=rank,
            needs_gradient=False,
        )
    assert largest(rank) == dist.get_world_size() - 1
    assert largest(0.25 - rank) == 0.25


def rank_main(rank, world_size, folder):
    torch.set_num_threads(1)
    expected = torch.load(folder / "expected", weights_only=False)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    share = COUNT // world_size
    part = slice(rank * share, (rank + 1) * share)
    failures = []
    for case, wanted in zip(CASES, expected, strict=True):
        found = run_here(case, part)  # outside: a rank that fails must not leave others waiting
        try:
            check(case[-1], found, wanted, part)
        except AssertionError:
            failures.append(f"{case}\n{traceback.format_exc()}")
    if world_size > 1:
        check_refusals(rank)
    (folder / f"failures-{rank}").write_text("\n".join(failures))
    dist.barrier()
    dist.destroy_process_group()


slow = pytest.mark.slow


@pytest.mark.parametrize("world_size", [pytest.param(size, marks=slow) for size in (1, 2, 4)])
def test_any_number_of_ranks_finds_what_one_process_finds(world_size, tmp_path):
    expected = [run(case, slice(0, COUNT)) for case in CASES]
    expected = [(replace(loss, total=loss.total.detach()), grads) for loss, grads in expected]
    torch.save(expected, tmp_path / "expected")
    multiprocessing.spawn(rank_main, (world_size, tmp_path), nprocs=world_size)
    for rank in range(world_size):
        assert (tmp_path / f"failures-{rank}").read_text() == ""
