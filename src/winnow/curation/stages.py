"""Stages: which annotators a selection needs, in which order, and which rows each has to see.

A row that an earlier rule drops need not be looked at by an expensive annotator. Only rules that
judge a row by itself are such a **gate**, those on duplicates are not: so every shard can be
annotated alone, by whatever worker or machine, with the same bytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from winnow.curation.annotations import ALL_ROWS, Annotation
from winnow.curation.annotators.annotator import Annotator
from winnow.curation.rules.rule import Rule
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One annotator, and the rules that rows have to pass to be annotated."""

    annotator: Annotator
    identity: str
    """The annotator's; asked for once, for it may hash a model."""
    gate: tuple[Rule, ...]

    @property
    def annotation(self) -> Annotation:
        """What it fills, as it is read later."""
        return Annotation(name=self.annotator.name, columns=self.annotator.schema)

    @property
    def gate_fingerprint(self) -> str:
        """Says which rows were to be annotated; `ALL_ROWS` where there is no gate."""
        if not self.gate:
            return ALL_ROWS
        return hashlib.sha256("".join(rule.identity() for rule in self.gate).encode()).hexdigest()


def plan_stages(
    rules: Sequence[Rule], annotators: Sequence[Annotator], *, asked: Sequence[Annotator] = ()
) -> tuple[Stage, ...]:
    """The stages for `rules`, in the order in which the rules need them.

    `annotators` are those that may run where a rule needs them; those of `asked` run on every
    readable row whether or not. Raises InputError where a rule reads a column that none of them
    fills.
    """
    fillers = _fillers([*asked, *annotators])
    for rule in rules:
        for column in rule.needs:
            if column not in fillers:
                raise InputError(
                    f"the rule {type(rule).__name__} reads the column {column!r}, which nothing "
                    "fills: give the file that has it with `--scores FILE`"
                )
    stages = [(-1, one.name, _stage(one, ())) for one in asked]
    for annotator in annotators:
        first = _first_need(rules, annotator.schema)
        if first is not None and all(annotator.name != one.name for one in asked):
            stages.append((first, annotator.name, _stage(annotator, rules[:first])))
    return tuple(stage for _, _, stage in sorted(stages, key=lambda entry: entry[:2]))


def _stage(annotator: Annotator, earlier: Sequence[Rule]) -> Stage:
    gate = tuple(rule for rule in earlier if not rule.asks_corpus)
    return Stage(annotator=annotator, identity=annotator.identity(), gate=gate)


def _fillers(annotators: Sequence[Annotator]) -> dict[str, Annotator]:
    fillers: dict[str, Annotator] = {}
    for annotator in annotators:
        for column in annotator.schema.names:
            other = fillers.setdefault(column, annotator)
            if other.name != annotator.name:
                raise InputError(
                    f"both {other.name!r} and {annotator.name!r} fill the column {column!r}: "
                    "rename it in one of them"
                )
    return fillers


def _first_need(rules: Sequence[Rule], columns: pa.Schema) -> int | None:
    needing = [
        index for index, rule in enumerate(rules) if not set(rule.needs).isdisjoint(columns.names)
    ]
    return min(needing, default=None)
