"""Verdicts: rules put to rows of the ledger, with every reason of every row.

The first rule that has a reason drops a row. Where an annotator failed on a row that reaches a rule
which reads its columns, the row is an error, not a drop. Where the columns are not computed, the
rule is silent; if the row has come that far, there is no verdict, and it is counted as lacking.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.annotations import Annotation, annotated_batches, sources_of
from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import ShardStats
from winnow.curation.rules.rule import Rule
from winnow.data.folder import Folder
from winnow.types import InputError

VERDICT_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # the first in the order of the rules; null where kept
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # of every rule that fired
        pa.field("error", pa.string()),  # the pair, or what a rule reads of it, cannot be read
    ]
)


@dataclass(frozen=True, kw_only=True)
class AnnotatedLedger:
    """The rows of a ledger with the columns that a selection reads."""

    out: Folder
    stats: tuple[ShardStats, ...]
    annotations: tuple[Annotation, ...]

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The rows of one shard."""
        return annotated_batches(self.out, number, self.annotations)

    def all_batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in ledger order."""
        return (rows for number in range(len(self.stats)) for rows in self.batches(number))


class Judge(NamedTuple):
    """A rule with the corpus that it may ask and the annotations that it reads."""

    rule: Rule
    corpus: Corpus
    sources: tuple[Annotation, ...]


class Finding(NamedTuple):
    """What a judge says of rows: of each, at most one of the three."""

    reasons: pa.Array
    """string: why it is dropped."""
    errors: pa.Array
    """string: why it cannot be judged."""
    lacking: pa.Array
    """bool: what the rule reads is not computed."""


class Judgement(NamedTuple):
    """What all judges together say of rows."""

    verdicts: pa.RecordBatch
    """VERDICT_SCHEMA."""
    lacking: Counter[str]
    """Rows without a verdict, by the annotation that is not computed; `verdicts` has them kept."""


def seat_judges(rules: Sequence[Rule], rows: AnnotatedLedger) -> tuple[Judge, ...]:
    """Each rule with the corpus of the rows that no earlier rule drops.

    Raises InputError where a rule reads a column that no annotation fills.
    """
    judges: list[Judge] = []
    survivors = _Survivors(rows)
    for rule in rules:
        sources = read_by(rule, rows.annotations)
        judges.append(Judge(rule, Corpus(survivors), sources))
        survivors = _Survivors(rows, survivors, judges[-1])
    return tuple(judges)


def local_judges(rules: Sequence[Rule], annotations: Sequence[Annotation]) -> tuple[Judge, ...]:
    """Judges for rules that ask no corpus."""
    assert not any(rule.asks_corpus for rule in rules), "a gate judges each row by itself"
    nothing: Iterable[pa.RecordBatch] = ()
    return tuple(Judge(r, Corpus(lambda: nothing), read_by(r, annotations)) for r in rules)


def read_by(rule: Rule, annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """The annotations that a rule reads. Raises InputError where a column is in none of them."""
    sources: Mapping[str, Annotation] = sources_of(rule.needs, annotations)
    for column in rule.needs:
        if column not in sources:
            raise InputError(
                f"the rule {type(rule).__name__} reads the column {column!r}, which is not "
                "computed here: run `winnow curate` with this rule"
            )
    return tuple({source.name: source for source in sources.values()}.values())


def judge(rows: pa.RecordBatch, judges: Sequence[Judge]) -> Judgement:
    """What `judges`, in their order, say of rows of the ledger, readable or not."""
    undecided = pc.is_null(rows["error"])
    first, errors = pa.nulls(rows.num_rows, pa.string()), rows["error"]
    lacking: Counter[str] = Counter()
    findings = [find(rows, one) for one in judges]
    for finding, one in zip(findings, judges, strict=True):
        first = pc.if_else(undecided, finding.reasons, first)
        errors = pc.if_else(undecided, finding.errors, errors)
        silent = pc.sum(pc.and_(undecided, finding.lacking)).as_py() or 0
        if silent:
            lacking["+".join(source.name for source in one.sources)] += silent
        decided = pc.or_(
            pc.or_(finding.reasons.is_valid(), finding.errors.is_valid()), finding.lacking
        )
        undecided = pc.and_not(undecided, decided)
    kept = pc.and_(pc.is_null(first), pc.is_null(errors))
    reasons = _lists([finding.reasons for finding in findings], length=rows.num_rows)
    columns = [rows["uid"], rows["key"], kept, first, reasons, errors]
    return Judgement(pa.RecordBatch.from_arrays(columns, schema=VERDICT_SCHEMA), lacking)


def find(rows: pa.RecordBatch, judge: Judge) -> Finding:
    """What one judge says of rows; nothing of those that cannot be read."""
    ready = pc.is_null(rows["error"])
    errors = pa.nulls(rows.num_rows, pa.string())
    lacking = pa.array(np.zeros(rows.num_rows, bool))
    for source in judge.sources:
        lacking = pc.or_(lacking, pc.and_not(ready, rows[source.computed]))
        ready = pc.and_(ready, rows[source.computed])
        errors = pc.coalesce(errors, pc.if_else(ready, rows[source.error], errors))
        ready = pc.and_(ready, pc.is_null(rows[source.error]))
    lacking = pc.and_(lacking, pc.is_null(errors))
    # Most often all rows are ready, and filtering would copy them for nothing.
    judged = rows if pc.all(ready).as_py() else rows.filter(ready)
    reasons = judge.rule.verdicts(judged, judge.corpus)
    return Finding(_scatter(reasons, ready), errors, lacking)


def surviving(rows: pa.RecordBatch, judges: Sequence[Judge]) -> pa.Array:
    """bool: the readable rows that no judge drops."""
    mask = pc.is_null(rows["error"])
    for one in judges:
        mask = _passed(find(rows.filter(mask), one), mask)
    return mask


def _passed(finding: Finding, mask: pa.Array) -> pa.Array:
    """`mask` without what the finding, which is of the rows of `mask` alone, holds back."""
    passed = pc.and_(
        pc.and_(pc.is_null(finding.reasons), pc.is_null(finding.errors)),
        pc.invert(finding.lacking),
    )
    return pc.replace_with_mask(mask, mask, passed)


class _Survivors:
    """The readable rows that a chain of judges leaves, in ledger order, as often as asked.

    Every judge sees a row once at most: what he said of it is remembered, by one bit.
    """

    def __init__(
        self,
        rows: AnnotatedLedger,
        earlier: "_Survivors | None" = None,
        judge: Judge | None = None,
    ) -> None:
        self._rows = rows
        self._earlier = earlier
        self._judge = judge
        self._bits: dict[int, pa.BooleanArray] = {}

    def __call__(self) -> Iterator[pa.RecordBatch]:
        for index, rows in enumerate(self._rows.all_batches()):
            yield rows.filter(self._survive(index, rows))

    def _survive(self, index: int, rows: pa.RecordBatch) -> pa.BooleanArray:
        if self._earlier is None or self._judge is None:
            return pc.is_null(rows["error"])
        if index not in self._bits:
            so_far = self._earlier._survive(index, rows)
            self._bits[index] = _passed(find(rows.filter(so_far), self._judge), so_far)
        return self._bits[index]


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
