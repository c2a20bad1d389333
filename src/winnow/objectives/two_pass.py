"""The two-pass executions: walk the logits for statistics, walk them again for the gradient.

What a rank holds is its own pairs; what it walks is its share of the tiles. Between the walks the
statistics of all ranks are joined, so that every rank settles the same loss; after the second, the
gradients of other ranks' embeddings go home. Bytes per rank and step: O(N·D), whatever the loss.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from winnow.distributed import all_gather, exchange, world
from winnow.objectives.batch import Embedded, Loss, inner_products, with_gradients
from winnow.objectives.closed_form import (
    ClosedForm,
    ClosedFormRule,
    Observed,
    Settled,
    Statistics,
)


@dataclass(frozen=True, kw_only=True)
class RawGradients:
    """What the second walk found, of the negatives, before the factor `scale`."""

    image_BD: Tensor
    """Σ_j dL/ds_ij t_j of this rank's pictures, over all ranks' tiles."""
    text_BD: Tensor
    """Σ_i dL/ds_ij x_i of this rank's captions, over all ranks' tiles."""
    bias: Tensor
    """Σ_ij dL/ds_ij over this rank's tiles."""


class Walks(Protocol):
    """The two walks over one batch, in whatever way they are executed."""

    def observe(self, form: ClosedForm) -> Statistics:
        """(2, N) statistics over this rank's tiles alone."""
        ...

    def gradients(self, form: ClosedForm, settled: Settled) -> RawGradients:
        """The gradient, walking the same tiles."""
        ...


def two_pass(rule: ClosedFormRule, batch: Embedded, walks: Walks) -> Loss:
    """The loss of the global batch, and its gradient where one will be asked for."""
    with torch.no_grad():
        settled, total, gradients = _walk_twice(rule, batch, walks)
    own = batch.pairs.own
    return Loss(
        total=with_gradients(total, batch.inputs, gradients) if gradients else total,
        per_pair_B=settled.loss_N[own],
        diagnostics={name: value_N[own] for name, value_N in settled.diagnostics_N.items()},
    )


def _walk_twice(
    rule: ClosedFormRule, batch: Embedded, walks: Walks
) -> tuple[Settled, Tensor, list[Tensor]]:
    def measure(form: ClosedForm) -> Observed:
        return _measure(form, batch, walks)

    pairs = batch.pairs
    form = rule.closed_form(pairs, measure)
    settled = form.settle(measure(form), pairs)
    total = (pairs.weight_N * settled.loss_N).sum() / pairs.weight_N.sum()
    if not batch.needs_gradient:
        return settled, total, []
    return settled, total, _gradients(batch, settled, walks.gradients(form, settled))


def _measure(form: ClosedForm, batch: Embedded, walks: Walks) -> Observed:
    partial_2N = walks.observe(form)
    statistics_2N = partial_2N if world().size == 1 else _join(form, partial_2N)
    target_own_N = None
    if form.targets is not None:
        # The own pair's logit is the same number in both directions, swapped or not.
        target_own_N = all_gather(batch.teacher_own_B()) / form.targets.temperature
    return Observed(
        own_N=all_gather(batch.own_B()),
        target_own_N=target_own_N,
        scale=batch.scale,
        statistics_2N=statistics_2N,
    )


def _join(form: ClosedForm, partial_2N: Statistics) -> Statistics:
    """Every rank joins what all found of its own pairs, then all learn all: O(N) bytes per rank."""
    names = sorted(partial_2N)
    stacked_NS = torch.stack([partial_2N[name] for name in names]).flatten(0, 1).T
    parts_WBS = exchange(stacked_NS)
    parts = parts_WBS.unflatten(2, (len(names), 2)).permute(2, 0, 3, 1)
    merged = form.merge(dict(zip(names, parts, strict=True)))
    whole_N2S = all_gather(torch.stack([merged[name].T for name in names], 2))
    return {name: whole_N2S[:, :, k].T for k, name in enumerate(names)}


def _gradients(batch: Embedded, settled: Settled, raw: RawGradients) -> list[Tensor]:
    """dL in image, text, scale and bias, the own pairs included, for wrappers that average.

    Σ_ij dL/ds_ij x_i·t_j, the gradient of the scale, is the sum over this rank's rows i of x_i
    times what was found for x_i: no walk of its own.
    """
    own_B1, ranks = settled.own_gradient_N[batch.pairs.own, None], world().size
    # In place: at large N a copy of a gradient is most of what the loss needs.
    image_BD = raw.image_BD.addcmul_(own_B1, batch.text_BD)
    text_BD = raw.text_BD.addcmul_(own_B1, batch.image_BD)
    scale = ranks * inner_products(image_BD, batch.image_BD).sum()
    gradients = [image_BD.mul_(ranks * batch.scale), text_BD.mul_(ranks * batch.scale), scale]
    if batch.bias is not None:
        gradients.append(ranks * (raw.bias + own_B1.sum()))
    return gradients
