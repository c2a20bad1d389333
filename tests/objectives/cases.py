"""The rules, executions and batches that the laws are tried on."""

import oracles
import pytest
import torch
from torch.nn import functional as F

from winnow.objectives import (
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    ProgressiveSelfDistillation,
    SigLIP,
    contrastive_loss,
)
from winnow.objectives.hashing import keyed_hash

PSD = ProgressiveSelfDistillation
RULES = {
    "infonce": InfoNCE(),
    "hard-negative": HardNegativeNCE(alpha=0.9, beta=0.5),
    "hard-negative-detached": HardNegativeNCE(alpha=1.0, beta=0.25, detach_weights=True),
    "psd-least-aligned": PSD(final_share=0.6),
    "psd-random": PSD(final_share=0.6, choose="random"),
    "psd-blend": PSD(initial_share=0.3, final_share=0.3, mode="blend", teacher_temperature=2.0),
    "psd-subset-columns": PSD(final_share=0.6, columns="subset"),
    "psd-not-swapped": PSD(final_share=0.6, swap=False, teacher_temperature=0.5),
    "hard-negative-psd": HardNegativeSelfDistillation(
        negatives=HardNegativeNCE(alpha=0.9, beta=0.5), targets=PSD(final_share=0.6)
    ),
    "siglip": SigLIP(),
}
EXECUTIONS = {
    "dense": {"execution": "dense"},
    "one-block": {"execution": "blocked", "block_size": 64},
    "blocks-of-4": {"execution": "blocked", "block_size": 4},
    "blocks-of-1": {"execution": "blocked", "block_size": 1},
    "tiled": {"execution": "tiled"},
    "tiles-of-4": {"execution": "tiled", "block_size": 4},
    "tiles-of-1": {"execution": "tiled", "block_size": 1},
}
SCALE = torch.tensor(5.0, dtype=torch.float64)
by_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
by_execution = pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS.keys())


def embeddings(count=11, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    # Pairs that are partly aligned, so that the teacher has something to say.
    text = 0.5 * image + text
    return F.normalize(image, dim=1), F.normalize(text, dim=1)


def gradients(rule, image, text, scale, **options):
    inputs = [t.clone().requires_grad_() for t in (image, text, scale)]
    loss = contrastive_loss(rule, *inputs, **options)
    return loss, torch.autograd.grad(loss.total, inputs)


def oracle(rule, scores, **options):
    """The literal double loop of the rule at progress 1."""
    if isinstance(rule, InfoNCE):
        return oracles.infonce(scores, **options)
    if isinstance(rule, SigLIP):
        return oracles.siglip(scores, **options)
    if isinstance(rule, HardNegativeNCE):
        return oracles.hard_negative(scores, alpha=rule.alpha, beta=rule.beta, **options)
    if isinstance(rule, HardNegativeSelfDistillation):
        options |= {"alpha": rule.negatives.alpha, "beta": rule.negatives.beta}
        rule = rule.targets
    if rule.choose == "random":
        ids = torch.arange(len(scores))
        hashed = keyed_hash(ids, seed=0, step=0).tolist()
        count = int(rule.share(1.0) * len(scores) + 0.5)
        options["chosen"] = set(sorted(range(len(scores)), key=lambda i: hashed[i])[:count])
    return oracles.self_distillation(
        scores,
        share=rule.share(1.0),
        mode=rule.mode,
        columns=rule.columns,
        temperature=rule.teacher_temperature,
        swap=rule.swap,
        **options,
    )
