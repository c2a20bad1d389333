"""The tiled execution: pure PyTorch, any device, O(N·D) memory.

A tile of R x C logits serves both directions, so InfoNCE and HN-NCE take 4 matrix products of
N x N x D (logits twice, two gradients) where plain autograd of both directions takes 6.

PSD's targets for s_ij are made of s_ji. Tiles are then walked in mirrored pairs, (I, J) with
(J, I): each is the other's teacher, and PSD takes 4 products as well. Only a separate teacher
costs 2 more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from winnow.distributed import PendingGather, all_gather, reduce_scatter, world
from winnow.objectives.batch import Embedded
from winnow.objectives.closed_form import ClosedForm, Settled, Statistics, TargetTiles
from winnow.objectives.pairs import MASKED
from winnow.objectives.two_pass import RawGradients

DEFAULT_TILE = 1024
_KEPT_LOGITS = 1 << 22
"""Logits that are kept from the first walk for the second, where a rank has no more: 16 MB."""


@dataclass(frozen=True)
class _Tile:
    """Logits of `rows` (pictures) against `columns` (captions), and the teacher's beside them."""

    rows: slice
    columns: slice
    logits_RC: Tensor
    target_RC: Tensor | None

    def directions(
        self, allowed_N: Tensor | None
    ) -> Iterator[tuple[int, slice, Tensor, Tensor | None]]:
        """The tile as each direction sees it: its rows, then its columns as rows.

        Targets spread over `allowed_N` only, where it is given.
        """
        for direction, (rows, columns) in enumerate(
            ((self.rows, self.columns), (self.columns, self.rows))
        ):
            logits_RC, target_RC = self.logits_RC, self.target_RC
            if direction:
                logits_RC, target_RC = logits_RC.T, None if target_RC is None else target_RC.T
            if target_RC is not None and allowed_N is not None:
                target_RC = target_RC.masked_fill(~allowed_N[columns], MASKED)
            yield direction, rows, logits_RC, target_RC


