"""Verdicts: rules put to rows of the ledger, with every reason of every row."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import Ledger
from winnow.curation.rules.rule import Rule

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # the first in the order of the rules; null where kept
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # of every rule that fired
        pa.field("error", pa.string()),  # no rule judges a row that cannot be read
    ]
)


class Judge(NamedTuple):
    """A rule with the corpus that it may ask."""

    rule: Rule
    corpus: Corpus


def seat_judges(ledger: Ledger, rules: Sequence[Rule]) -> tuple[Judge, ...]:
    """Each rule with the corpus of the rows that no earlier rule drops."""
    judges: list[Judge] = []
    survivors = _Survivors(ledger)
    for rule in rules:
        judges.append(Judge(rule, Corpus(survivors)))
        survivors = _Survivors(ledger, survivors, judges[-1])
    return tuple(judges)


def judge(rows: pa.RecordBatch, judges: Sequence[Judge]) -> pa.RecordBatch:
    """The verdicts (VERDICT_SCHEMA) on rows of the ledger, in their order."""
    is_readable = pc.is_null(rows["error"])
    found = _reasons(rows.filter(is_readable), judges)
    first = _scatter(_first(found, length=pc.sum(is_readable).as_py() or 0), is_readable)
    columns = [
        rows["uid"],
        rows["key"],
        pc.and_(is_readable, pc.is_null(first)),
        first,
        _lists([_scatter(reasons, is_readable) for reasons in found], length=rows.num_rows),
        rows["error"],
    ]
    return pa.RecordBatch.from_arrays(columns, schema=VERDICT_SCHEMA)


class _Survivors:
    """The readable rows that a chain of judges leaves, in ledger order, as often as asked.

    Every judge sees a row once at most: what he said of it is remembered, by one bit.
    """

    def __init__(
        self, ledger: Ledger, earlier: "_Survivors | None" = None, judge: Judge | None = None
    ) -> None:
        self._ledger = ledger
        self._earlier = earlier
        self._judge = judge
        self._bits: dict[int, pa.BooleanArray] = {}

    def __call__(self) -> Iterator[pa.RecordBatch]:
        batches = (
            rows
            for number in range(len(self._ledger.stats))
            for rows in self._ledger.batches(number)
        )
        for index, rows in enumerate(batches):
            yield rows.filter(self._survive(index, rows))

    def _survive(self, index: int, rows: pa.RecordBatch) -> pa.BooleanArray:
        if self._earlier is None or self._judge is None:
            return pc.is_null(rows["error"])
        if index not in self._bits:
            so_far = self._earlier._survive(index, rows)
            reasons = _reasons(rows.filter(so_far), [self._judge])[0]
            self._bits[index] = pc.replace_with_mask(so_far, so_far, pc.is_null(reasons))
        return self._bits[index]


def _reasons(rows: pa.RecordBatch, judges: Sequence[Judge]) -> list[pa.Array]:
    """One array of reasons per judge."""
    return [judge.rule.verdicts(rows, judge.corpus) for judge in judges]


def _first(found: list[pa.Array], *, length: int) -> pa.Array:
    return pc.coalesce(*found) if found else pa.nulls(length, pa.string())


def _scatter(values: pa.Array, where: pa.Array) -> pa.Array:
    """`values` at the places where `where` is true, null at the others."""
    return pc.replace_with_mask(pa.nulls(len(where), pa.string()), where, values)


def _lists(found: list[pa.Array], *, length: int) -> pa.ListArray:
    """Per row, the list of its reasons that are not null, in the order of `found`."""
    fired = np.zeros((length, len(found)), dtype=bool)
    for column, reasons in enumerate(found):
        fired[:, column] = reasons.is_valid().to_numpy(zero_copy_only=False)
    row, judge_index = np.nonzero(fired)
    values = pa.concat_arrays([pa.nulls(0, pa.string()), *found])
    values = values.take(pa.array(judge_index * length + row))
    offsets = np.concatenate(([0], np.cumsum(fired.sum(axis=1)))).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)
