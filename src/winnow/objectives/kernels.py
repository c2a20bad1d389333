"""Triton kernels of the fused execution: one tile of logits, computed where it is used.

A program holds the tile s = scale · x_I t_J^T + bias of its rows I (pictures) and columns J
(captions) in registers and serves both directions with it: its rows are image to text, its columns
text to image. `statistics` writes what `SoftmaxForm.observe` finds in the tile, once along the rows
and once along the columns; `gradient` writes dL/ds. The equations are softmax_form.py's.

Inside, logits are in units of log 2: log2(e) is folded into the scale, so that an exponential is
one instruction; statistics leave in natural logarithms. Programs share nothing and add nothing to
what another wrote, so results do not depend on their order.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from winnow.objectives.pairs import MASKED

LOG2_E = 1 / math.log(2)
_LN_2 = tl.constexpr(math.log(2))
_MASKED = tl.constexpr(MASKED)
_OUTSIDE = tl.constexpr(1e5 * MASKED)
"""The logit of a place beyond the batch: as far below MASKED as MASKED is below any logit, so that
it adds nothing even to a line where all else is masked. Finite: 0 times it is 0."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How a kernel is cut. Sizes are powers of two from 16."""

    rows: int
    columns: int
    depth: int
    """Width of the slices of D in which a tile's product is added up."""
    warps: int
    stages: int
    """Slices on their way from memory at once."""


HALF = Blocks(rows=128, columns=128, depth=64, warps=8, stages=3)
"""For bfloat16 on Hopper. Compiled for it, InfoNCE takes 128 registers a thread and 96 KB, so that
two programs fit a multiprocessor and the product of one hides the exponentials of the other."""
HALF_HEAVY = replace(HALF, warps=16)
"""Where more sums, or a teacher's tile, make one program fill a multiprocessor's registers."""
FULL = Blocks(rows=64, columns=64, depth=32, warps=4, stages=2)
"""For float32, which no tensor core multiplies exactly: the product takes ordinary registers."""


@dataclass(frozen=True, kw_only=True)
class Operands:
    """What a walk over R of this rank's rows reads. All contiguous, on one device."""

    first: int
    """Global index of the first row."""
    rows_RD: Tensor
    columns_ND: Tensor
    target_rows_RD: Tensor | None
    """Of the teacher's product; None for no teacher, or one whose logits are the model's."""
    target_columns_ND: Tensor | None
    affine_4: Tensor
    """float32: factor and offset of the model's logits, then of the teacher's, times log2(e)."""
    has_target: bool
    allowed_N: Tensor | None
    """bool: the columns that targets spread over; None for all."""
    mask_ids_N: tuple[Tensor, ...]
    """int64, at most two: pairs that agree in one are no negatives of each other."""

    def arguments(self) -> tuple[Any, ...]:
        """What both kernels take first."""
        assert len(self.mask_ids_N) <= 2, "the kernels compare captions and pictures"
        first_ids_N, second_ids_N = (*self.mask_ids_N, None, None)[:2]
        sides: tuple[Tensor | None, ...] = (
            self.rows_RD,
            self.columns_ND,
            self.target_rows_RD,
            self.target_columns_ND,
        )
        if INTERPRETED:
            # The interpreter multiplies bfloat16 by its bits, taken as whole numbers.
            sides = tuple(None if side is None else side.float() for side in sides)
        return (
            *sides,
            self.affine_4,
            first_ids_N,
            second_ids_N,
            None if self.allowed_N is None else self.allowed_N.to(torch.uint8),
            self.first,
            len(self.rows_RD),
            len(self.columns_ND),
        )


