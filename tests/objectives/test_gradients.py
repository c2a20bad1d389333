"""Gradients against finite differences, and HN-NCE's weights read off them."""

import pytest
import torch
from cases import EXECUTIONS, PSD, SCALE, embeddings

from winnow.objectives import (
    Context,
    HardNegativeNCE,
    HardNegativeSelfDistillation,
    InfoNCE,
    SigLIP,
    Teacher,
    contrastive_loss,
)

HARD = HardNegativeNCE(alpha=0.9, beta=0.5)
DIFFERENTIABLE = {
    "infonce": InfoNCE(),
    "hard-negative": HARD,
    "siglip": SigLIP(),
    "psd": PSD(initial_share=0.5, final_share=0.5),
    "psd-blend": PSD(initial_share=0.3, final_share=0.3, mode="blend"),
    "hard-negative-psd": HardNegativeSelfDistillation(negatives=HARD, targets=PSD(final_share=0.5)),
}
"""Nothing is detached here but the targets of PSD, which a fixed teacher sets."""


@pytest.mark.parametrize("rule", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE.keys())
@pytest.mark.parametrize("execution", ["dense", "tiles-of-4"])
def test_gradcheck(rule, execution):
    teacher_image, teacher_text = embeddings(count=6, width=3, seed=4)
    teacher = Teacher(image_BD=teacher_image, text_BD=teacher_text, scale=SCALE)
    context = Context(
        weight_B=torch.linspace(0.5, 2, 6), caption_id_B=torch.tensor([0, 1, 0, 2, 3, 4])
    )

    def total(image, text, scale, bias):
        return contrastive_loss(
            rule,
            image,
            text,
            scale,
            bias=bias,
            teacher=teacher,
            context=context,
            progress=1.0,
            **EXECUTIONS[execution],
        ).total

    inputs = [*embeddings(count=6, width=3), SCALE, -SCALE / 5]
    assert torch.autograd.gradcheck(total, [t.clone().requires_grad_() for t in inputs])


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS.keys())
@pytest.mark.parametrize("masked", [False, True])
def test_hard_negative_weights_sum_to_the_number_of_negatives_both_ways(execution, masked):
    """With detached weights dL/ds_ij = w_ij exp s_ij / D_i, and D_i is known from the loss.

    Pictures are unit vectors along the axes, so captions hold the logits themselves.
    """
    count, pair = 7, 2
    scores = torch.randn(count, count, generator=torch.Generator().manual_seed(1)).double()
    captions = torch.tensor([0, 1, 2, 2, 3, 4, 5]) if masked else torch.arange(count)
    weight = torch.zeros(count).index_fill(0, torch.tensor([pair]), 1.0)
    context = Context(weight_B=weight, caption_id_B=captions)
    rule = HardNegativeNCE(alpha=0.7, beta=0.6, detach_weights=True)

    def gradient_and_loss(scores):
        text = scores.T.clone().requires_grad_()
        loss = contrastive_loss(
            rule,
            torch.eye(count).double(),
            text,
            torch.ones(()).double(),
            context=context,
            **execution,
        )
        (gradient,) = torch.autograd.grad(loss.total, text)
        return gradient.T

    gradient = gradient_and_loss(scores)
    negatives = captions != captions[pair]
    for line, logits in ((gradient[pair], scores[pair]), (gradient[:, pair], scores[:, pair])):
        # α exp s_ii / D is what the negatives' shares leave of 1.
        share = 2 * line[negatives]
        denominator = 0.7 * scores[pair, pair].exp() / (1 - share.sum())
        weights = share * denominator / logits[negatives].exp()
        torch.testing.assert_close(weights.sum(), negatives.sum().double())
        expected = (0.6 * logits[negatives]).softmax(0) * negatives.sum()
        torch.testing.assert_close(weights, expected)
