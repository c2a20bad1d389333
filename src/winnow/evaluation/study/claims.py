"""What the papers claim, as data: which number of a study would show it, and on which side of what.

PSD: Andonian et al., CVPR 2022, arXiv 2204.04588. DiHT: Radenovic et al., CVPR 2023, arXiv
2301.02280. Sources name the abstract where that is what states the claim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from winnow.evaluation.comparing import shots_words
from winnow.evaluation.study.answers import Answers
from winnow.evaluation.study.axes import SIZE
from winnow.evaluation.study.estimates import Estimate
from winnow.evaluation.study.few_shot import ALL
from winnow.evaluation.study.shifts import MEAN

Direction = Literal["above 0", "below 1.02", "above -0.01", "never below 0"]
"""The side on which a claim's number lies if the claim holds: a difference of fractions above 0, a
ratio below 1.02, a difference that is no loss of more than 0.01, differences none of which is a
loss."""
CURATION = "curation"
"""The axis of filters; its base level is no filter."""
_PSD, _DIHT = "PSD (arXiv 2204.04588), abstract", "DiHT (arXiv 2301.02280), abstract"
_FILTERS = ("c", "ca", "cat")


class Evidence(NamedTuple):
    """A number that speaks of a claim."""

    label: str
    """What it is of, where a claim has several; else what to know beside it."""
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of a paper that a study can confirm or refute."""

    name: str
    statement: str
    source: str
    quantity: str
    """Which number decides, in words."""
    direction: Direction
    evidence: Callable[[Answers], Sequence[Evidence]]
    """Empty where it was not tried."""
    why_not: Callable[[Answers], str] = lambda _: ""
    """Why it was not tried although something was measured; empty else."""


def macro(method: str, family: str) -> Callable[[Answers], Sequence[Evidence]]:
    """The difference of a family's macro mean to the baseline."""

    def evidence(answers: Answers) -> Sequence[Evidence]:
        rows = [row for row in answers.macros if (row.method, row.family) == (method, family)]
        return [
            Evidence(
                f"wins {row.wins} of {row.wins + row.losses + row.unresolved} numbers, loses "
                f"{row.losses}",
                row.decides,
            )
            for row in rows
            if row.decides is not None
        ]

    return evidence


def growth(method: str, family: str) -> Callable[[Answers], Sequence[Evidence]]:
    """The slope of the difference over log10 of the training pairs."""

    def evidence(answers: Answers) -> Sequence[Evidence]:
        return [
            Evidence(f"per tenfold of the pairs, over {row.levels} sizes", row.estimate)
            for row in answers.growths
            if (row.axis, row.method, row.family) == (SIZE, method, family) and row.estimate
        ]

    return evidence


def robustness(method: str) -> Callable[[Answers], Sequence[Evidence]]:
    """The difference in effective robustness, in the mean over shifts."""

    def evidence(answers: Answers) -> Sequence[Evidence]:
        rows = [row for row in answers.robustness if row.method == method and row.difference]
        found = [row for row in rows if row.shift == MEAN] or rows[:1]
        return [
            Evidence(f"{row.shift} of shifts" if row.shift == MEAN else row.shift, row.difference)
            for row in found
            if row.difference is not None
        ]

    return evidence


def step_time(method: str) -> Callable[[Answers], Sequence[Evidence]]:
    """The ratio of a step's seconds."""

    def evidence(answers: Answers) -> Sequence[Evidence]:
        return [
            Evidence("seconds a step", row.time_ratio)
            for row in answers.cost
            if row.method == method and row.time_ratio is not None
        ]

    return evidence


def step_time_note(method: str) -> Callable[[Answers], str]:
    """Why there is no ratio of a step's seconds."""

    def why_not(answers: Answers) -> str:
        return next((row.note for row in answers.cost if row.method == method), "")

    return why_not