def statistics(
    operands: Operands, blocks: Blocks, *, beta: float, count: int
) -> tuple[Tensor, Tensor]:
    """The tiles' `count` statistics: (count, column blocks, R) and (count, row blocks, N)."""
    rows, columns = len(operands.rows_RD), len(operands.columns_ND)
    grid = (triton.cdiv(rows, blocks.rows), triton.cdiv(columns, blocks.columns))
    like = operands.affine_4
    by_row, by_column = (
        like.new_empty(count, grid[1], rows),
        like.new_empty(count, grid[0], columns),
    )
    with torch.cuda.device_of(like):
        _statistics[grid](
            *operands.arguments(),
            by_row,
            by_column,
            float(beta),
            HARD=beta != 0,
            TARGET=operands.has_target,
            **_shape(operands, blocks),
        )
    return by_row, by_column


def gradient(
    operands: Operands,
    blocks: Blocks,
    *,
    terms_K2: Tensor,
    shifts_K2N: Tensor,
    model_terms: int,
    out_RN: Tensor,
) -> None:
    """Write dL/ds of the rows' negatives, both directions together, to `out_RN`.

    `terms_K2` holds sign and power of each term, those of the model's logits first; `shifts_K2N`
    its shifts times log2(e).
    """
    grid = (
        triton.cdiv(len(operands.rows_RD), blocks.rows),
        triton.cdiv(len(operands.columns_ND), blocks.columns),
    )
    with torch.cuda.device_of(out_RN):
        _gradient[grid](
            *operands.arguments(),
            terms_K2,
            shifts_K2N,
            out_RN,
            TERMS=len(terms_K2),
            MODEL_TERMS=model_terms,
            TARGET=operands.has_target,
            **_shape(operands, blocks),
        )


