"""Is the second model better than the first? Every number that both have, on the same samples.

Two numbers are compared where they were measured on the same pictures (fingerprint and split) with
the same class names and prompts; what differs is said and left out. Over tasks, each counts by its
main metric: a sign test says how many the second model wins, and Holm's correction raises the
p-values so that looking at many tasks does not find a difference by itself. Both are within a group
of comparisons that belong together: zero-shot tasks (with retrieval and statements), linear probes,
and each few-shot method at each number of shots.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.evaluation.paired import Difference, NotComparableError, paired, paired_few_shot
from winnow.evaluation.results import Result, predictions_path, read_results
from winnow.evaluation.task_table import task_table
from winnow.progress import track
from winnow.statistics import SignTest, holm_adjusted, sign_test
from winnow.types import InputError

TOLERANCE = 1e-4
"""Between a recorded value and the same from the predictions, whose scores are float32."""


class Measured(NamedTuple):
    """What two models can be compared in."""

    task: str
    protocol: str
    method: str
    """Which few-shot probe; else empty."""
    shots: int | None
    metric: str

    @property
    def group(self) -> str:
        """The comparisons that it belongs to, for people."""
        if self.protocol == "few-shot":
            return f"few-shot {self.method}, {self.shots} shots"
        return "linear probe" if self.protocol == "linear-probe" else "zero-shot"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models in one number."""

    measured: Measured
    is_main: bool
    """Whether the task counts by this metric; a retrieval task counts in each direction."""
    difference: Difference
    adjusted_p: float | None = None
    """Holm's, over the main metrics of its group; None for others."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What was not compared."""

    task: str
    protocol: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """All that two models have in common."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[LeftOut, ...]
    sign_tests: dict[str, SignTest]
    """By group, over its main metrics."""


def compare(
    first: Path,
    second: Path,
    *,
    metrics: Literal["main", "all"] = "main",
    resamples: int = 5000,
    seed: int = 0,
) -> Comparisons:
    """Compare the models whose evaluations are in two folders, second against first.

    Raises InputError where a folder has no results, those of several models, or none in common.
    """
    both = _numbers(first), _numbers(second)
    found: list[Comparison] = []
    left_out = list(_on_one_side(*both))
    shared = [measured for measured in both[0] if measured in both[1]]
    chosen = [one for one in shared if metrics == "all" or one.metric in _main_metrics(one, shared)]
    with track("comparing", total=len(chosen), unit="numbers") as advance:
        for measured in chosen:
            rows = both[0][measured], both[1][measured]
            try:
                _check_same_task(*rows)
                difference = _difference((first, second), rows, resamples=resamples, seed=seed)
            except NotComparableError as error:
                left_out.append(
                    LeftOut(task=measured.task, protocol=measured.protocol, why=str(error))
                )
            else:
                is_main = measured.metric in _main_metrics(measured, shared)
                found.append(Comparison(measured=measured, is_main=is_main, difference=difference))
            advance(1)
    left_out = list(dict.fromkeys(left_out))
    if not found:
        reasons = "; ".join(f"{one.task} ({one.protocol}): {one.why}" for one in left_out)
        raise InputError(f"{first} and {second} have no number in common: {reasons}")
    return Comparisons(
        comparisons=tuple(_adjusted(found)),
        left_out=tuple(left_out),
        sign_tests={
            group: sign_test([one.difference.difference for one in members])
            for group, members in _groups(found).items()
        },
    )


def _numbers(folder: Path) -> dict[Measured, Result]:
    """The newest row for each number that has predictions behind it."""
    rows = [row for row in read_results(folder) if _has_predictions(row)]
    models = sorted({row.model for row in rows})
    if len(models) > 1:
        raise InputError(
            f"{folder} holds results of several models ({', '.join(models)}): evaluate each into a "
            "folder of its own with --out"
        )
    return {Measured(r.task, r.protocol, r.method, r.shots, r.metric): r for r in rows}


def _has_predictions(row: Result) -> bool:
    """Of few-shot probes the means over subsets; zero-shot is a protocol of its own."""
    if row.protocol == "few-shot":
        return row.subset is None and row.method != "zero-shot"
    return row.protocol != "robustness"


def _on_one_side(
    first: dict[Measured, Result], second: dict[Measured, Result]
) -> Iterator[LeftOut]:
    tasks = [dict.fromkeys((one.task, one.protocol) for one in side) for side in (first, second)]
    for index, which in enumerate(("first", "second")):
        for task, protocol in tasks[index]:
            if (task, protocol) not in tasks[1 - index]:
                why = f"only the {which} model was measured on it"
                yield LeftOut(task=task, protocol=protocol, why=why)


def _main_metrics(measured: Measured, shared: Sequence[Measured]) -> list[str]:
    """What the task counts by: the task table's metrics; of a set it does not know, the first of
    accuracy, average precision and ROC-AUC that there is; of retrieval, recall at 1 both ways.
    """
    there = {one.metric for one in shared if one[:4] == measured[:4]}
    by_classes = measured.protocol in ("linear-probe", "few-shot")
    protocol = "zero-shot" if by_classes else measured.protocol
    known = [
        task.metric for task in task_table().of_set(measured.task) if task.protocol == protocol
    ]
    if there & set(known):
        return known
    for metric in ("top1", "map", "roc_auc"):
        if metric in there:
            return [metric]
    return ["image_to_text_recall@1", "text_to_image_recall@1"]


def _check_same_task(first: Result, second: Result) -> None:
    if first.split != second.split:
        raise NotComparableError(
            f"the splits differ ({first.split} and {second.split}): evaluate both on one"
        )
    if first.dataset_fingerprint != second.dataset_fingerprint:
        raise NotComparableError(
            "the pictures, labels or captions differ (dataset fingerprints): evaluate both on one "
            "copy of the set"
        )
    if first.prompts != second.prompts:
        raise NotComparableError(
            "the class names or prompts differ: evaluate both with the same files"
        )


def _difference(
    folders: tuple[Path, Path], rows: tuple[Result, Result], *, resamples: int, seed: int
) -> Difference:
    first, second = (_predictions(folder, row) for folder, row in zip(folders, rows, strict=True))
    metric = rows[0].metric
    of_protocol = paired_few_shot if rows[0].protocol == "few-shot" else paired
    found = of_protocol(first, second, metric, resamples=resamples, seed=seed)
    for folder, row, value in zip(folders, rows, (found.first, found.second), strict=True):
        if abs(value - row.value) > TOLERANCE * max(1.0, abs(row.value)):
            raise NotComparableError(
                f"{folder} records {metric} {row.value:.4f}, and its predictions give {value:.4f}: "
                "evaluate again"
            )
    return found


def _predictions(folder: Path, row: Result) -> pa.Table:
    path = predictions_path(folder, row.task, row.protocol)
    if not path.is_file():
        raise NotComparableError(f"{path} is missing: evaluate again")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise NotComparableError(f"{path} is damaged ({error}): evaluate again") from error
    if row.protocol != "few-shot":
        return table
    of_row = pc.and_(pc.equal(table["method"], row.method), pc.equal(table["shots"], row.shots))
    return table.filter(of_row)


def _groups(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """The main comparisons by group, in order."""
    groups: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.is_main:
            groups.setdefault(one.measured.group, []).append(one)
    return groups


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with Holm's p-values."""
    adjusted: dict[Measured, float] = {}
    for members in _groups(comparisons).values():
        p_values = holm_adjusted([one.difference.p_value for one in members])
        adjusted |= {one.measured: p for one, p in zip(members, p_values, strict=True)}
    return [replace(one, adjusted_p=adjusted.get(one.measured)) for one in comparisons]
