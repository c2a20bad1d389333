"""How sure a measured proportion is, and whether two models differ on the same samples.

Standard library only, so that every room may use it.

- Wilson (1927): the interval whose ends are the proportions that a two-sided test at that level
  would just not reject; unlike p ± z·se it is honest at 0 and 1.
- McNemar (1947), exact: of the samples on which exactly one of two models is right, each model wins
  half if they are equally good, so the wins follow Binomial(b + c, 1/2).
- The sign test is the same over tasks: of those on which two models differ, each wins half.
- Student (1908): how much wider an interval is whose scale is itself from few values.
- Holm (1979): p-values of many tests, so that the chance of any false alarm stays at the level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal
MOST_FREEDOM = 1000  # t is wider than the normal by less than 0.2 % from here on


def standard_error(proportion: float, n: int) -> float:
    """Of a proportion over `n` independent samples: sqrt(p (1 - p) / n), 0 <= p <= 1."""
    return math.sqrt(proportion * (1 - proportion) / n)


def wilson_interval(proportion: float, n: int, *, z: float = NORMAL_95) -> tuple[float, float]:
    """Lowest and highest proportion compatible with `proportion` over `n` samples (95 %)."""
    centre = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half_width = (
        z / (1 + z * z / n) * math.sqrt(standard_error(proportion, n) ** 2 + (z / (2 * n)) ** 2)
    )
    low, high = max(0.0, centre - half_width), min(1.0, centre + half_width)
    # At 0 and 1 one end is the proportion itself; rounding must not leave it outside.
    return min(low, proportion), max(high, proportion)


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Two models on the same samples, second against first."""

    difference: float
    """Accuracy of the second minus accuracy of the first."""
    standard_error: float
    """Of the difference, from the paired outcomes."""
    only_first: int
    """Samples that only the first model has right."""
    only_second: int
    """Samples that only the second model has right."""
    n: int
    p_value: float
    """Two-sided exact McNemar: how often equally good models would differ at least so much."""


def paired_difference(first_hits: Sequence[bool], second_hits: Sequence[bool]) -> PairedDifference:
    """Compare two models by which samples each has right; the n-th entries are one sample."""
    n = len(first_hits)
    if n == 0 or len(second_hits) != n:
        raise ValueError(f"paired outcomes need one length above 0, not {n} and {len(second_hits)}")
    pairs = list(zip(first_hits, second_hits, strict=True))
    only_first = sum(1 for first, second in pairs if first and not second)
    only_second = sum(1 for first, second in pairs if second and not first)
    difference = (only_second - only_first) / n
    variance = ((only_first + only_second) / n - difference**2) / n
    return PairedDifference(
        difference=difference,
        standard_error=math.sqrt(max(0.0, variance)),
        only_first=only_first,
        only_second=only_second,
        n=n,
        p_value=mcnemar_p_value(only_first, only_second),
    )


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Two-sided exact p: min(1, 2 P[X <= min(b, c)]) for X ~ Binomial(b + c, 1/2)."""
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    # Log terms: the binomial coefficients of a large test set are beyond float64's range.
    tail = math.fsum(
        math.exp(_log_binomial(discordant, wins) - discordant * math.log(2))
        for wins in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| < t) = `level` for a whole number of degrees of freedom, at least 1."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < level:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_within(middle, freedom) < level else (low, middle)
    return high


def t_within(t: float, freedom: int) -> float:
    """P(|T| < t) of Student's t: the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4.

    Beyond `MOST_FREEDOM` degrees of freedom, that many are taken: on the careful side.
    """
    freedom = min(freedom, MOST_FREEDOM)
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    terms = []
    for k in range(2 + odd, freedom + 1, 2):
        terms.append(term)
        term *= (k - 1) / k * cosine * cosine
    share = sine * math.fsum(terms)
    return 2 / math.pi * (angle + share) if odd else share


@dataclass(frozen=True, kw_only=True)
class SignTest:
    """Over how many tasks the second model is the better one."""

    wins: int
    losses: int
    ties: int
    """Tasks on which both are equal: the test leaves them out."""
    p_value: float
    """Two-sided: how often equally good models would split the other tasks so unevenly."""


def sign_test(differences: Sequence[float]) -> SignTest:
    """From the differences of two models, one for each task; above 0, the second wins."""
    wins = sum(1 for difference in differences if difference > 0)
    losses = sum(1 for difference in differences if difference < 0)
    return SignTest(
        wins=wins,
        losses=losses,
        ties=len(differences) - wins - losses,
        p_value=mcnemar_p_value(wins, losses),
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's p-values, in the order given: the k-th smallest of m times m - k + 1, never falling.

    Those below a level, taken together, hold a false alarm with at most that probability.
    """
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for place, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
