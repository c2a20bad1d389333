"""Sums over all that training saw of each pair, the same in whatever order it is added up.

Numbers are added as whole numbers of 2^-44: a probability is off by less than 1e-13, and the sum of
2^18 margins fits 64 bits.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_UNIT = 2.0**-44


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """Of every row: how often what was seen, and sums in units of 2^-44."""

    times: np.ndarray
    times_late: np.ndarray
    times_margin: np.ndarray
    times_target: np.ndarray
    not_first: np.ndarray
    own_probability: np.ndarray
    own_probability_late: np.ndarray
    margin: np.ndarray
    target_other_mass: np.ndarray

    @classmethod
    def zeros(cls, rows: int) -> "Sums":
        """Of so many rows, none of which was seen."""
        counts = ("times", "times_late", "times_margin", "times_target", "not_first")
        sums = ("own_probability", "own_probability_late", "margin", "target_other_mass")
        arrays = {name: np.zeros(rows, dtype=np.int32) for name in counts}
        return cls(**arrays, **{name: np.zeros(rows, dtype=np.int64) for name in sums})

    def add(self, table: pa.Table, *, steps: int) -> None:
        """Add the rows of a segment of a run of `steps` steps."""
        seen = {name: table[name].to_numpy() for name in table.schema.names}
        # A step that overflowed in half precision may have seen no number at all.
        known = np.isfinite(seen["own_probability"])
        late = known & (2 * seen["step"].astype(np.int64) >= steps)
        row, probability = seen["row"], _whole(seen["own_probability"])
        _add(self.times, row, known, 1)
        _add(self.not_first, row, known, ~seen["is_first"])
        _add(self.own_probability, row, known, probability)
        _add(self.times_late, row, late, 1)
        _add(self.own_probability_late, row, late, probability)
        for name, times in (("margin", "times_margin"), ("target_other_mass", "times_target")):
            here = known & np.isfinite(seen[name])
            _add(getattr(self, times), row, here, 1)
            _add(getattr(self, name), row, here, _whole(seen[name]))

    def join_copies(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Let the first of the `rows` of a key have what all of them saw.

        `rows` are those that were seen at all, ascending; `keys` (KEY_DTYPE) are of their uids.
        """
        order = np.lexsort((keys["f1"], keys["f0"]))
        ordered = keys[order]
        begins = np.ones(len(rows), dtype=bool)
        begins[1:] = (ordered["f0"][1:] != ordered["f0"][:-1]) | (
            ordered["f1"][1:] != ordered["f1"][:-1]
        )
        if begins.all():
            return
        # The sort is stable, so that a group begins with its first row.
        first = rows[order][begins][np.cumsum(begins) - 1][~begins]
        copies = rows[order][~begins]
        for array in vars(self).values():
            np.add.at(array, first, array[copies])
            array[copies] = 0

    def columns(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """The numbers of `rows`, all of which were seen."""
        found = {
            name: _means(total[rows] * _UNIT, times[rows])
            for name, total, times in (
                ("own_probability", self.own_probability, self.times),
                ("own_probability_late", self.own_probability_late, self.times_late),
                ("margin", self.margin, self.times_margin),
                ("target_other_mass", self.target_other_mass, self.times_target),
            )
        }
        times = self.times[rows]
        return found | {
            "times": pa.array(times),
            "not_first": _means(self.not_first[rows].astype(np.float64), times),
        }


def _add(into: np.ndarray, row: np.ndarray, where: np.ndarray, what: np.ndarray | int) -> None:
    np.add.at(into, row[where], what if isinstance(what, int) else what[where])


def _whole(values: np.ndarray) -> np.ndarray:
    """float32 as int64 in units of _UNIT; whatever is not finite as 0."""
    return np.rint(np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0) / _UNIT).astype(
        np.int64
    )


def _means(total: np.ndarray, count: np.ndarray) -> pa.Array:
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    return pa.array(mean, mask=count == 0)
