"""Effective robustness (Taori et al. 2020): how much more accurate a model is under a shift than
models that are as accurate as it is without the shift.

    ρ = y - g⁻¹(a g(x) + b)    g(p) = log(p / (1 - p))

x is the accuracy in distribution, y the accuracy under the shift, both fractions of samples, and
(a, b) a least-squares line through baseline models on logit axes. The line says what it was fitted
on and over which x; beyond that it is extrapolated, and every row says so.

The error of ρ is by the delta method, from the two samples over which x and y are measured and
from the n baseline models that the line goes through (s² of their residuals, on logit axes):

    Var ρ = V + L    V = y (1 - y) / n_y + (a e (1 - e))² / (n_x x (1 - x))    e = g⁻¹(a g(x) + b)
                     L = (e (1 - e))² s² (1 / n + (g(x) - mean g)² / Σ (g_i - mean g)²)

The 95 % interval is ρ ± sqrt(z² V + t² L), t of n - 2 degrees of freedom. Two models leave no
residual, so nothing is known of L. Of a published line only a and b are known, and L is left out.
ρ is against the line, so neither holds how far one baseline model lies from it: `Line.scatter`.
"""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from winnow.evaluation.measures import Measure
from winnow.evaluation.results import Result
from winnow.statistics import NORMAL_95, t_quantile
from winnow.types import InputError

TEST_BED = "least squares on the standard models of Taori et al.'s test-bed, robustness_top1s.csv"


class Accuracy(NamedTuple):
    """A share of `n` samples."""

    value: float
    n: int

    @property
    def inside(self) -> float:
        """Where a logit exists: of 0 and 1 it is taken at (hits + 1/2) / (n + 1)."""
        if 0 < self.value < 1:
            return self.value
        return (self.value * self.n + 0.5) / (self.n + 1)

    @property
    def variance(self) -> float:
        """Of the share; never 0, as it is taken where a logit exists."""
        return self.inside * (1 - self.inside) / self.n


class Fit(NamedTuple):
    """What says how sure a fitted line is, on logit axes."""

    residual_variance: float
    """s²; inf from two models, which leave no residual."""
    mean: float
    """Of the baseline models' x."""
    squares: float
    """Sum of the squared distances of their x from it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What accuracy under a shift goes with which accuracy without it, on logit axes."""

    slope: float
    intercept: float
    r_squared: float
    """Of the fit, on logit axes."""
    n: int
    """Baseline models that it was fitted on."""
    low: float
    """Smallest of their accuracies in distribution; beyond it the line is extrapolated."""
    high: float
    """The largest, likewise."""
    scatter: float | None
    """Standard deviation of their accuracies under the shift around the line; None from two."""
    source: str
    """Where the line comes from, for people."""
    fit: Fit | None = None
    """None of a published line."""

    def expected(self, accuracy_in: Accuracy) -> float:
        """The accuracy under the shift of a baseline model."""
        return _logistic(self.slope * _logit(accuracy_in.inside) + self.intercept)

    def variance(self, accuracy_in: Accuracy) -> float:
        """Of `expected`, were other baseline models drawn; 0 of a published line."""
        if self.fit is None:
            return 0.0
        expected, away = self.expected(accuracy_in), _logit(accuracy_in.inside) - self.fit.mean
        leverage = 1 / self.n + away**2 / self.fit.squares
        return (expected * (1 - expected)) ** 2 * self.fit.residual_variance * leverage

    def is_extrapolated(self, accuracy_in: Accuracy) -> bool:
        """Whether no baseline model was as weak, or as strong."""
        return not self.low <= accuracy_in.value <= self.high


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What a model reaches under a shift beyond what a line expects of it; fractions."""

    value: float
    standard_error: float
    """inf from a line through two models, as is `half_width`."""
    half_width: float
    """Of the 95 % interval."""
    expected: float
    extrapolated: bool

    def measure(self, n: int) -> Measure:
        """As a result over `n` samples of the shift."""
        ends = self.value - self.half_width, self.value + self.half_width
        return Measure(
            EFFECTIVE,
            self.value,
            self.standard_error,
            *ends,
            "delta method",
            n,
            None,
        )


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A pair of evaluation sets, and the line that joins the accuracies on them."""

    name: str
    """The set under the shift."""
    in_distribution: str
    """The set without it."""
    on_subset: bool
    """Whether the accuracy in distribution is that on the classes of the shifted set alone."""
    line: Line
    note: str = ""
    """What to keep in mind when reading the numbers."""

    @property
    def axis(self) -> str:
        """What x is, for people."""
        classes = f", classes of {self.name}" if self.on_subset else ""
        return f"{self.in_distribution}{classes}"


