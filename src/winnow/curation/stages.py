"""Stages: which annotators a selection needs, in which order, and which rows each has to see.

A row that an earlier rule drops need not be looked at by an expensive annotator. Only rules that
judge a row by itself are such a **gate**, those on duplicates are not: so every shard can be
annotated alone, by whatever worker or machine, with the same bytes.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    gate_reads: tuple[str, ...] = ()
    """Identities of the annotators whose columns the gate's rules read."""

    @property
    def annotation(self) -> Annotation:
        """What it fills, as it is read later."""
        return Annotation(name=self.annotator.name, columns=self.annotator.schema)

    @property
    def gate_fingerprint(self) -> str:
        """Says which rows were to be annotated; `ALL_ROWS` where there is no gate.

        All that decides it is in it: thresholds, what the rules read, and their code.
        """
        if not self.gate:
            return ALL_ROWS
        parts = [*self.gate_reads]
        for rule in self.gate:
            parts += [rule.identity(), _code(type(rule))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def plan_stages(
    rules: Sequence[Rule], annotators: Sequence[Annotator], *, asked: Sequence[Annotator] = ()
) -> tuple[Stage, ...]:
    """The stages for `rules`, in the order in which the rules need them.

    `annotators` are those that may run where a rule needs them; those of `asked` run on every
    readable row whether or not. Raises InputError where a rule reads a column that none of them
    fills, and where two would fill one folder.
    """
    _check_names(asked)
    fillers = _fillers([*asked, *annotators])
    for rule in rules:
        for column in rule.needs:
            if column not in fillers:
                raise InputError(
                    f"the rule {type(rule).__name__} reads the column {column!r}, which nothing "
                    "fills: give the file that has it with `--scores FILE`"
                )
    order = [(-1, one.name, one) for one in asked]
    for annotator in annotators:
        first = _first_need(rules, annotator.schema)
        if first is not None and all(annotator.name != one.name for one in asked):
            order.append((first, annotator.name, annotator))
    stages: dict[str, Stage] = {}
    for first, name, annotator in sorted(order, key=lambda entry: entry[:2]):
        gate = tuple(rule for rule in rules[: max(first, 0)] if not rule.asks_corpus)
        reads = {fillers[column].name for rule in gate for column in rule.needs}
        stages[name] = Stage(
            annotator=annotator,
            identity=annotator.identity(),
            gate=gate,
            gate_reads=tuple(stages[read].identity for read in sorted(reads)),
        )
    return tuple(stages.values())


@cache
def _code(rule: type[Rule]) -> str:
    """A hash of the file that a rule stands in: its verdicts may have changed with it."""
    path = sys.modules[rule.__module__].__file__
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def _check_names(asked: Sequence[Annotator]) -> None:
    named: dict[str, Annotator] = {}
    for annotator in asked:
        other = named.setdefault(annotator.name, annotator)
        if other is not annotator:
            raise InputError(
                f"what {other} and {annotator} hold would both be kept as {annotator.name!r}: "
                "rename one of the files, or name all columns of one file together"
            )


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
