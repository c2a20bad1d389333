"""What the loss says of each pair, against the same written out as loops."""

import math

import numpy as np
import pytest
import torch
from cases import EXECUTIONS, PSD, RULES, SCALE, by_rule, embeddings

from winnow.objectives import Context, HardNegativeNCE, InfoNCE, contrastive_loss

by_execution = pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS.keys())


def scores_of(image, text):
    return (SCALE * image @ text.T).numpy()


def softmax(row):
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@by_execution
def test_own_probability_and_rank(execution):
    image, text = embeddings()
    found = contrastive_loss(InfoNCE(), image, text, SCALE, **execution).diagnostics
    scores = scores_of(image, text)
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        own = [softmax(row)[i] for i, row in enumerate(rows)]
        first = [
            float(all(row[i] > row[j] for j in range(11) if j != i)) for i, row in enumerate(rows)
        ]
        np.testing.assert_allclose(found[f"own_probability_{name}"], own, rtol=1e-12)
        np.testing.assert_array_equal(found[f"rank_1_{name}"], first)
        assert 0 < sum(first) < 11


@by_rule
@by_execution
def test_the_margin_is_to_the_best_other_that_is_no_own(rule, execution):
    """Pairs 0 and 3 share a caption, and a pair alone would have no margin at all."""
    image, text = embeddings()
    captions = torch.tensor([0, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10])
    bias = torch.tensor(-3.0, dtype=torch.float64)
    found = contrastive_loss(
        rule,
        image,
        text,
        SCALE,
        bias=bias,
        progress=1.0,
        context=Context(caption_id_B=captions),
        **execution,
    ).diagnostics
    scores = scores_of(image, text)
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        expected = []
        for i, row in enumerate(rows):
            others = [row[j] for j in range(11) if j != i and captions[j] != captions[i]]
            expected.append(row[i] - max(others))
        np.testing.assert_allclose(found[f"margin_{name}"], expected, rtol=1e-11, atol=1e-12)
        assert min(expected) < 0 < max(expected)
    alone = contrastive_loss(rule, image[:1], text[:1], SCALE, progress=1.0, **execution)
    assert alone.diagnostics["margin_image_to_text"].isnan().all()


@by_execution
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_caption_that_occurs_twice_ranks_first_for_neither_picture(execution, dtype):
    image, text = (t.to(dtype) for t in embeddings(count=9, width=33))
    image = text.clone()
    image[4] = text[4] = text[1]
    found = contrastive_loss(InfoNCE(), image, text, SCALE.to(dtype), **execution).diagnostics
    first = [float(i not in (1, 4)) for i in range(9)]
    np.testing.assert_array_equal(found["rank_1_image_to_text"], first)
    np.testing.assert_array_equal(found["rank_1_text_to_image"], first)


@by_execution
def test_effective_negatives_are_the_weights_participation_ratio(execution):
    image, text = embeddings()
    rule = HardNegativeNCE(beta=0.7)
    found = contrastive_loss(rule, image, text, SCALE, **execution).diagnostics
    scores = scores_of(image, text)
    for name, rows in (("image_to_text", scores), ("text_to_image", scores.T)):
        expected = []
        for i, row in enumerate(rows):
            weights = [math.exp(0.7 * value) for j, value in enumerate(row) if j != i]
            expected.append(sum(weights) ** 2 / sum(w * w for w in weights))
        np.testing.assert_allclose(found[f"effective_negatives_{name}"], expected, rtol=1e-10)


@by_execution
@pytest.mark.parametrize("name", ["psd-least-aligned", "psd-blend", "psd-subset-columns"])
def test_own_mass_and_entropy_are_those_of_the_targets(execution, name):
    image, text = embeddings()
    rule = RULES[name]
    found = contrastive_loss(rule, image, text, SCALE, progress=1.0, **execution).diagnostics
    scores, softness = scores_of(image, text), found["softness"].tolist()
    mass, entropy = np.zeros(11), np.zeros(11)
    for rows in (scores.T, scores):  # swapped: image to text learns from text to image
        for i, row in enumerate(rows):
            among = [j for j in range(11) if rule.columns == "all" or j == i or softness[j] > 0]
            soft = softmax([row[j] / rule.teacher_temperature for j in among])
            target = dict(zip(among, (softness[i] * value for value in soft), strict=True))
            target[i] += 1 - softness[i]
            mass[i] += target[i] / 2
            entropy[i] -= sum(v * math.log(v) for v in target.values() if v > 0) / 2
    np.testing.assert_allclose(found["target_own_mass"], mass, rtol=1e-10)
    np.testing.assert_allclose(found["target_entropy"], entropy, rtol=1e-9, atol=1e-12)
    assert entropy.max() > 0.1


@by_execution
def test_with_nothing_soft_every_target_is_one_hot(execution):
    image, text = embeddings()
    rule = PSD(initial_share=0.0, final_share=0.5)
    found = contrastive_loss(rule, image, text, SCALE, progress=0.0, **execution).diagnostics
    assert found["softness"].eq(0).all()
    assert found["target_own_mass"].eq(1).all()
    assert found["target_entropy"].eq(0).all()