def filtered(level: str, family: str) -> Callable[[Answers], Sequence[Evidence]]:
    """The baseline at a level of the axis `curation`, less itself at the axis' base level."""

    def evidence(answers: Answers) -> Sequence[Evidence]:
        axis = answers.facts.axes.get(CURATION)
        if axis is None or axis.base is None or axis.base.lower() in _FILTERS:
            return []
        rows = [
            row
            for row in answers.levels
            if (row.axis, row.family, row.method) == (CURATION, family, answers.facts.baseline)
        ]
        pairs = {row.level: row.pairs for row in rows}
        return [
            Evidence(
                f"{row.pairs or 0:,} pairs against {pairs.get(axis.base) or 0:,} of {axis.base}",
                row.to_base_level,
            )
            for row in rows
            if row.level.lower() == level and row.to_base_level is not None
        ]

    return evidence


def over_zero_shot(answers: Answers) -> Sequence[Evidence]:
    """The few-shot probe less no probe, at every number of shots on every set."""
    return [
        Evidence(f"{row.task}, {shots_words(row.shots)}", row.over_zero_shot)
        for row in answers.few_shot
        if row.method == ALL and row.over_zero_shot is not None
    ]


def over_plain_probe(answers: Answers) -> Sequence[Evidence]:
    """The few-shot probe less one that starts from nothing, at the most shots of every set."""
    rows = [row for row in answers.few_shot if row.method == ALL]
    most = {row.task: max(one.shots for one in rows if one.task == row.task) for row in rows}
    return [
        Evidence(f"{row.task}, {shots_words(row.shots)}", row.over_plain)
        for row in rows
        if row.shots == most[row.task] and row.over_plain is not None
    ]


def _beats(method: str, family: str, words: str, paper: str) -> Claim:
    return Claim(
        name=f"{method.replace('_', '-')}-{family}",
        statement=words,
        source=paper,
        quantity=f"macro mean of {family}, {method} less the baseline",
        direction="above 0",
        evidence=macro(method, family),
    )


def _filters(level: str, words: str) -> Claim:
    return Claim(
        name=f"{level}-filter",
        statement=words,
        source=_DIHT,
        quantity=f"macro mean of zero-shot, the baseline on pairs that {level.upper()} keeps less "
        "on all",
        direction="above 0",
        evidence=filtered(level, "zero-shot"),
    )


CLAIMS = (
    _beats("psd", "zero-shot", "PSD beats CLIP in zero-shot classification", _PSD),
    _beats("psd", "linear-probe", "PSD beats CLIP under a linear probe", _PSD),
    _beats("psd", "retrieval", "PSD beats CLIP in retrieval", _PSD),
    Claim(
        name="psd-growth",
        statement="PSD's gain grows with the size of the training data",
        source=_PSD,
        quantity="slope of the difference in zero-shot's macro mean over log10 of the pairs",
        direction="above 0",
        evidence=growth("psd", "zero-shot"),
    ),
    Claim(
        name="psd-robustness",
        statement="PSD has better effective robustness than CLIP",
        source=_PSD,
        quantity="effective robustness in the mean over shifts, psd less the baseline",
        direction="above 0",
        evidence=robustness("psd"),
    ),
    Claim(
        name="psd-cost",
        statement="PSD adds no computational cost",
        source=_PSD,
        quantity="seconds of a step, psd over the baseline",
        direction="below 1.02",
        evidence=step_time("psd"),
        why_not=step_time_note("psd"),
    ),
    _filters("c", "filtering by complexity alone beats no filtering"),
    _filters("ca", "filtering by complexity and actions beats no filtering"),
    _filters("cat", "CAT beats no filtering with a fraction of the data"),
    _beats("cd", "zero-shot", "concept distillation helps", _DIHT),
    _beats("hn_nce", "zero-shot", "HN-NCE helps", _DIHT),
    Claim(
        name="probe-never-below",
        statement="the few-shot probe never falls below zero-shot",
        source=_DIHT,
        quantity="the probe less zero-shot, every set and number of shots, mean over methods",
        direction="never below 0",
        evidence=over_zero_shot,
    ),
    Claim(
        name="probe-meets-plain",
        statement="the few-shot probe meets the plain probe at many shots",
        source=_DIHT,
        quantity="the probe less the plain one at the most shots, mean over methods",
        direction="above -0.01",
        evidence=over_plain_probe,
    ),
)
"""In the order of the papers."""
