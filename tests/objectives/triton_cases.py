"""The fused kernels against the dense execution in float64, on a GPU or in Triton's interpreter.

Not collected by name: Triton decides when it is imported whether it interprets, so test_triton.py
runs this file in a process of its own.
"""

import traceback
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_laws import embeddings
from torch import distributed as dist
from torch import multiprocessing
from torch.nn import functional as F

from winnow.objectives import (
    Context,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
    Teacher,
    contrastive_loss,
    fused,
)
from winnow.types import InputError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PSD = ProgressiveSelfDistillation
HARD = HardNegativeNCE(alpha=0.9, beta=0.5)
BLEND = PSD(initial_share=0.3, final_share=0.3, mode="blend", teacher_temperature=2.0)
BOTH = HardNegativeSelfDistillation(negatives=HARD, targets=BLEND)
RULES = {
    "infonce": InfoNCE(),
    "hard-negative": HARD,
    "hard-negative-detached": HardNegativeNCE(alpha=1.0, beta=0.25, detach_weights=True),
    "psd-least-aligned": PSD(final_share=0.6),
    "psd-random": PSD(final_share=0.6, choose="random"),
    "psd-blend": BLEND,
    "psd-without-swap": replace(BLEND, swap=False),
    "psd-subset-columns": PSD(final_share=0.6, columns="subset"),
    "hard-negative-psd": BOTH,
    "hard-negative-psd-subset-columns": replace(
        BOTH, targets=PSD(final_share=0.6, columns="subset")
    ),
}
by_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
FEW = [InfoNCE(), HARD, BOTH]
by_few = pytest.mark.parametrize("rule", FEW, ids=["infonce", "hard-negative", "hard-negative-psd"])


@pytest.fixture(autouse=True)
def small_spans(monkeypatch):
    """Every block of rows is merged, and every chunk of gradients multiplied, by itself."""
    monkeypatch.setattr(fused, "MERGED_BLOCKS", 1)
    monkeypatch.setattr(fused, "CHUNK_BYTES", 1)


def moved(value, *, dtype, device):
    """Tensors within options; floating ones as `dtype`, or as they are for None."""
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    if isinstance(value, Context | Teacher):
        parts = {k: moved(v, dtype=dtype, device=device) for k, v in vars(value).items()}
        return replace(value, **parts)
    return value


def found(rule, features, options, *, dtype, device, **execution):
    """Loss, and gradients of image, text, scale and bias as float64 on the CPU."""
    inputs = [moved(t, dtype=dtype, device=device).requires_grad_() for t in features]
    options = {k: moved(value, dtype=dtype, device=device) for k, value in options.items()}
    image, text, scale, bias = inputs
    loss = contrastive_loss(
        rule, image, text, scale, bias=bias, progress=0.9, step=2, **options, **execution
    )
    gradients = torch.autograd.grad(loss.total, inputs)
    return loss, [gradient.double().cpu() for gradient in gradients]


def near(value, wanted, atol, rtol=0.0):
    value, wanted = (t.detach().double().cpu().numpy() for t in (value, wanted))
    np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


def compare(rule, image, text, scale, *, bias=-1.0, gradient_error=1e-5, block_size=32, **options):
    """The kernels on float32 or bfloat16 features against dense float64 on the same features."""
    features = (image, text, torch.tensor(scale), torch.tensor(bias))
    dense, expected = found(
        rule, features, options, dtype=torch.float64, device="cpu", execution="dense"
    )
    fused_as = {"execution": "triton", "block_size": block_size}
    loss, gradients = found(rule, features, options, dtype=None, device=DEVICE, **fused_as)
    loss_error = 1e-5 * dense.total.abs().item() + 1e-6 * (scale + abs(bias))
    near(loss.total, dense.total, loss_error)
    near(loss.per_pair_B, dense.per_pair_B, loss_error, rtol=1e-5)
    assert loss.diagnostics.keys() == dense.diagnostics.keys()
    for name, value_B in dense.diagnostics.items():
        near(loss.diagnostics[name], value_B, loss_error, rtol=1e-5)
    # float32 holds a logit to a few 1e-7 of its size: the relative error of an exponential. The
    # gradient is a difference of such, times the pair's share of the mean and the scale.
    rounding = 4e-7 * (scale + abs(bias))
    for gradient, wanted in zip(gradients[:2], expected[:2], strict=True):
        allowed = gradient_error * wanted.abs().max().item() + rounding * scale / len(image)
        near(gradient, wanted, allowed)
    for gradient, wanted in zip(gradients[2:], expected[2:], strict=True):
        near(gradient, wanted, 2 * (gradient_error + rounding))


def facts(count):
    """Everything that may be known of pairs; captions and pictures recur across tiles."""
    return Context(
        sample_id_B=torch.arange(count).flip(0),
        weight_B=torch.linspace(0, 3, count),
        caption_id_B=torch.arange(count) % 29,
        image_id_B=torch.arange(count) // 2,
        seed=3,
    )


@by_rule
def test_equals_dense(rule):
    image, text = (t.float() for t in embeddings(count=41, width=19))
    compare(rule, image, text, 20.0)


