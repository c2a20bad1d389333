"""The fused execution: the two walks in Triton kernels (kernels.py) and cuBLAS products.

This rank's rows are walked against all columns. The first walk computes each tile once and keeps
only its statistics, which `SoftmaxForm.merge` joins after every few blocks of rows. The second
computes the tile again and writes G = dL/ds of a chunk of rows, from which two ordinary products
make the gradients, G t for the pictures and G^T x for the captions: 4 products of N x N x D for
InfoNCE and HN-NCE, 6 where a teacher's tile stands beside the model's. Memory is O(N·D).

bfloat16 embeddings are multiplied as they are and added up in float32. G is then rounded to
bfloat16, as flash attention rounds its probabilities: tensor cores take both operands in one type,
and a relative error of 2^-9 per entry, of no fixed sign, shrinks in a sum over many. The own pair's
part, which no sum would blur, never is in G. float32 embeddings stay float32 throughout; every
other type is computed as float32.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from winnow.distributed import all_gather, reduce_scatter
from winnow.objectives.batch import Embedded
from winnow.objectives.closed_form import ClosedForm, Settled, Statistics, TargetTiles
from winnow.objectives.softmax_form import SoftmaxForm
from winnow.objectives.two_pass import RawGradients
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.objectives.kernels import Blocks, Operands

MERGED_BLOCKS = 64
"""Blocks of rows whose statistics are merged at once: 8,192 rows, so that what waits for it, one
number per line of a tile, is 64 N in either direction."""
CHUNK_BYTES = 1 << 28
"""Of G at once."""


class FusedWalks:
    """The walks of one rank over one batch."""

    def __init__(self, batch: Embedded, block_size: int | None) -> None:
        self.batch = batch
        self.pairs = batch.pairs
        self._kernels = _kernels(batch)
        self._block_size = _checked(block_size, batch.feature_dtype)
        self._image_BD = self._short(batch.image_BD)
        self._text_BD = self._short(batch.text_BD)
        self._text_ND = all_gather(self._text_BD)

    def observe(self, form: ClosedForm) -> Statistics:
        """(2, N) statistics over this rank's tiles alone."""
        softmax = _require_softmax(form)
        operands, blocks = self._operands(softmax), self._blocks(softmax)
        names = _statistic_names(softmax)
        like, count = self.batch.image_BD, len(self.pairs)
        found = {name: like.new_full((2, count), softmax.identity[name]) for name in names}
        for rows in self._spans(MERGED_BLOCKS * blocks.rows):
            by_row, by_column = self._kernels.statistics(
                _narrowed(operands, rows), blocks, beta=softmax.beta, count=len(names)
            )
            place = slice(operands.first + rows.start, operands.first + rows.stop)
            row_parts = dict(zip(names, by_row, strict=True))
            column_parts = dict(zip(names, by_column, strict=True))
            _merge_into({name: found[name][0, place] for name in names}, softmax, row_parts)
            _merge_into({name: found[name][1] for name in names}, softmax, column_parts)
        return found

    def gradients(self, form: ClosedForm, settled: Settled) -> RawGradients:
        """The gradient, walking the same tiles."""
        softmax = _require_softmax(form)
        operands, blocks = self._operands(softmax), self._blocks(softmax)
        terms = sorted(settled.gradient_terms, key=lambda term: term.of_target)
        device = self.batch.image_BD.device
        terms_K2 = torch.tensor([[term.sign, term.power] for term in terms], device=device).float()
        shifts_K2N = torch.stack([term.shift_2N for term in terms]) * self._kernels.LOG2_E
        image_BD = torch.empty_like(self.batch.image_BD)
        text_ND = torch.zeros_like(self._text_ND, dtype=torch.float32)
        bias = image_BD.new_zeros(())
        chunk_CN = self._chunk(blocks.rows)
        for rows in self._spans(len(chunk_CN)):
            gradient_RN = chunk_CN[: rows.stop - rows.start]
            self._kernels.gradient(
                _narrowed(operands, rows),
                blocks,
                terms_K2=terms_K2,
                shifts_K2N=shifts_K2N,
                model_terms=sum(not term.of_target for term in terms),
                out_RN=gradient_RN,
            )
            image_BD[rows] = _product(gradient_RN, self._text_ND)
            text_ND += _product(gradient_RN.T, self._image_BD[rows])
            if self.batch.bias is not None:
                bias += gradient_RN.sum(dtype=torch.float32)
        return RawGradients(image_BD=image_BD, text_BD=reduce_scatter(text_ND), bias=bias)

    def _operands(self, form: SoftmaxForm) -> "Operands":
        """All of this rank's rows, and what stands against them for this form."""
        targets = form.targets
        rows_BD, columns_ND = self._target_sides(targets)
        zero = torch.zeros_like(self.batch.scale)
        model = (self.batch.scale, zero if self.batch.bias is None else self.batch.bias)
        affine = [value * self._kernels.LOG2_E for value in model]
        if targets is None:
            affine += [zero, zero]
        elif self.batch.teacher is not None:
            factor = self.batch.teacher.scale * self._kernels.LOG2_E
            affine += [factor / targets.temperature, zero]
        elif targets.swap:
            affine += [value / targets.temperature for value in affine]
        else:
            # Made of the model's logits, whose unit is right already.
            affine += [zero + 1 / targets.temperature, zero]
        return self._kernels.Operands(
            first=self.pairs.own.start,
            rows_RD=self._image_BD,
            columns_ND=self._text_ND,
            target_rows_RD=rows_BD,
            target_columns_ND=columns_ND,
            affine_4=torch.stack([value.to(self._image_BD.device) for value in affine]),
            has_target=targets is not None,
            allowed_N=None if targets is None else targets.columns_N,
            mask_ids_N=self.pairs.mask_ids_N,
        )

    def _target_sides(self, targets: TargetTiles | None) -> tuple[Tensor | None, Tensor | None]:
        """This rank's rows and all columns of the teacher's product, where it takes its own."""
        teacher = self.batch.teacher
        if targets is None or (teacher is None and not targets.swap):
            return None, None
        if teacher is None:
            return self._text_BD, self._image_ND
        if targets.swap:
            return self._short(teacher.text_BD), self._teacher_image_ND
        return self._short(teacher.image_BD), self._teacher_text_ND

    @cached_property
    def _image_ND(self) -> Tensor:
        return all_gather(self._image_BD)

    @cached_property
    def _teacher_image_ND(self) -> Tensor:
        assert self.batch.teacher is not None, "asked for where there is one"
        return all_gather(self._short(self.batch.teacher.image_BD))

    @cached_property
    def _teacher_text_ND(self) -> Tensor:
        assert self.batch.teacher is not None, "asked for where there is one"
        return all_gather(self._short(self.batch.teacher.text_BD))

    def _short(self, features_BD: Tensor) -> Tensor:
        """The embeddings in the type they came in, which held them exactly."""
        return features_BD.detach().to(self.batch.feature_dtype).contiguous()

    def _blocks(self, form: SoftmaxForm) -> "Blocks":
        kernels, heavy = self._kernels, form.beta != 0 or form.targets is not None
        usual = kernels.HALF_HEAVY if heavy else kernels.HALF
        if self.batch.feature_dtype != torch.bfloat16:
            usual = kernels.FULL
        size = self._block_size
        return usual if size is None else replace(usual, rows=size, columns=size)

    def _chunk(self, block_rows: int) -> Tensor:
        """Room for G of as many rows as the bytes allow, whole blocks of them."""
        count, dtype = len(self.pairs), self.batch.feature_dtype
        blocks = max(1, CHUNK_BYTES // (count * dtype.itemsize) // block_rows)
        rows = min(len(self._image_BD), blocks * block_rows)
        return torch.empty(rows, count, dtype=dtype, device=self._image_BD.device)

    def _spans(self, size: int) -> list[slice]:
        count = len(self._image_BD)
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _kernels(batch: Embedded) -> ModuleType:
    """kernels.py, once it is sure that it can run this batch."""
    device = batch.image_BD.device
    if batch.image_BD.dtype == torch.float64:
        raise InputError(
            "the triton execution computes in float32, and these embeddings are float64: take "
            "execution 'tiled'"
        )
    if find_spec("triton") is None:
        raise InputError(
            "the triton execution needs the package triton, which is not installed: install it, "
            "or take execution 'tiled'"
        )
    from winnow.objectives import kernels

    if device.type != "cuda" and not (device.type == "cpu" and kernels.INTERPRETED):
        raise InputError(
            f"the triton execution runs on a CUDA device, and these embeddings are on "
            f"'{device}': take execution 'tiled'"
        )
    return kernels


def _checked(block_size: int | None, dtype: torch.dtype) -> int | None:
    """The side of a tile that was asked for, if it can be one."""
    sides = [16, 32, 64, 128] if dtype == torch.bfloat16 else [16, 32, 64]
    if block_size is not None and block_size not in sides:
        raise InputError(
            f"block_size is {block_size}; the triton execution of {dtype} embeddings takes one of "
            f"{sides}, or none"
        )
    return block_size


def _require_softmax(form: ClosedForm) -> SoftmaxForm:
    if not isinstance(form, SoftmaxForm):
        raise InputError(
            f"the triton execution runs InfoNCE, HN-NCE and PSD, and this rule's loss is a "
            f"{type(form).__name__}: take execution 'tiled'"
        )
    return form


def _statistic_names(form: SoftmaxForm) -> list[str]:
    """What the kernel finds for this form, in its order."""
    names = ["largest", "plain"]
    if form.beta:
        names += ["easy", "hard", "easy_squared"]
    if form.targets is not None:
        names += ["target", "aim", "target_aim"]
    return names


def _narrowed(operands: "Operands", rows: slice) -> "Operands":
    """The walk over some of this rank's rows."""
    target_RD = operands.target_rows_RD
    return replace(
        operands,
        first=operands.first + rows.start,
        rows_RD=operands.rows_RD[rows],
        target_rows_RD=None if target_RD is None else target_RD[rows],
    )


def _merge_into(
    found: Mapping[str, Tensor], form: SoftmaxForm, parts_P: Mapping[str, Tensor]
) -> None:
    """Join the tiles' statistics with what was `found` before, in place."""
    new = form.merge(dict(parts_P))
    merged = form.merge({name: torch.stack([found[name], new[name]]) for name in found})
    for name, value in merged.items():
        found[name].copy_(value)


def _product(gradient_RN: Tensor, features_ND: Tensor) -> Tensor:
    """The product in float32, whatever the operands are."""
    if gradient_RN.dtype == torch.float32:
        return gradient_RN @ features_ND
    if gradient_RN.is_cuda and "dtype" in torch.ops.aten.mm.overloads():
        return torch.mm(gradient_RN, features_ND, out_dtype=torch.float32)
    # Before torch 2.8, and without a GPU, a product has the type of its operands.
    return gradient_RN.float() @ features_ND.float()
