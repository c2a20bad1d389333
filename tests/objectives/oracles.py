"""The formulas written out as literal loops over single pairs, in float64, for numpy arrays.

Nothing here is stable, vectorised or clever: it is what the papers print.
"""

import math

import numpy as np


def softmax(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def mean_of_directions(scores, row_loss, weights=None):
    """L = Σ_i w_i (i2t_i + t2i_i) / (2 Σ_i w_i); `row_loss(scores, i)` reads row i."""
    count = len(scores)
    weights = [1.0] * count if weights is None else weights
    per_pair = [(row_loss(scores, i) + row_loss(scores.T, i)) / 2 for i in range(count)]
    return sum(w * p for w, p in zip(weights, per_pair, strict=True)) / sum(weights), per_pair


def infonce(scores, *, allowed=None, weights=None):
    def row(s, i):
        columns = [j for j in range(len(s)) if allowed is None or allowed[i][j] or i == j]
        return -math.log(math.exp(s[i, i]) / sum(math.exp(s[i, j]) for j in columns))

    return mean_of_directions(scores, row, weights)


def siglip(scores, *, allowed=None, weights=None):
    def row(s, i):
        negatives = [j for j in range(len(s)) if j != i and (allowed is None or allowed[i][j])]
        questions = [s[i, i], *(-s[i, j] for j in negatives)]
        return sum(-math.log(1 / (1 + math.exp(-logit))) for logit in questions)

    return mean_of_directions(scores, row, weights)


def hard_negative(scores, *, alpha, beta, allowed=None, weights=None):
    def row(s, i):
        denominator = hard_negative_denominator(s, i, alpha, beta, allowed)
        return -math.log(math.exp(s[i, i]) / denominator)

    return mean_of_directions(scores, row, weights)


def hard_negative_denominator(s, i, alpha, beta, allowed):
    negatives = [j for j in range(len(s)) if j != i and (allowed is None or allowed[i][j])]
    total = sum(math.exp(beta * s[i, k]) for k in negatives)
    denominator = alpha * math.exp(s[i, i])
    for j in negatives:
        weight = len(negatives) * math.exp(beta * s[i, j]) / total
        denominator += weight * math.exp(s[i, j])
    return denominator


def self_distillation(
    scores,
    *,
    share,
    mode="subset",
    chosen=None,
    columns="all",
    temperature=1.0,
    swap=True,
    teacher_scores=None,
    allowed=None,
    weights=None,
    alpha=1.0,
    beta=0.0,
):
    """`chosen`: the set of soft pairs; None lets the least-aligned floor(share N + 1/2) be it."""
    teacher = scores if teacher_scores is None else teacher_scores
    count = len(scores)

    def target(t, i, among):
        values = {j: math.exp((t[j, i] if swap else t[i, j]) / temperature) for j in among}
        return {j: v / sum(values.values()) for j, v in values.items()}

    def columns_of(i):
        return [j for j in range(count) if allowed is None or allowed[i][j] or i == j]

    if chosen is None and mode == "subset":
        mass = [
            (target(teacher, i, columns_of(i))[i] + target(teacher.T, i, columns_of(i))[i]) / 2
            for i in range(count)
        ]
        chosen = set(sorted(range(count), key=lambda i: mass[i])[: math.floor(share * count + 0.5)])

    def one_direction(s, t, i):
        log_partition = math.log(hard_negative_denominator(s, i, alpha, beta, allowed))
        among = columns_of(i)
        if mode == "subset" and columns == "subset":
            among = [j for j in among if j in chosen or j == i]
        soft = sum(a * s[i, j] for j, a in target(t, i, among).items())
        softness = share if mode == "blend" else float(i in chosen)
        return log_partition - (1 - softness) * s[i, i] - softness * soft

    weights = [1.0] * count if weights is None else weights
    per_pair = [
        (one_direction(scores, teacher, i) + one_direction(scores.T, teacher.T, i)) / 2
        for i in range(count)
    ]
    return sum(w * p for w, p in zip(weights, per_pair, strict=True)) / sum(weights), per_pair


def numeric_gradient(function, array, epsilon=1e-6):
    """Central differences of a scalar function, entry by entry."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        step = np.zeros_like(array)
        step[index] = epsilon
        gradient[index] = (function(array + step) - function(array - step)) / (2 * epsilon)
    return gradient