@dataclass(frozen=True, kw_only=True)
class RobustnessRow:
    """One model under one shift."""

    model: str
    shift: Shift
    accuracy_in: Accuracy
    accuracy_shift: Accuracy
    robustness: Robustness


IMAGENET = "imagenet1k"
EFFECTIVE = "effective_robustness"
"""The metric ρ."""
ON_SUBSET = "accuracy_on_subset"
"""The metric of ImageNet's pictures of the classes of one shift, among these classes."""
NUM_CLASSES = {
    IMAGENET: 1000,
    "imagenetv2": 1000,
    "imagenet_sketch": 1000,
    "imagenet-r": 200,
    "imagenet-a": 200,
    "objectnet": 113,
}
"""Accuracies over other numbers of classes, under the same names, are others."""

_FITS = (
    # under the shift, x on its classes alone, slope, intercept, r², models, x from, to, scatter
    ("imagenetv2", False, 0.9114, -0.4813, 0.996, 85, 0.57, 0.85, 0.0043),
    ("imagenet_sketch", False, 1.0709, -2.3701, 0.869, 85, 0.57, 0.85, 0.0235),
    ("imagenet-r", True, 0.6368, -2.1077, 0.889, 80, 0.77, 0.96, 0.0225),
    ("objectnet", True, 0.9809, -1.9283, 0.953, 85, 0.57, 0.88, 0.0185),
    ("imagenet-a", True, 1.9900, -7.6325, 0.828, 84, 0.76, 0.97, 0.0381),
)

PUBLISHED = tuple(
    Shift(
        name=name,
        in_distribution=IMAGENET,
        on_subset=on_subset,
        line=Line(
            slope=slope,
            intercept=intercept,
            r_squared=r_squared,
            n=n,
            low=low,
            high=high,
            scatter=scatter,
            source=TEST_BED,
        ),
        note=(
            "chosen for what one network gets wrong: descriptive only"
            if name == "imagenet-a"
            else ""
        ),
    )
    for name, on_subset, slope, intercept, r_squared, n, low, high, scatter in _FITS
)
"""ImageNet and its shifts; imagenetv2 is the matched-frequency one."""


def effective_robustness(accuracy_in: Accuracy, accuracy_shift: Accuracy, line: Line) -> Robustness:
    """ρ and its error; both accuracies are of the same model, on different pictures."""
    expected = line.expected(accuracy_in)
    inside = accuracy_in.inside
    steepness = line.slope * expected * (1 - expected) / (inside * (1 - inside))
    sampled = accuracy_shift.variance + steepness**2 * accuracy_in.variance
    fitted = line.variance(accuracy_in)
    # Only the line's part rests on few residuals: with t over both, three models' 95 % are 100 %.
    t = t_quantile(0.95, line.n - 2) if 0 < fitted < math.inf else NORMAL_95
    return Robustness(
        value=accuracy_shift.value - expected,
        standard_error=math.sqrt(sampled + fitted),
        half_width=math.sqrt(NORMAL_95**2 * sampled + t**2 * fitted),
        expected=expected,
        extrapolated=line.is_extrapolated(accuracy_in),
    )


def fit_line(points: Sequence[tuple[Accuracy, Accuracy]], *, source: str) -> Line:
    """The least-squares line on logit axes through (in distribution, under the shift).

    Raises InputError where fewer than 2 of the accuracies in distribution differ.
    """
    x_N = [_logit(accuracy.inside) for accuracy, _ in points]
    y_N = [_logit(accuracy.inside) for _, accuracy in points]
    n, distinct = len(points), len(set(x_N))
    if distinct < 2:
        raise InputError(
            f"a line needs baseline models of at least 2 different accuracies, and there is only "
            f"{distinct}: name more of them with --baseline"
        )
    slope, intercept = statistics.linear_regression(x_N, y_N)
    missed = [
        (shift.value - _logistic(slope * x + intercept)) ** 2
        for x, (_, shift) in zip(x_N, points, strict=True)
    ]
    values = [accuracy.value for accuracy, _ in points]
    residuals = [y - slope * x - intercept for x, y in zip(x_N, y_N, strict=True)]
    squares, mean = math.fsum(left**2 for left in residuals), statistics.fmean(x_N)
    return Line(
        slope=slope,
        intercept=intercept,
        # Where all are as accurate under the shift, there is nothing for x to explain.
        r_squared=statistics.correlation(x_N, y_N) ** 2 if len(set(y_N)) > 1 else 0.0,
        n=n,
        low=min(values),
        high=max(values),
        scatter=math.sqrt(math.fsum(missed) / (n - 2)) if n > 2 else None,
        source=source,
        fit=Fit(
            residual_variance=squares / (n - 2) if n > 2 else math.inf,
            mean=mean,
            squares=math.fsum((x - mean) ** 2 for x in x_N),
        ),
    )