def _shape(operands: Operands, blocks: Blocks) -> dict[str, int]:
    return {
        "D": operands.rows_RD.shape[1],
        "BLOCK_R": blocks.rows,
        "BLOCK_C": blocks.columns,
        "BLOCK_D": blocks.depth,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


@triton.jit
def _product(
    row_ptr: tl.tensor,
    column_ptr: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> tl.tensor:
    """(BLOCK_R, BLOCK_C) inner products in float32, by slices of D.

    `row` and `column` are int64: N times D may pass 2^31.
    """
    product = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        rows = tl.load(row_ptr + row[:, None] * D + d[None, :], mask=d[None, :] < D, other=0.0)
        columns = tl.load(
            column_ptr + column[None, :] * D + d[:, None], mask=d[:, None] < D, other=0.0
        )
        product = tl.dot(rows, columns, product, input_precision="ieee")
    return product


@triton.jit
def _masked(
    logits: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    first: tl.tensor,
    R: tl.tensor,
    N: tl.tensor,
    first_ids_ptr: tl.tensor,
    second_ids_ptr: tl.tensor,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> tl.tensor:
    """The tile with what is no negative MASKED, as `Pairs.forbidden` has it, and its edges away."""
    row_at, column_at = first + tl.minimum(row, R - 1), tl.minimum(column, N - 1)
    if first_ids_ptr is not None:
        same = (
            tl.load(first_ids_ptr + row_at)[:, None] == tl.load(first_ids_ptr + column_at)[None, :]
        )
        logits = tl.where(same, _MASKED, logits)
    if second_ids_ptr is not None:
        same = (
            tl.load(second_ids_ptr + row_at)[:, None]
            == tl.load(second_ids_ptr + column_at)[None, :]
        )
        logits = tl.where(same, _MASKED, logits)
    # Few tiles hold own pairs or an edge; the others are spared the comparisons.
    row_start, column_start = tl.program_id(0) * BLOCK_R, tl.program_id(1) * BLOCK_C
    meets = (first + row_start < column_start + BLOCK_C) & (
        column_start < first + row_start + BLOCK_R
    )
    ends = (row_start + BLOCK_R > R) | (column_start + BLOCK_C > N)
    if meets | ends:
        logits = tl.where((first + row)[:, None] == column[None, :], _MASKED, logits)
        logits = tl.where((row < R)[:, None] & (column < N)[None, :], logits, _OUTSIDE)
    return logits


@triton.jit
def _tile(
    row_ptr: tl.tensor,
    column_ptr: tl.tensor,
    target_row_ptr: tl.tensor,
    target_column_ptr: tl.tensor,
    affine_ptr: tl.tensor,
    first_ids_ptr: tl.tensor,
    second_ids_ptr: tl.tensor,
    first: tl.tensor,
    R: tl.tensor,
    N: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    D: tl.constexpr,
    TARGET: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> tl.tensor:
    """The model's logits of this program's tile, and the teacher's or the same again."""
    # What lies beyond the batch reads its last line, and is masked after.
    row_at = tl.minimum(row, R - 1).to(tl.int64)
    column_at = tl.minimum(column, N - 1).to(tl.int64)
    logits = _product(row_ptr, column_ptr, row_at, column_at, D, BLOCK_R, BLOCK_C, BLOCK_D)
    logits = logits * tl.load(affine_ptr) + tl.load(affine_ptr + 1)
    target = logits
    if TARGET:
        if target_row_ptr is not None:
            target = _product(
                target_row_ptr, target_column_ptr, row_at, column_at, D, BLOCK_R, BLOCK_C, BLOCK_D
            )
        target = target * tl.load(affine_ptr + 2) + tl.load(affine_ptr + 3)
        target = _masked(
            target, row, column, first, R, N, first_ids_ptr, second_ids_ptr, BLOCK_R, BLOCK_C
        )
    logits = _masked(
        logits, row, column, first, R, N, first_ids_ptr, second_ids_ptr, BLOCK_R, BLOCK_C
    )
    return logits, target


@triton.jit
def _spread(
    target: tl.tensor, allowed_ptr: tl.tensor, line_at: tl.tensor, AXIS: tl.constexpr
) -> tl.tensor:
    """The teacher's logits where targets spread over `allowed` lines of the axis only."""
    if allowed_ptr is not None:
        allowed = tl.expand_dims(tl.load(allowed_ptr + line_at), 1 - AXIS)
        target = tl.where(allowed != 0, target, _MASKED)
    return target


@triton.jit
def _observe(
    logits: tl.tensor,
    target: tl.tensor,
    out_ptr: tl.tensor,
    plane: tl.tensor,
    inside: tl.tensor,
    beta: tl.tensor,
    AXIS: tl.constexpr,
    HARD: tl.constexpr,
    TARGET: tl.constexpr,
) -> None:
    """`SoftmaxForm.observe` along an axis; its statistics lie `plane` places apart."""
    largest = tl.max(logits, AXIS)
    shifted = logits - tl.expand_dims(largest, AXIS)
    plain = tl.exp2(shifted)
    tl.store(out_ptr, largest * _LN_2, mask=inside)
    out_ptr += plane
    tl.store(out_ptr, (largest + tl.log2(tl.sum(plain, AXIS))) * _LN_2, mask=inside)
    if HARD:
        easy = tl.exp2(beta * shifted)
        low = beta * largest
        out_ptr += plane
        tl.store(out_ptr, (low + tl.log2(tl.sum(easy, AXIS))) * _LN_2, mask=inside)
        hard = tl.log2(tl.sum(plain * easy, AXIS))
        out_ptr += plane
        tl.store(out_ptr, (largest + low + hard) * _LN_2, mask=inside)
        squared = tl.log2(tl.sum(easy * easy, AXIS))
        out_ptr += plane
        tl.store(out_ptr, (2 * low + squared) * _LN_2, mask=inside)
    if TARGET:
        peak = tl.max(target, AXIS)
        mass = tl.exp2(target - tl.expand_dims(peak, AXIS))
        total = tl.sum(mass, AXIS)
        out_ptr += plane
        tl.store(out_ptr, (peak + tl.log2(total)) * _LN_2, mask=inside)
        aim = tl.sum(mass * logits, AXIS) / total
        out_ptr += plane
        tl.store(out_ptr, aim * _LN_2, mask=inside)
        target_aim = tl.sum(mass * target, AXIS) / total
        out_ptr += plane
        tl.store(out_ptr, target_aim * _LN_2, mask=inside)


@triton.jit
def _statistics(
    row_ptr: tl.tensor,
    column_ptr: tl.tensor,
    target_row_ptr: tl.tensor,
    target_column_ptr: tl.tensor,
    affine_ptr: tl.tensor,
    first_ids_ptr: tl.tensor,
    second_ids_ptr: tl.tensor,
    allowed_ptr: tl.tensor,
    first: tl.tensor,
    R: tl.tensor,
    N: tl.tensor,
    by_row_ptr: tl.tensor,
    by_column_ptr: tl.tensor,
    beta: tl.tensor,
    HARD: tl.constexpr,
    TARGET: tl.constexpr,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One tile's statistics, along its rows and along its columns."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    logits, target = _tile(
        row_ptr, column_ptr, target_row_ptr, target_column_ptr, affine_ptr, first_ids_ptr,
        second_ids_ptr, first, R, N, row, column, D, TARGET, BLOCK_R, BLOCK_C, BLOCK_D,
    )  # fmt: skip
    row_target = _spread(target, allowed_ptr, tl.minimum(column, N - 1), 1)
    row_out_ptr = by_row_ptr + tl.program_id(1).to(tl.int64) * R + row
    row_plane = tl.num_programs(1).to(tl.int64) * R
    _observe(logits, row_target, row_out_ptr, row_plane, row < R, beta, 1, HARD, TARGET)
    column_target = _spread(target, allowed_ptr, first + tl.minimum(row, R - 1), 0)
    column_out_ptr = by_column_ptr + tl.program_id(0).to(tl.int64) * N + column
    column_plane = tl.num_programs(0).to(tl.int64) * N
    _observe(logits, column_target, column_out_ptr, column_plane, column < N, beta, 0, HARD, TARGET)


@triton.jit
def _gradient(
    row_ptr: tl.tensor,
    column_ptr: tl.tensor,
    target_row_ptr: tl.tensor,
    target_column_ptr: tl.tensor,
    affine_ptr: tl.tensor,
    first_ids_ptr: tl.tensor,
    second_ids_ptr: tl.tensor,
    allowed_ptr: tl.tensor,
    first: tl.tensor,
    R: tl.tensor,
    N: tl.tensor,
    terms_ptr: tl.tensor,
    shifts_ptr: tl.tensor,
    out_ptr: tl.tensor,
    TERMS: tl.constexpr,
    MODEL_TERMS: tl.constexpr,
    TARGET: tl.constexpr,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One tile of dL/ds: every `GradientTerm`, of the pair's row and of its column."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    logits, target = _tile(
        row_ptr, column_ptr, target_row_ptr, target_column_ptr, affine_ptr, first_ids_ptr,
        second_ids_ptr, first, R, N, row, column, D, TARGET, BLOCK_R, BLOCK_C, BLOCK_D,
    )  # fmt: skip
    row_at, column_at = first + tl.minimum(row, R - 1), tl.minimum(column, N - 1)
    row_logits, column_logits = logits, logits
    found = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for term in tl.static_range(TERMS):
        if term == MODEL_TERMS:
            row_logits = _spread(target, allowed_ptr, column_at, 1)
            column_logits = _spread(target, allowed_ptr, row_at, 0)
        sign, power = tl.load(terms_ptr + 2 * term), tl.load(terms_ptr + 2 * term + 1)
        row_shift = tl.load(shifts_ptr + row_at)
        shifts_ptr += N
        column_shift = tl.load(shifts_ptr + column_at)
        shifts_ptr += N
        by_row = tl.exp2(power * row_logits - row_shift[:, None])
        by_column = tl.exp2(power * column_logits - column_shift[None, :])
        found += sign * (by_row + by_column)
    out_ptrs = out_ptr + row.to(tl.int64)[:, None] * N + column[None, :]
    inside = (row < R)[:, None] & (column < N)[None, :]
    tl.store(out_ptrs, found.to(out_ptr.dtype.element_ty), mask=inside)


INTERPRETED = not isinstance(_statistics, triton.JITFunction)
"""Whether Triton was told, by TRITON_INTERPRET=1 before this file was read, to run on the CPU."""
