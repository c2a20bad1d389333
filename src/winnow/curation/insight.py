"""Insight: the rules of a selection put to a few of its pairs again, for people to look at.

A selection keeps verdicts, not the numbers behind them. A page shows the numbers of a sample, and
what in a pair made a rule drop it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.annotations import Annotation, find_annotations, sources_of
from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE
from winnow.curation.lookup import rows_at
from winnow.curation.offending import Marks, offending
from winnow.curation.rule_specs import from_settings
from winnow.curation.rules.rule import Measure, Rule
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.summary import Summary
from winnow.curation.verdicts import read_by
from winnow.data.folder import Folder


class RuleMeasure(NamedTuple):
    """What a rule compares with its thresholds, over a sample; kept from `least` to `most`."""

    rule: str
    name: str
    values: np.ndarray
    """float64, one per pair that it is known of; NaN where there is none."""
    least: float | None
    most: float | None


class Survey(NamedTuple):
    """What rules say of a sample."""

    measures: tuple[RuleMeasure, ...]
    """In the order of the rules."""
    unmeasured: dict[str, str]
    """Names of rules that have no number here, and why."""
    near_matches: tuple[int, int] | None
    """Pairs whose picture almost spells out the caption, of so many; None where unknown."""


@dataclass(frozen=True)
class Insight:
    """The rules of a selection; what they need is read when it is asked for."""

    out: Folder
    summary: Summary

    def survey(self, places: Sequence[int]) -> Survey:
        """What the rules measure of the pairs at `places`; those that ask all pairs are left out.

        Raises InputError where a rule or what it reads is not there any more.
        """
        found: dict[int, list[tuple[Measure, ...]]] = {}
        near, near_of = 0, 0
        for rows in rows_at(self.out, self._annotations, places):
            for number, (rule, ready) in enumerate(self._ready(rows)):
                if not ready.num_rows:
                    continue
                found.setdefault(number, []).append(rule.measures(ready, Corpus(list)))
                if isinstance(rule, TextSpotting):
                    near += ready.num_rows - rule.near_matches(ready).null_count
                    near_of += ready.num_rows
        measures = [
            RuleMeasure(
                self._local[number].name(), first.name, _numbers(parts), first.least, first.most
            )
            for number in sorted(found)
            for parts in zip(*found[number], strict=True)
            for first in parts[:1]
        ]
        return Survey(
            measures=tuple(measures),
            unmeasured=self._unmeasured({measure.rule for measure in measures}),
            near_matches=(near, near_of) if near_of else None,
        )

    def marks(self, reasons: Mapping[int, str]) -> dict[int, Marks]:
        """What made the rule with that reason drop the pair, by PLACE; where that can be said."""
        marks: dict[int, Marks] = {}
        for rows in rows_at(self.out, self._annotations, list(reasons)):
            for rule, ready in self._ready(rows):
                dropped = rule.verdicts(ready, Corpus(list)) if ready.num_rows else ()
                for index, place in enumerate(ready[PLACE].to_pylist()):
                    same = dropped[index].as_py() == reasons[place]
                    if same and place not in marks:
                        marks[place] = offending(rule, ready.slice(index, 1))
        return marks

    def _ready(self, rows: pa.RecordBatch) -> Iterator[tuple[Rule, pa.RecordBatch]]:
        """Each rule that judges a row by itself, with the rows that it can judge."""
        for rule in self._local:
            ready = pc.is_null(rows["error"])
            for source in read_by(rule, self._annotations):
                known = pc.and_(rows[source.computed], pc.is_null(rows[source.error]))
                ready = pc.and_(ready, known)
            yield rule, rows.filter(ready)

    def _unmeasured(self, measured: set[str]) -> dict[str, str]:
        return {
            rule.name(): "asks all pairs" if rule.asks_corpus else "compares none"
            for rule in self._rules
            if rule.name() not in measured
        }

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        where = f"the summary of selection {self.summary.selection}"
        return tuple(from_settings(settings, where=where) for settings in self.summary.rules)

    @cached_property
    def _local(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self._rules if not rule.asks_corpus)

    @cached_property
    def _annotations(self) -> tuple[Annotation, ...]:
        needs = [column for rule in self._local for column in rule.needs]
        sources = sources_of(needs, find_annotations(self.out))
        return tuple({source.name: source for source in sources.values()}.values())


def _numbers(parts: Sequence[Measure]) -> np.ndarray:
    """float64: the values of all parts of one measure."""
    values = [pc.cast(part.values, pa.float64()) for part in parts]
    return np.concatenate([one.to_numpy(zero_copy_only=False) for one in values])
