"""A study's answers as tables of words: the terminal, markdown and the page show the same ones.

Percent and percentage points, intervals of 95 %. What was not measured says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from winnow.evaluation.comparing import shots_words
from winnow.evaluation.study.answers import Answers
from winnow.evaluation.study.axes import SIZE, Growth, LevelRow
from winnow.evaluation.study.base import MacroRow, TaskRow
from winnow.evaluation.study.estimates import ONE_SEED, Estimate
from winnow.evaluation.study.reading import Quantity, StudyFacts
from winnow.evaluation.study.verdicts import Verdict

NOTHING = "not measured"


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """A table; every row is as long as the head."""

    key: str
    """What it is of: verdicts, macro, tasks, levels, growth, robustness, cost, few-shot."""
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    """How to read it."""


def word_tables(answers: Answers, verdicts: Sequence[Verdict]) -> list[WordTable]:
    """Those that have rows; the verdicts first."""
    tables = [
        _verdicts(verdicts),
        _macros(answers),
        _tasks(answers),
        _levels(answers.levels),
        _growths(answers.growths),
        _robustness(answers),
        _cost(answers),
        _few_shot(answers),
    ]
    return [table for table in tables if table.rows]


def quantity_words(quantity: Quantity) -> str:
    """ "emoji top1", "emoji top1, 4 shots"."""
    task = quantity.task if quantity.split == "test" else f"{quantity.task} ({quantity.split})"
    words = f"{task} {quantity.metric}"
    return words if quantity.shots is None else f"{words}, {shots_words(quantity.shots)}"


def percent(estimate: Estimate | None) -> str:
    """ "41.2 ± 0.8" over seeds, "41.2" of one."""
    if estimate is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} ± {50 * (estimate.high - estimate.low):.1f}"


def points(estimate: Estimate | None) -> str:
    """ "+1.2 (+0.4 to +2.0)"; without an interval, why."""
    if estimate is None:
        return NOTHING
    value = _point(estimate.value)
    if estimate.low is None or estimate.high is None:
        why = "needs 2 seeds or more" if estimate.how == ONE_SEED else estimate.how
        return f"{value} ({why})"
    return f"{value} ({_point(estimate.low)} to {_point(estimate.high)})"


def ratio(estimate: Estimate | None) -> str:
    """ "1.013 (1.008 to 1.018)"."""
    if estimate is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        why = "needs 2 seeds or more" if estimate.how == ONE_SEED else estimate.how
        return f"{estimate.value:.3f} ({why})"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _point(value: float) -> str:
    return f"{100 * value:+z.1f}".replace("-", "−")


def _p(p_value: float | None) -> str:
    if p_value is None:
        return "–"
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}"


def _verdicts(verdicts: Sequence[Verdict]) -> WordTable:
    return WordTable(
        key="verdicts",
        title="What papers claim, and what is found here",
        head=("claim", "verdict", "number (95 %)", "of", "decides", "source"),
        rows=tuple(
            (
                verdict.statement,
                verdict.verdict,
                _deciding(verdict),
                "; ".join(filter(None, (verdict.quantity, verdict.label))),
                "–" if verdict.estimate is None else _seeds(verdict.estimate),
                verdict.source,
            )
            for verdict in verdicts
        ),
        note=(
            "Confirmed or refuted: the 95 % interval lies wholly on one side of 0 (of 1.02 for a "
            "ratio of costs, of a loss of one point for “meets” and “never falls”); of several "
            "numbers the lowest is shown."
        ),
    )


def _deciding(verdict: Verdict) -> str:
    if verdict.estimate is None:
        return NOTHING
    show = ratio if verdict.direction == "below 1.02" else points
    return show(verdict.estimate)


def _seeds(estimate: Estimate) -> str:
    seeds = "1 seed" if estimate.seeds == 1 else f"{estimate.seeds} seeds"
    if estimate.freedom is None:
        return f"{estimate.how}, {seeds}"
    return f"{estimate.how}, {seeds}, {estimate.freedom} df, p {_p(estimate.p_value)}"


def _macros(answers: Answers) -> WordTable:
    return WordTable(
        key="macro",
        title="Means over the tasks of a family, %",
        head=(
            *(
                "family",
                "method",
                "mean",
                "difference, seeds",
                "p",
                "difference, seeds and pictures",
            ),
            *("p", "wins", "losses", "unresolved", "numbers", "note"),
        ),
        rows=tuple(_macro(row, answers.facts.baseline) for row in answers.macros),
        note=(
            f"Differences to {answers.facts.baseline}, seed by seed, with Student's interval; the "
            "second also holds that other pictures might have been drawn. Wins and losses are "
            "numbers of the family with p < 0.05 after Holm's correction."
        ),
    )


def _macro(row: MacroRow, baseline: str) -> tuple[str, ...]:
    mean = percent(row.mean)
    if row.method == baseline:
        return (row.family, row.method, mean, *["–"] * 7, str(row.tasks), row.note)
    counts = [str(number) for number in (row.wins, row.losses, row.unresolved, row.tasks)]
    return (row.family, row.method, mean, *_both(row), *counts, row.note)


def _both(row: MacroRow | TaskRow) -> tuple[str, str, str, str]:
    first, second = row.over_seeds, row.over_both
    return (
        points(first),
        _p(first.p_value if first else None),
        points(second),
        _p(second.p_value if second else None),
    )


def _tasks(answers: Answers) -> WordTable:
    others = [row for row in answers.tasks if row.method != answers.facts.baseline]
    base = {row.quantity: row.mean for row in answers.tasks if row not in others}
    return WordTable(
        key="tasks",
        title="Every number, %",
        head=(
            *("family", "number", "method", answers.facts.baseline, "mean", "difference, seeds"),
            *("p", "difference, seeds and pictures", "p", "Holm's p", "outcome", "note"),
        ),
        rows=tuple(
            (
                *(row.family, quantity_words(row.quantity), row.method),
                *(percent(base.get(row.quantity)), percent(row.mean), *_both(row)),
                *(_p(row.adjusted_p), row.outcome, row.note),
            )
            for row in others
        ),
        note=" ".join(
            [
                "Holm's p is over the numbers of one family and method, of what decides.",
                *_uncounted(answers.facts),
            ]
        ),
    )


def _uncounted(facts: StudyFacts) -> list[str]:
    sets = dict.fromkeys([*facts.shifts, *facts.shifts.values()])
    left = [name for name in sets if facts.counted is not None and name not in facts.counted]
    return [f"Measured for effective robustness alone: {', '.join(left)}."] if left else []


def _levels(rows: Iterable[LevelRow]) -> WordTable:
    return WordTable(
        key="levels",
        title="Along the axes, means over the tasks of a family, %",
        head=(
            *("axis", "level", "pairs", "family", "method", "mean", "to the baseline"),
            *("to the base level", "seeds", "note"),
        ),
        rows=tuple(
            (
                *(row.axis, row.level, "–" if row.pairs is None else f"{row.pairs:,}"),
                *(row.family, row.method, percent(row.mean)),
                points(row.difference) if row.difference else "–",
                points(row.to_base_level) if row.to_base_level else "–",
                *(str(row.mean.seeds) if row.mean else "0", row.note),
            )
            for row in rows
        ),
        note=(
            "Intervals are over seeds and pictures; over seeds alone where some picture's score is "
            "not known. “To the base level” is the method less itself there."
        ),
    )


def _growths(rows: Iterable[Growth]) -> WordTable:
    return WordTable(
        key="growth",
        title="Growth of the difference to the baseline along an axis, points",
        head=("axis", "family", "method", "slope", "per", "levels", "how", "p", "note"),
        rows=tuple(
            (
                *(row.axis, row.family, row.method, points(row.estimate)),
                *(
                    "tenfold of the pairs" if row.axis == SIZE else f"unit of {row.axis}",
                    str(row.levels),
                ),
                row.estimate.how if row.estimate else "–",
                *(_p(row.estimate.p_value if row.estimate else None), row.note),
            )
            for row in rows
        ),
        note="Above 0: the method gains more, or loses less, the further along.",
    )


def _robustness(answers: Answers) -> WordTable:
    notes = [f"{table.shift}: {table.note}" for table in answers.shifts if table.note]
    return WordTable(
        key="robustness",
        title="Effective robustness, points above the line of the baseline's cells",
        head=(
            *("shift", "without it", "method", "cells", "above the line"),
            *("more than the baseline", "note"),
        ),
        rows=tuple(
            (
                *(row.shift, row.in_distribution or "–", row.method, str(row.cells)),
                points(row.mean),
                points(row.difference) if row.difference else "–",
                row.note,
            )
            for row in answers.robustness
        ),
        note=" ".join(
            [
                f"The line of each shift goes through all cells of {answers.facts.baseline}.",
                *notes,
            ]
        ),
    )


def _cost(answers: Answers) -> WordTable:
    return WordTable(
        key="cost",
        title="Cost of a step",
        head=("method", "seconds", "ratio", "median ratio", "memory, GB", "ratio", "note"),
        rows=tuple(
            (
                row.method,
                NOTHING if row.seconds is None else f"{row.seconds:.4g}",
                "–" if row.method == answers.facts.baseline else ratio(row.time_ratio),
                "–" if row.median_time_ratio is None else f"{row.median_time_ratio:.3f}",
                NOTHING if row.memory is None else f"{row.memory:.3g}",
                "–" if row.method == answers.facts.baseline else ratio(row.memory_ratio),
                row.note,
            )
            for row in answers.cost
        ),
        note=(
            "Ratios to the baseline, seed by seed, of cells that ran alone; they mean something "
            "where these ran on one machine that did nothing else."
        ),
    )


def _few_shot(answers: Answers) -> WordTable:
    return WordTable(
        key="few-shot",
        title="Few-shot probes, %",
        head=("set", "method", "shots", "probe", "zero-shot", "over zero-shot", "over plain probe"),
        rows=tuple(
            (
                *(row.task, row.method, str(row.shots), percent(row.accuracy)),
                *(percent(row.zero_shot), points(row.over_zero_shot), points(row.over_plain)),
            )
            for row in answers.few_shot
        ),
        note="The probe starts from the texts; the plain one from nothing, on the same pictures.",
    )
