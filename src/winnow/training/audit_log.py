"""What training says of every pair, gathered step by step and kept with the checkpoints.

A step costs one small copy on the device, of numbers that the loss has found anyway; they leave the
device together, when there are many or when a checkpoint is due, as a segment of
`data/audit_segments.py`.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from winnow.data.audit import aggregate
from winnow.data.audit_segments import SegmentFacts, drop_segments_beyond, write_segment
from winnow.data.mixture import Mixture
from winnow.data.selection import Selection
from winnow.distributed import stopping_together, world
from winnow.objectives.rows import DIRECTION_NAMES
from winnow.training.checkpoint_files import told
from winnow.training.step import StepReport

PAIRS_HELD = 1 << 20
"""Of a rank, before they are written between two checkpoints: 28 MB on the device."""
_NAMES = tuple(
    f"{kind}_{direction}"
    for kind in ("own_probability", "margin", "rank_1")
    for direction in DIRECTION_NAMES
)
_OWN_MASS = "target_own_mass"


class AuditLog:
    """The log of one rank of one run."""

    def __init__(self, run: Path, facts: SegmentFacts, *, first_step: int) -> None:
        """Steps begin with `first_step`; `facts` go into every segment."""
        self.folder = run
        self._facts = facts
        self._first, self._end = first_step, first_step
        self._row_B: list[np.ndarray] = []
        self._value_KB: list[Tensor] = []
        self._held = 0

    @property
    def is_full(self) -> bool:
        """Whether so much is held that it had better be written."""
        return self._held >= PAIRS_HELD

    def observe(self, step: int, row_B: Tensor, report: StepReport) -> None:
        """Note what `step` says of the pairs of `row_B`, which is on the CPU."""
        assert step == self._end, "steps come one after the other"
        found = report.diagnostics
        names = (*_NAMES, _OWN_MASS) if _OWN_MASS in found else _NAMES
        value_KB = torch.stack([found[name].float() for name in names])
        value_KB[2:4] /= report.scale
        self._row_B.append(row_B.numpy().copy())  # a view would hold a worker's memory
        self._value_KB.append(value_KB)
        self._end = step + 1
        self._held += len(row_B)

    def write(self) -> None:
        """Write what is held as a segment. Where this raises OSError, it is held as before."""
        if self._first == self._end:
            return
        steps = np.arange(self._first, self._end, dtype=np.int32)
        table = _table(np.repeat(steps, list(map(len, self._row_B))), self._row_B, self._value_KB)
        write_segment(
            self.folder,
            table,
            self._facts,
            first=self._first,
            end=self._end,
            rank=world().rank,
        )
        self._first = self._end
        self._row_B.clear()
        self._value_KB.clear()
        self._held = 0


def _table(step: np.ndarray, row_B: list[np.ndarray], value_KB: list[Tensor]) -> pa.Table:
    """SEGMENT_SCHEMA of the pairs of all steps."""
    value_KS = torch.cat(value_KB, dim=1).cpu().numpy()
    probability, margin, first = (value_KS[k : k + 2] for k in (0, 2, 4))
    own_mass = value_KS[6] if len(value_KS) > 6 else np.full(len(step), np.nan, dtype=np.float32)
    return pa.table(
        {
            "step": step,
            "row": np.concatenate(row_B),
            "own_probability": probability.mean(axis=0),
            "margin": margin.mean(axis=0),
            "is_first": (first == 1).all(axis=0),
            "target_other_mass": 1 - own_mass,
        }
    )


def forget_lost_steps(run: Path, *, resumed_at: int, checkpoints: Path) -> None:
    """Drop the segments beyond the step that a run goes on from. Collective.

    Raises InputError, on every rank, where the disk refuses.
    """
    with stopping_together(), told(run, checkpoints):
        if world().rank == 0:
            drop_segments_beyond(run, resumed_at)


def write_audit(run: Path, selection: Selection | Mixture, *, checkpoints: Path) -> None:
    """Make the table of a run that is over. Collective; raises as `forget_lost_steps` does."""
    with stopping_together(), told(run, checkpoints):
        if world().rank == 0:
            aggregate(run, selection=selection)