@pytest.mark.slow
@by_rule
def test_weights_and_masks(rule):
    image, text = (t.float() for t in embeddings(count=41, width=19))
    compare(rule, image, text, 20.0, context=facts(41))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [PSD(final_share=0.5), replace(BLEND, swap=False), BOTH])
def test_a_separate_teacher(rule):
    image, text = (t.float() for t in embeddings(count=41, width=19))
    teacher_image, teacher_text = (t.float() for t in embeddings(count=41, width=19, seed=9))
    teacher = Teacher(image_BD=teacher_image, text_BD=teacher_text, scale=torch.tensor(8.0))
    compare(rule, image, text, 20.0, teacher=teacher, context=facts(41))


@pytest.mark.slow
@by_few
@pytest.mark.parametrize("count", [1, 2, 32, 33])
def test_any_number_of_pairs(rule, count):
    image, text = (t.float() for t in embeddings(count=count, width=32))
    compare(rule, image, text, 10.0)


@pytest.mark.slow
def test_many_tiles_and_slices():
    """More tiles than one super-block, and an embedding wider than a slice."""
    image, text = (t.float() for t in embeddings(count=70, width=100))
    compare(BOTH, image, text, 20.0, block_size=16, context=facts(70))


@by_few
def test_bfloat16_features(rule):
    """The interpreter cuts what a GPU rounds to bfloat16: twice the error, and no fair sign."""
    image, text = (t.bfloat16() for t in embeddings(count=41, width=72))
    compare(rule, image, text, 20.0, gradient_error=2**-7, context=facts(41))


@pytest.mark.slow
@by_few
@pytest.mark.parametrize("texts", ["identical", "opposite", "collapsed"])
def test_extreme_embeddings_at_scale_100(rule, texts):
    image = F.normalize(embeddings(count=9)[0].float(), dim=1)
    image = image[:1].expand(9, -1).contiguous() if texts == "collapsed" else image
    compare(rule, image, -image if texts == "opposite" else image.clone(), 100.0)


def test_all_masked_has_no_gradient():
    image, text = (t.float().to(DEVICE).requires_grad_() for t in embeddings(count=5))
    same = Context(caption_id_B=torch.zeros(5, dtype=torch.int64, device=DEVICE))
    for rule in FEW:
        loss = contrastive_loss(
            rule,
            image,
            text,
            torch.tensor(5.0, device=DEVICE),
            context=same,
            block_size=16,
            execution="triton",
        )
        assert loss.total.isfinite()
        for gradient in torch.autograd.grad(loss.total, (image, text)):
            assert gradient.abs().max() < 1e-7


@pytest.mark.parametrize(
    ("rule", "dtype", "block_size", "message"),
    [
        (SigLIP(), torch.float32, None, "runs InfoNCE, HN-NCE and PSD.*execution 'tiled'"),
        (InfoNCE(), torch.float64, None, "float64.*execution 'tiled'"),
        (InfoNCE(), torch.float32, 128, "block_size is 128.*float32.*16, 32, 64\\], or none"),
        (InfoNCE(), torch.bfloat16, 48, "block_size is 48.*bfloat16.*128\\], or none"),
    ],
)
def test_what_it_does_not_run_is_refused(rule, dtype, block_size, message):
    image, text = (t.to(DEVICE, dtype) for t in embeddings())
    with pytest.raises(InputError, match=message):
        contrastive_loss(
            rule, image, text, image.new_tensor(5.0), execution="triton", block_size=block_size
        )


WORLD_CASES = [(HARD, torch.float32), (BOTH, torch.bfloat16)]


def world_case(rule, dtype, part, *, computed_in, **execution):
    """Loss and gradients of the pairs in `part`."""
    image, text = (t.to(dtype)[part].contiguous() for t in embeddings(count=36))
    every = vars(facts(36)).items()
    context = Context(**{k: v[part] if isinstance(v, torch.Tensor) else v for k, v in every})
    features = (image, text, torch.tensor(10.0), torch.tensor(-1.0))
    return found(rule, features, {"context": context}, dtype=computed_in, device="cpu", **execution)


def rank_main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    part = slice(rank * 18, rank * 18 + 18)
    failures = []
    for rule, dtype in WORLD_CASES:
        fused_as = {"execution": "triton", "block_size": 16}
        loss, gradients = world_case(rule, dtype, part, computed_in=None, **fused_as)
        exact, expected = torch.load(folder / f"{dtype}")
        try:
            near(loss.total, exact, 1e-5, rtol=1e-5)
            for gradient, wanted in zip(gradients[:2], expected[:2], strict=True):
                allowed = (2**-7 if dtype == torch.bfloat16 else 2e-5) * wanted.abs().max().item()
                near(gradient / 2, wanted[part], allowed)
        except AssertionError:
            failures.append(traceback.format_exc())
    (folder / f"failures-{rank}").write_text("\n".join(failures))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda", reason="two ranks take two GPUs")
def test_two_ranks_find_what_one_process_finds(tmp_path):
    for rule, dtype in WORLD_CASES:
        exact, expected = world_case(
            rule, dtype, slice(None), computed_in=torch.float64, execution="dense"
        )
        torch.save((exact.total.detach(), expected), tmp_path / f"{dtype}")
    multiprocessing.spawn(rank_main, (tmp_path,), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"failures-{rank}").read_text() == ""