def fitted_shift(in_distribution: str, name: str, baselines: Iterable[Result]) -> Shift:
    """A shift whose line goes through a user's own baseline models: one point for each.

    Raises InputError where too few of them were measured on both sets.
    """
    on_subset = any(
        shift.on_subset and same_set(shift.name, name)
        for shift in PUBLISHED
        if same_set(shift.in_distribution, in_distribution)
    )
    results = list(baselines)
    points = [
        (accuracy_in, accuracy_shift)
        for _, accuracy_in, accuracy_shift in accuracy_pairs(
            results, in_distribution, name, on_subset=on_subset
        )
    ]
    if not points:
        raise InputError(
            f"no baseline model was measured on both {in_distribution} and {name}: run `winnow "
            "evaluate` with both tasks for each"
        )
    source = f"least squares on {len(points)} baseline models"
    return Shift(
        name=name,
        in_distribution=in_distribution,
        on_subset=on_subset,
        line=fit_line(points, source=source),
        note=(
            f"only {len(points)} baseline models: the line says nothing of how well it fits, so "
            "there is no ±"
            if len(points) < 3
            else ""
        ),
    )


def robustness_rows(
    results: Iterable[Result], shifts: Sequence[Shift] = PUBLISHED
) -> list[RobustnessRow]:
    """Every model of `results` under every shift for which both accuracies are there."""
    rows = list(results)
    return [
        RobustnessRow(
            model=model,
            shift=shift,
            accuracy_in=accuracy_in,
            accuracy_shift=accuracy_shift,
            robustness=effective_robustness(accuracy_in, accuracy_shift, shift.line),
        )
        for shift in shifts
        for model, accuracy_in, accuracy_shift in accuracy_pairs(
            rows, shift.in_distribution, shift.name, on_subset=shift.on_subset
        )
    ]


def accuracy_pairs(
    results: Sequence[Result], in_distribution: str, name: str, *, on_subset: bool
) -> list[tuple[str, Accuracy, Accuracy]]:
    """(model, accuracy in distribution, accuracy under the shift) of models that have both.

    A model is known by its weights and precision: of a run that was trained on, old numbers pair
    with old ones.
    """
    first, second = [
        {
            (row.model_fingerprint, row.precision): (row.model, Accuracy(row.value, row.n))
            for row in chosen
        }
        for chosen in (
            [row for row in results if _is_first(row, in_distribution, name, on_subset=on_subset)],
            [row for row in results if _is_top1(row, name)],
        )
    ]
    return [(*first[model], second[model][1]) for model in first if model in second]


def _is_first(row: Result, in_distribution: str, name: str, *, on_subset: bool) -> bool:
    if not on_subset:
        return _is_top1(row, in_distribution)
    is_subset = (row.protocol, row.metric) == ("robustness", ON_SUBSET)
    return is_subset and same_set(row.task, in_distribution) and same_set(row.method, name)


def _is_top1(row: Result, name: str) -> bool:
    is_top1 = (row.protocol, row.metric) == ("zero-shot", "top1")
    return is_top1 and same_set(row.task, name) and wrong_classes(row) is None


def wrong_classes(row: Result) -> int | None:
    """How many classes a set of ImageNet's family has, if `row` is over another number of them."""
    for name, num_classes in NUM_CLASSES.items():
        if same_set(row.task, name) and row.num_classes not in (None, num_classes):
            return num_classes
    return None


def same_set(name: str, other: str) -> bool:
    """Whether two names mean one evaluation set: wds_imagenet-r, ImageNet-R and imagenet_r do."""
    return _plain(name) == _plain(other)


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("wds")
    return {"imagenet": "imagenet1k", "imagenetval": "imagenet1k"}.get(letters, letters)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
