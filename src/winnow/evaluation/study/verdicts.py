"""Each claim of a paper against what a study measured: confirmed, refuted, unresolved, not tried.

The rule. A claim about one number is confirmed where the number's 95 % interval lies wholly on the
side that the claim says, refuted where it lies wholly on the other, and unresolved where it holds
the limit, or where there is no interval (one seed). The limits: 0 for a difference; 1.02 for a
ratio that is to show no added cost; a loss of one point for "meets".

A claim about several numbers (sets, shots) is confirmed where all of them are on its side, and
refuted where one is on the other after Holm's correction over all of them; what is named is the
lowest. "Never falls below" is confirmed where no interval reaches a loss of more than one
point, since no measurement shows that a difference is exactly 0, and refuted where one lies wholly
below 0, corrected.

A study that names its claims decides these alone; of others it has no verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from winnow.evaluation.study.answers import Answers
from winnow.evaluation.study.base import LEVEL
from winnow.evaluation.study.claims import CLAIMS, Claim, Direction
from winnow.evaluation.study.estimates import Estimate
from winnow.statistics import holm_adjusted, t_quantile, t_within
from winnow.types import InputError

Decision = Literal["confirmed", "refuted", "unresolved", "not tried"]
RATIO_LIMIT = 1.02
"""A ratio of costs up to it counts as none added."""
MARGIN = 0.01
"""A loss up to it counts as none where a claim is that two things are as good."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one claim."""

    name: str
    statement: str
    source: str
    quantity: str
    direction: Direction
    verdict: Decision
    estimate: Estimate | None
    """The number that decides; of several the lowest. None where it was not tried."""
    label: str
    """What the number is of; where there is none, why, as far as that is known."""


def verdicts(answers: Answers, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """One for each claim that the study is to decide, in order.

    Raises InputError where the study names a claim that is not among them.
    """
    wanted = answers.facts.claims
    if wanted is None:
        return [_verdict(claim, answers) for claim in claims]
    names = [claim.name for claim in claims]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise InputError(
            f"study.json names the claim {unknown[0]!r}, which nobody makes; there are "
            f"{', '.join(names)}"
        )
    return [_verdict(claim, answers) for claim in claims if claim.name in wanted]


def decide(direction: Direction, found: Sequence[Estimate]) -> Decision:
    """By the rule at the head of this file."""
    if not found:
        return "not tried"
    if any(one.low is None or one.high is None for one in found):
        known = [one for one in found if one.low is not None]
        return "refuted" if known and _is_refuted(direction, known, len(found)) else "unresolved"
    if _is_refuted(direction, found, len(found)):
        return "refuted"
    return "confirmed" if all(_is_confirmed(direction, one) for one in found) else "unresolved"


def _verdict(claim: Claim, answers: Answers) -> Verdict:
    found = claim.evidence(answers)
    lowest = min(found, key=lambda one: one.estimate.value, default=None)
    return Verdict(
        name=claim.name,
        statement=claim.statement,
        source=claim.source,
        quantity=claim.quantity,
        direction=claim.direction,
        verdict=decide(claim.direction, [one.estimate for one in found]),
        estimate=lowest.estimate if lowest else None,
        label=lowest.label if lowest else claim.why_not(answers),
    )


def _is_confirmed(direction: Direction, one: Estimate) -> bool:
    if one.low is None or one.high is None:
        return False
    if direction == "below 1.02":
        return one.high < RATIO_LIMIT
    return one.low > (0.0 if direction == "above 0" else -MARGIN)


def _is_refuted(direction: Direction, found: Sequence[Estimate], tests: int) -> bool:
    """Whether some number lies on the other side, `tests` being how many were looked at."""
    limit = {"above 0": 0.0, "never below 0": 0.0, "above -0.01": -MARGIN}
    if direction == "below 1.02":
        return any(one.low is not None and one.low > RATIO_LIMIT for one in found)
    p_values = [_p_below(one, limit[direction]) for one in found]
    adjusted = holm_adjusted([*p_values, *[1.0] * (tests - len(found))])
    return any(
        p < LEVEL and one.value < limit[direction] for p, one in zip(adjusted, found, strict=False)
    )


def _p_below(one: Estimate, limit: float) -> float:
    """Two-sided p of a true value of `limit`."""
    if one.low is None or one.high is None or one.freedom is None:
        return 1.0
    error = (one.high - one.low) / 2 / t_quantile(0.95, one.freedom)
    return 1 - t_within(abs(one.value - limit) / error, one.freedom)
