"""The tiled execution: pure PyTorch, any device, O(N·D) memory.

A tile of R x C logits serves both directions, so InfoNCE and HN-NCE take 4 matrix products of
N x N x D (logits twice, two gradients) where plain autograd of both directions takes 6.

PSD's targets for s_ij are made of s_ji. Tiles are then walked in mirrored pairs, (I, J) with
(J, I): each is the other's teacher, and PSD takes 4 products as well. Only a separate teacher
costs 2 more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from winnow.distributed import PendingGather, reduce_scatter, world
from winnow.objectives.batch import Embedded
from winnow.objectives.closed_form import ClosedForm, Settled, Statistics, TargetTiles
from winnow.objectives.pairs import MASKED
from winnow.objectives.rows import Teacher, gather_teacher
from winnow.objectives.two_pass import RawGradients

CPU_TILE = 1024
"""Side of a tile that stays near a CPU's caches."""
DEVICE_TILE = 4096
"""Elsewhere, where a step over a tile costs a launch and memory is faster: 64 MB in float32."""
_KEPT_LOGITS = 1 << 22
"""Logits that are kept from the first walk for the second, where a rank has no more: 16 MB."""


_TargetOf = Callable[[slice, slice, Tensor], Tensor | None]
"""The teacher's logits of (rows, columns), given the model's."""


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
        # No larger than a rank's share, or some ranks would have no tiles.
        usual = CPU_TILE if batch.image_BD.device.type == "cpu" else DEVICE_TILE
        self.tile_size = min(tile_size or usual, len(batch.image_BD))
        self._image = _Side(batch.image_BD, self.pairs.own, batch.feature_dtype)
        self._text = _Side(batch.text_BD, self.pairs.own, batch.feature_dtype)
        # Captions travel while the rank's own tiles, which come first, are computed.
        self._text.send()
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
        text_ND = torch.zeros_like(self._text.whole)
        image_gradient = torch.zeros_like(self._image.whole if mirrored else self.batch.image_BD)
        first_row = 0 if mirrored else self.pairs.own.start
        bias = torch.zeros_like(self.batch.scale)
        for tile in self._walk(form.targets):
            gradient_RC = self._tile_gradient(form, settled, tile)
            here = slice(tile.rows.start - first_row, tile.rows.stop - first_row)
            image_gradient[here].addmm_(gradient_RC, self._text[tile.columns])
            text_ND[tile.columns].addmm_(gradient_RC.T, self._image[tile.rows])
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
        # What is gathered is decided here, where every rank comes by, whatever tiles it has.
        if targets is None:
            return self._by_rows(lambda *_: None)
        if self._is_mirrored(targets):
            self._image.send()
            return self._mirrored(targets)
        teacher = self._teacher
        if teacher is None:
            return self._by_rows(lambda _, __, logits_RC: logits_RC / targets.temperature)
        return self._by_rows(
            lambda rows, columns, _: self._teacher_logits(targets, teacher, rows, columns)
        )

    def _is_mirrored(self, targets: TargetTiles | None) -> bool:
        return targets is not None and targets.swap and self.batch.teacher is None

    def _by_rows(self, target: _TargetOf) -> Iterator[_Tile]:
        """This rank's pictures against all captions, its own captions first."""
        own = self.pairs.own
        others = [slice(0, own.start), slice(own.stop, len(self.pairs))]
        columns = [part for span in (own, *others) for part in _cut(span, self.tile_size)]
        for column in columns:
            for row in _cut(own, self.tile_size):
                logits_RC = self._logits(row, column)
                yield _Tile(row, column, logits_RC, target(row, column, logits_RC))

    def _mirrored(self, targets: TargetTiles) -> Iterator[_Tile]:
        """Tiles in mirrored pairs, dealt out to the ranks in turn; each is the other's teacher."""
        spans = _cut(slice(0, len(self.pairs)), self.tile_size)
        mirrors = [(i, j) for i in range(len(spans)) for j in range(i, len(spans))]
        place = world()
        for i, j in mirrors[place.rank :: place.size]:
            here_RC = self._logits(spans[i], spans[j])
            there_CR = here_RC if i == j else self._logits(spans[j], spans[i])
            yield _Tile(spans[i], spans[j], here_RC, _mirror(there_CR, targets))
            if i != j:
                yield _Tile(spans[j], spans[i], there_CR, _mirror(here_RC, targets))

    def _logits(self, rows: slice, columns: slice) -> Tensor:
        """(R, C) with what is no negative MASKED. Must not be written to."""
        if self._kept is not None and (rows.start, columns.start) in self._kept:
            return self._kept[rows.start, columns.start]
        logits_RC = (self.batch.scale * self._image[rows]) @ self._text[columns].T
        if self.batch.bias is not None:
            logits_RC += self.batch.bias
        self._mask(logits_RC, rows, columns)
        if self._kept is not None:
            self._kept[rows.start, columns.start] = logits_RC
        return logits_RC

    def _teacher_logits(
        self, targets: TargetTiles, teacher: Teacher, rows: slice, columns: slice
    ) -> Tensor:
        """(R, C) a separate teacher's logits, of the whole batch's embeddings."""
        image_ND, text_ND = teacher.image_BD, teacher.text_BD
        if targets.swap:
            image_ND, text_ND = text_ND, image_ND
        target_RC = (teacher.scale / targets.temperature * image_ND[rows]) @ text_ND[columns].T
        self._mask(target_RC, rows, columns)
        return target_RC

    def _mask(self, logits_RC: Tensor, rows: slice, columns: slice) -> None:
        forbidden_RC = self.pairs.forbidden(rows, columns)
        if forbidden_RC is not None:
            logits_RC.masked_fill_(forbidden_RC, MASKED)

    @cached_property
    def _teacher(self) -> Teacher | None:
        return None if self.batch.teacher is None else gather_teacher(self.batch.teacher)


class _Side:
    """One modality's embeddings: this rank's are at hand, the others' once they were sent."""

    def __init__(self, own_BD: Tensor, own: slice, sent_as: torch.dtype) -> None:
        self._own_BD, self._own, self._sent_as = own_BD.detach(), own, sent_as
        self._gather: PendingGather | None = None

    def send(self) -> None:
        """Start to gather all ranks' embeddings; every rank must come here."""
        if self._gather is None:
            self._gather = PendingGather(self._own_BD.to(self._sent_as))

    @cached_property
    def whole(self) -> Tensor:
        """(N, D)."""
        assert self._gather is not None, "sent before it is asked for"
        return self._gather.whole().to(self._own_BD.dtype)

    def __getitem__(self, rows: slice) -> Tensor:
        start = self._own.start
        if start <= rows.start and rows.stop <= self._own.stop:
            return self._own_BD[rows.start - start : rows.stop - start]
        return self.whole[rows]


def _mirror(logits_CR: Tensor, targets: TargetTiles) -> Tensor:
    """(R, C) the teacher's logits from the mirrored tile; laid out like the tile they go with."""
    target_RC = logits_CR.T.contiguous()
    return target_RC if targets.temperature == 1 else target_RC / targets.temperature


def _allowed(form: ClosedForm) -> Tensor | None:
    return None if form.targets is None else form.targets.columns_N


def _cut(span: slice, size: int) -> list[slice]:
    return [
        slice(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size)
    ]
