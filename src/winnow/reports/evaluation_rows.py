"""The rows of `results.jsonl` as the evaluation's part of the page asks for them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from winnow.reports.runs import Run

Row = dict[str, Any]

_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "map": "mAP",
    "map_11_point": "11-point mAP",
    "roc_auc": "ROC-AUC",
    "image_to_text_median_rank": "I→T median rank",
    "text_to_image_median_rank": "T→I median rank",
} | {
    f"{way}_recall@{k}": f"{arrow} R@{k}"
    for way, arrow in (("image_to_text", "I→T"), ("text_to_image", "T→I"))
    for k in (1, 5, 10)
}


class Set(NamedTuple):
    """A split of an evaluation set."""

    task: str
    split: str

    @property
    def title(self) -> str:
        """What it is called on the page."""
        return self.task if self.split == "test" else f"{self.task} ({self.split})"


class Number(NamedTuple):
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def words(self, *, of: str) -> str:
        """All three, in percent, of what was measured."""
        return f"{of}: {100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def number_of(row: Row | None) -> Number | None:
    """The number of a row; None where there is no row."""
    return None if row is None else Number(row["value"], row["low"], row["high"])


def metric_words(metric: str) -> str:
    """A metric for people."""
    return _METRICS.get(metric, metric.replace("_", " "))


def rows_of(run: Run, protocol: str, of: Set | None = None) -> list[Row]:
    """The finite numbers of a protocol, of one set or all, in the order they were measured."""
    return [
        row
        for row in run.results
        if row["protocol"] == protocol
        and (of is None or set_of(row) == of)
        and math.isfinite(row["value"])
    ]


def set_of(row: Row) -> Set:
    """What a row was measured on."""
    return Set(row["task"], row["split"])


def sets_of(runs: Sequence[Run], protocol: str) -> list[Set]:
    """Every set that the protocol was measured on, in that order."""
    return list(dict.fromkeys(set_of(row) for run in runs for row in rows_of(run, protocol)))


def main_metric(runs: Sequence[Run], protocol: str, of: Set) -> str:
    """The metric that the set counts by; where it counts by none of those measured, the first."""
    rows = [row for run in runs for row in rows_of(run, protocol, of)]
    return next((row["metric"] for row in rows if row["is_main"]), rows[0]["metric"])


def short_classes(probes: Iterable[tuple[int | None, Mapping[str, Any]]]) -> dict[int, int]:
    """Of few-shot probes' shots and settings: how many classes have fewer pictures than so many.

    By the number of shots, in order; without those of which every class has enough.
    """
    found: dict[int, int] = {}
    for shots, settings in probes:
        number = settings.get("short_classes", 0) + settings.get("absent_classes", 0)
        if shots and number:
            found[shots] = max(found.get(shots, 0), number)
    return dict(sorted(found.items()))


def short_words(short: Mapping[int, int]) -> str:
    """`short_classes` for people."""
    return ", ".join(
        f"in {number} class{'es' if number > 1 else ''} at {shots} shot{'s' if shots > 1 else ''}"
        for shots, number in short.items()
    )


def last(rows: Sequence[Row], is_wanted: Callable[[Row], bool]) -> Row | None:
    """The newest of the wanted rows; None where there is none."""
    return next((row for row in reversed(rows) if is_wanted(row)), None)


def row_of(run: Run, protocol: str, of: Set, metric: str) -> Row | None:
    """The newest row of one number; None where it was not measured."""
    return last(rows_of(run, protocol, of), lambda row: row["metric"] == metric)
