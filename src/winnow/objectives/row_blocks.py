"""The dense and blocked executions: autograd on the rule itself, for any rule.

Dense runs the rule once on all of a rank's rows: the oracle. Blocked walks blocks of rows and takes
each block's gradient at once, so that memory is O(N·D + block·N). Both take 6 matrix products of
N x N x D where the two directions are computed apart.
"""

from dataclasses import replace

import torch
from torch import Tensor

from winnow.distributed import all_gather, all_sum, reduce_scatter, world
from winnow.objectives.batch import Embedded, Loss, with_gradients
from winnow.objectives.rows import RowLoss, Rows, Rule, gather_teacher


def row_blocks(rule: Rule, batch: Embedded, block_size: int) -> Loss:
    """The loss of the global batch by blocks of this rank's rows."""
    weight = batch.pairs.weight_N.sum()
    rows = _own_rows(batch)
    with torch.no_grad():
        statistics_N = _statistics(rule, rows, block_size)
    leaves = [rows.image_ND, rows.text_ND, rows.scale]
    leaves += [] if rows.bias is None else [rows.bias]
    blocks: list[RowLoss] = []
    total = torch.zeros_like(batch.scale)
    for block in _blocks(rows, block_size):
        with torch.set_grad_enabled(batch.needs_gradient):
            found = rule(block.with_statistics(statistics_N))
            share = (block.weight_C * found.loss_C).sum() / weight
        if batch.needs_gradient:
            share.backward(inputs=leaves)
        total += share.detach()
        blocks.append(RowLoss(loss_C=found.loss_C.detach(), diagnostics=found.diagnostics))
    total = all_sum(total)
    if batch.needs_gradient:
        total = with_gradients(total, batch.inputs, _gradients(leaves))
    return Loss(
        total=total,
        per_pair_B=torch.cat([block.loss_C for block in blocks]),
        diagnostics={
            name: torch.cat([block.diagnostics[name] for block in blocks])
            for name in blocks[0].diagnostics
        },
    )


def _own_rows(batch: Embedded) -> Rows:
    """This rank's rows against all columns, on leaves that collect the gradient."""
    own = batch.pairs.own
    return Rows(
        image_ND=_leaf(all_gather(batch.image_BD.detach())),
        text_ND=_leaf(all_gather(batch.text_BD.detach())),
        scale=_leaf(batch.scale.detach()),
        bias=None if batch.bias is None else _leaf(batch.bias.detach()),
        teacher=None if batch.teacher is None else gather_teacher(batch.teacher),
        pairs=batch.pairs,
        start=own.start,
        size=own.stop - own.start,
    )


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _gradients(leaves: list[Tensor]) -> list[Tensor]:
    """This rank's share of the gradient of each input, for wrappers that average over ranks."""
    image_ND, text_ND, *scalars = (
        torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves
    )
    shares = [reduce_scatter(image_ND), reduce_scatter(text_ND), *scalars]
    return [world().size * share for share in shares]


def _statistics(rule: Rule, rows: Rows, block_size: int) -> dict[str, Tensor]:
    """What `prepare` says of all blocks, joined; a rule that needs nothing costs nothing."""
    found: list[dict[str, Tensor]] = []
    for block in _blocks(rows, block_size):
        statistics_C = rule.prepare(block)
        if not statistics_C:
            return {}
        found.append(statistics_C)
    return {name: all_gather(torch.cat([block[name] for block in found])) for name in found[0]}


def _blocks(rows: Rows, block_size: int) -> list[Rows]:
    stop = rows.start + rows.size
    return [
        replace(rows, start=start, size=min(block_size, stop - start), cache={})
        for start in range(rows.start, stop, block_size)
    ]
