"""The rows of `results.jsonl` as the evaluation's part of the page asks for them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from winnow.reports.runs import Run

Row = dict[str, Any]

_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "map": "mAP",
    "map_11_point": "mAP, 11 points",
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
    if row is None:
        return None
    value = row["value"]
    low, high = (value if row[end] is None else row[end] for end in ("low", "high"))
    return Number(value, low, high)


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
    """The metric that was measured first: an evaluation begins with the set's own."""
    return next(row["metric"] for run in runs for row in rows_of(run, protocol, of))


def last(rows: Sequence[Row], is_wanted: Callable[[Row], bool]) -> Row | None:
    """The newest of the wanted rows; None where there is none."""
    return next((row for row in reversed(rows) if is_wanted(row)), None)


def row_of(run: Run, protocol: str, of: Set, metric: str) -> Row | None:
    """The newest row of one number; None where it was not measured."""
    return last(rows_of(run, protocol, of), lambda row: row["metric"] == metric)