class TiledWalks:
    """The walks of one rank over one batch."""

    def __init__(self, batch: Embedded, tile_size: int | None) -> None:
        self.batch = batch
        self.pairs = batch.pairs
        self.tile_size = tile_size or DEFAULT_TILE
        # Captions travel while the rank's own tiles, which come first, are computed.
        self._text = PendingGather(batch.text_BD.detach())
        keeps = len(batch.image_BD) * len(self.pairs) <= _KEPT_LOGITS
        self._kept: dict[tuple[int, int], Tensor] | None = {} if keeps else None

    def observe(self, form: ClosedForm) -> Statistics:
        """(2, N) statistics over this rank's tiles alone."""
        like, count = self.batch.image_BD, len(self.pairs)
        found = {name: like.new_full((2, count), value) for name, value in form.identity.items()}
        for tile in self._walk(form.targets):
            for direction, rows, logits_RC, target_RC in tile.directions(_allowed(form)):
                here = {name: found[name][direction, rows] for name in found}
                new = form.observe(logits_RC, target_RC)
                merged = form.merge({name: torch.stack([here[name], new[name]]) for name in here})
                for name, value_R in merged.items():
                    here[name].copy_(value_R)
        return found

    def gradients(self, form: ClosedForm, settled: Settled) -> RawGradients:
        """The gradient, walking the same tiles."""
        mirrored = self._is_mirrored(form.targets)
        text_ND = torch.zeros_like(self._text.whole())
        image_gradient = torch.zeros_like(self._images if mirrored else self.batch.image_BD)
        first_row = 0 if mirrored else self.pairs.own.start
        bias = torch.zeros_like(self.batch.scale)
        for tile in self._walk(form.targets):
            gradient_RC = self._tile_gradient(form, settled, tile)
            here = slice(tile.rows.start - first_row, tile.rows.stop - first_row)
            image_gradient[here].addmm_(gradient_RC, self._captions(tile.columns))
            text_ND[tile.columns].addmm_(gradient_RC.T, self._pictures(tile.rows))
            if self.batch.bias is not None:
                bias += gradient_RC.sum()
        return RawGradients(
            image_BD=reduce_scatter(image_gradient) if mirrored else image_gradient,
            text_BD=reduce_scatter(text_ND),
            bias=bias,
        )

    @staticmethod
    def _tile_gradient(form: ClosedForm, settled: Settled, tile: _Tile) -> Tensor:
        """(R, C) dL/ds_ij: what pair i's row and what pair j's column say."""
        both = [
            form.gradient(settled, direction, rows, logits_RC, target_RC)
            for direction, rows, logits_RC, target_RC in tile.directions(_allowed(form))
        ]
        return both[0].add_(both[1].T)

    def _walk(self, targets: TargetTiles | None) -> Iterator[_Tile]:
        if targets is not None and self._is_mirrored(targets):
            return self._mirrored(targets)
        return self._by_rows(targets)

    def _is_mirrored(self, targets: TargetTiles | None) -> bool:
        return targets is not None and targets.swap and self.batch.teacher is None

    def _by_rows(self, targets: TargetTiles | None) -> Iterator[_Tile]:
        """This rank's pictures against all captions, its own captions first."""
        own = self.pairs.own
        others = [slice(0, own.start), slice(own.stop, len(self.pairs))]
        columns = [part for span in (own, *others) for part in _cut(span, self.tile_size)]
        for column in columns:
            for row in _cut(own, self.tile_size):
                logits_RC = self._logits(row, column)
                yield _Tile(row, column, logits_RC, self._target(targets, row, column, logits_RC))

    def _mirrored(self, targets: TargetTiles) -> Iterator[_Tile]:
        """Tiles in mirrored pairs, dealt out to the ranks in turn; each is the other's teacher."""
        spans = _cut(slice(0, len(self.pairs)), self.tile_size)
        mirrors = [(i, j) for i in range(len(spans)) for j in range(i, len(spans))]
        place = world()
        for i, j in mirrors[place.rank :: place.size]:
            here_RC = self._logits(spans[i], spans[j])
            there_CR = here_RC if i == j else self._logits(spans[j], spans[i])
            yield _Tile(spans[i], spans[j], here_RC, there_CR.T / targets.temperature)
            if i != j:
                yield _Tile(spans[j], spans[i], there_CR, here_RC.T / targets.temperature)

    def _logits(self, rows: slice, columns: slice) -> Tensor:
        """(R, C) with what is no negative MASKED. Must not be written to."""
        if self._kept is not None and (rows.start, columns.start) in self._kept:
            return self._kept[rows.start, columns.start]
        logits_RC = (self.batch.scale * self._pictures(rows)) @ self._captions(columns).T
        if self.batch.bias is not None:
            logits_RC += self.batch.bias
        self._mask(logits_RC, rows, columns)
        if self._kept is not None:
            self._kept[rows.start, columns.start] = logits_RC
        return logits_RC

    def _target(
        self, targets: TargetTiles | None, rows: slice, columns: slice, logits_RC: Tensor
    ) -> Tensor | None:
        """(R, C) the teacher's logits of a tile whose mirror is not at hand."""
        if targets is None:
            return None
        if self._teacher is None:
            return logits_RC / targets.temperature
        image_ND, text_ND, scale = self._teacher
        if targets.swap:
            image_ND, text_ND = text_ND, image_ND
        target_RC = (scale / targets.temperature * image_ND[rows]) @ text_ND[columns].T
        self._mask(target_RC, rows, columns)
        return target_RC

    def _mask(self, logits_RC: Tensor, rows: slice, columns: slice) -> None:
        forbidden_RC = self.pairs.forbidden(rows, columns)
        if forbidden_RC is not None:
            logits_RC.masked_fill_(forbidden_RC, MASKED)

    def _pictures(self, rows: slice) -> Tensor:
        own = self.pairs.own
        if own.start <= rows.start and rows.stop <= own.stop:
            return self.batch.image_BD[rows.start - own.start : rows.stop - own.start]
        return self._images[rows]

    def _captions(self, columns: slice) -> Tensor:
        own = self.pairs.own
        if own.start <= columns.start and columns.stop <= own.stop:
            return self._text.own[columns.start - own.start : columns.stop - own.start]
        return self._text.whole()[columns]

    @cached_property
    def _images(self) -> Tensor:
        return all_gather(self.batch.image_BD)

    @cached_property
    def _teacher(self) -> tuple[Tensor, Tensor, Tensor] | None:
        teacher = self.batch.teacher
        if teacher is None:
            return None
        return all_gather(teacher.image_BD), all_gather(teacher.text_BD), teacher.scale


def _allowed(form: ClosedForm) -> Tensor | None:
    return None if form.targets is None else form.targets.columns_N


def _cut(span: slice, size: int) -> list[slice]:
    return [
        slice(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size)
    ]
