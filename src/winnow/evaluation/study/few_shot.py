"""Few-shot probes of the base cells: against no probe, and against one that forgets the text.

Both differences are within one cell, so what a seed did to the model is in both terms. With the
name ALL they are means over all methods of a seed.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from winnow.evaluation.study.estimates import Estimate, over_seeds
from winnow.evaluation.study.reading import (
    NO_PROBE,
    OWN_PROBE,
    PLAIN_PROBE,
    Cell,
    Quantity,
    Study,
)

ALL = "all methods"


@dataclass(frozen=True, kw_only=True)
class FewShotRow:
    """The probe that starts from the text, on one set with one number of shots."""

    task: str
    metric: str
    method: str
    """That trained the model, or ALL."""
    shots: int
    accuracy: Estimate
    zero_shot: Estimate | None
    """Of the same cells without a probe."""
    over_zero_shot: Estimate | None
    over_plain: Estimate | None
    """To the probe that starts from nothing, at the same shots."""


_Values = dict[int, float]
"""By seed."""


def few_shot_table(study: Study) -> list[FewShotRow]:
    """Set by set, method by method, ALL last; empty where none was measured."""
    cells = {name: study.seeds_of(name) for name in study.facts.methods}
    wanted = sorted(
        {
            quantity
            for of_method in cells.values()
            for cell in of_method.values()
            for quantity in cell.numbers
            if quantity.protocol == "few-shot" and quantity.probe == OWN_PROBE
        },
        key=lambda quantity: (quantity.task, quantity.metric, quantity.shots or 0),
    )
    rows = []
    for method in (*study.facts.methods, ALL):
        for quantity in wanted:
            row = _row(quantity, method, cells)
            rows += [row] if row else []
    return sorted(rows, key=lambda row: row.task)


def _row(
    quantity: Quantity, method: str, cells: Mapping[str, Mapping[int, Cell]]
) -> FewShotRow | None:
    own = _of(quantity, method, cells)
    if not own:
        return None
    none = _of(quantity._replace(probe=NO_PROBE, shots=0), method, cells)
    if not none:
        none = _of(Quantity(*quantity[:2], "zero-shot", "", None, quantity.metric), method, cells)
    plain = _of(quantity._replace(probe=PLAIN_PROBE), method, cells)
    return FewShotRow(
        task=quantity.task,
        metric=quantity.metric,
        method=method,
        shots=quantity.shots or 0,
        accuracy=over_seeds(list(own.values())),
        zero_shot=over_seeds(list(none.values())) if none else None,
        over_zero_shot=_less(own, none),
        over_plain=_less(own, plain),
    )


def _of(quantity: Quantity, method: str, cells: Mapping[str, Mapping[int, Cell]]) -> _Values:
    if method != ALL:
        return {
            seed: cell.numbers[quantity].value
            for seed, cell in cells[method].items()
            if quantity in cell.numbers
        }
    each = [of for name in cells if (of := _of(quantity, name, cells))]
    # A seed counts where every method that was measured at all has it.
    shared = [seed for seed in (each[0] if each else {}) if all(seed in of for of in each)]
    return {seed: statistics.fmean(of[seed] for of in each) for seed in shared}


def _less(own: _Values, other: _Values) -> Estimate | None:
    differences = [own[seed] - other[seed] for seed in own if seed in other]
    return over_seeds(differences) if differences else None
