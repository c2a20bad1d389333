"""Sweep: what a selection would keep at other thresholds of one rule, without writing anything.

No model runs. A threshold looser than what was annotated lets rows through that no annotator has
seen: they are counted as unknown, neither kept nor dropped.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.ledger_files import Ledger
from winnow.curation.rule_specs import change
from winnow.curation.rules.rule import Rule, code_of
from winnow.curation.select import annotated
from winnow.curation.verdicts import AnnotatedLedger, judge, seat_judges
from winnow.data.folder import Folder
from winnow.progress import track
from winnow.types import InputError

_MOST_VALUES = 1_000
_RANGE = re.compile(r"(-?[\d.]+)\.\.(-?[\d.]+)(?::([\d.]+))?")


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """A selection at one value of the threshold; `seen = kept + dropped + other + unknown`."""

    value: str
    kept: int
    dropped: int
    """By the rule that is swept, as the first."""
    other: int
    """Dropped by other rules, or errors."""
    unknown: int
    """Rows that reach a rule which reads what was not computed of them."""


def sweep(out: Folder | Path, rules: Sequence[Rule], setting: str) -> Iterator[SweepRow]:
    """One row per value of `setting`, `complexity.least=0..4` say, in their order.

    A range may have a step (`score.least=0.2..0.3:0.02`), or be a list (`2,4,8`). Raises InputError
    where the rule, its field or a value is wrong, or what the rules read is not computed.
    """
    found = re.fullmatch(r"([\w-]+)\.(\w+)=(.+)", setting)
    if found is None:
        raise InputError(
            f"{setting!r} is no sweep: write RULE.FIELD=FROM..TO or RULE.FIELD=A,B,C; "
            "complexity.least=0..4, say"
        )
    name, field, listed = found[1], found[2], found[3]
    values = values_of(listed)
    variants = [change(rules, name, field, value) for value in values]
    rows, _ = annotated(Ledger.open(Folder.at(out)), [rule for one in variants for rule in one])
    with track("sweeping", total=len(values), unit="values") as advance:
        for value, variant in zip(values, variants, strict=True):
            yield _row(rows, variant, name, value)
            advance()


def values_of(listed: str) -> list[str]:
    """The values of `A,B,C`, or of `FROM..TO` in steps of 1 or of what stands behind a colon."""
    span = _RANGE.fullmatch(listed)
    if span is None:
        return listed.split(",")
    try:
        first, last, step = (Decimal(part or "1") for part in span.groups())
    except InvalidOperation as error:
        raise InputError(f"{listed!r} is no range: write FROM..TO or FROM..TO:STEP") from error
    if last < first:
        raise InputError(f"{listed!r} runs backwards and holds no value: write {last}..{first}")
    if step <= 0 or (last - first) / step >= _MOST_VALUES:
        raise InputError(f"{listed!r} is no range of at most {_MOST_VALUES} values: widen its step")
    return [
        format((first + n * step).normalize(), "f") for n in range(int((last - first) / step) + 1)
    ]


def _row(rows: AnnotatedLedger, rules: Sequence[Rule], swept: str, value: str) -> SweepRow:
    judges = seat_judges(rules, rows)
    codes = pa.array([c for rule in rules if rule.name() == swept for c in rule.codes], pa.string())
    kept = dropped = other = unknown = 0
    for batch in rows.all_batches():
        verdicts, lacking = judge(batch, judges)
        unknown += lacking.total()
        passed = pc.sum(verdicts["kept"]).as_py() or 0
        kept += passed - lacking.total()
        own = pc.is_in(code_of(verdicts["reason"]), value_set=codes)
        by_rule = pc.sum(pc.and_(own, verdicts["reason"].is_valid())).as_py() or 0
        dropped += by_rule
        other += verdicts.num_rows - passed - by_rule
    return SweepRow(value=value, kept=kept, dropped=dropped, other=other, unknown=unknown)
