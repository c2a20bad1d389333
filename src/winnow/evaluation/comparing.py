"""Is the second model better than the first? Every number that both have, on the same samples.

Two numbers are compared where they were measured on the same pictures (fingerprint and split) with
the same class names and prompts, and probes where they were fitted to the same pictures; what
differs is said and left out. What else a probe was told is noted. A model is known by its weights
and precision, not by its name. Over tasks, each counts by its
main metric: a sign test says how many the second model wins, and Holm's correction raises the
p-values so that looking at many tasks does not find a difference by itself. Both are within a group
of comparisons that belong together: zero-shot tasks (with retrieval and statements), linear probes,
and each few-shot method at each number of shots.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.evaluation.paired import (
    Difference,
    NotComparableError,
    few_shot_value,
    paired,
    paired_few_shot,
)
from winnow.evaluation.results import Result, not_of, predictions_path, read_results
from winnow.evaluation.task_table import PROBES, main_metrics
from winnow.progress import track
from winnow.statistics import SignTest, holm_adjusted, sign_test
from winnow.types import InputError

TOLERANCE = 1e-4
"""Between a recorded value and the same from the predictions, whose scores are float32."""
FITTED_ON = {"train_fingerprint": "training", "validation_fingerprint": "validation"}
"""What a probe's settings say it was fitted to, and how people call it."""
NOTED = {
    "search": "searches",
    "chosen_by": "data that choose",
    "held_out": "shares held out",
    "seed": "seeds",
    "subsets": "numbers of subsets",
}
"""What else they say that may differ."""


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
            return f"few-shot {self.method}, {shots_words(self.shots)}"
        return "linear probe" if self.protocol == "linear-probe" else "zero-shot"


def shots_words(shots: int | None) -> str:
    """ "1 shot", "16 shots"."""
    return "1 shot" if shots == 1 else f"{shots} shots"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models in one number."""

    measured: Measured
    is_main: bool
    """Whether the task counts by this metric; a retrieval task counts in each direction."""
    difference: Difference
    notes: tuple[str, ...] = ()
    """What to keep in mind; each ends a sentence."""
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

    Raises InputError where a folder has no results, or the two have none in common.
    """
    sides = first, second
    both = _numbers(first), _numbers(second)
    shared = [measured for measured in both[0] if measured in both[1]]
    chosen = [one for one in shared if metrics == "all" or one.metric in _main_metrics(one, shared)]
    found: list[Comparison] = []
    left_out = [*_of_others(first), *_of_others(second), *_on_one_side(*both)]
    # The last file of each folder is kept: all few-shot probes of a task are in one.
    read = lru_cache(maxsize=2)(_read)
    with track("comparing", total=len(chosen), unit="numbers") as advance:
        for measured in chosen:
            rows = both[0][measured], both[1][measured]
            try:
                _check_same_task(*rows)
                _check_same_training(*rows)
                difference = _difference(sides, rows, read, resamples=resamples, seed=seed)
            except NotComparableError as error:
                left_out.append(
                    LeftOut(task=measured.task, protocol=measured.protocol, why=str(error))
                )
            else:
                found.append(
                    Comparison(
                        measured=measured,
                        is_main=measured.metric in _main_metrics(measured, shared),
                        difference=difference,
                        notes=tuple(_notes(*rows)),
                    )
                )
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
    """The newest row of the newest model for each number that has predictions behind it."""
    newest, rows = _rows(folder)
    return {
        Measured(row.task, row.protocol, row.method, row.shots, row.metric): row
        for row in rows
        if _subject(row) == _subject(newest)
    }


def _of_others(folder: Path) -> Iterator[LeftOut]:
    """What `folder` has of older weights, or in another precision."""
    newest, rows = _rows(folder)
    for row in rows:
        if _subject(row) != _subject(newest):
            yield LeftOut(
                task=row.task,
                protocol=row.protocol,
                why=(
                    f"{folder} has it of {_subject_words(row)}, and only the newest model there "
                    f"is compared, {_subject_words(newest)}"
                ),
            )


def _rows(folder: Path) -> tuple[Result, list[Result]]:
    """The newest row, and all that have predictions behind them, oldest first."""
    rows = [row for row in read_results(folder) if _has_predictions(row)]
    if not rows:
        raise InputError(
            f"{folder} has no result with predictions: measure the model with `winnow evaluate`"
        )
    # Of one second, the last that was written.
    return max(reversed(rows), key=lambda row: row.date), rows


def _subject(row: Result) -> tuple[str, str]:
    """What makes the predictions: the weights, and how they compute."""
    return row.model_fingerprint, row.precision


def _subject_words(row: Result) -> str:
    return f"{row.model} ({row.model_fingerprint[:8]}, {row.precision})"


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
    """What the task counts by, of what both models have."""
    there = {one.metric for one in shared if one[:4] == measured[:4]}
    return main_metrics(measured.task, measured.protocol, there)


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


def _check_same_training(first: Result, second: Result) -> None:
    if first.protocol not in PROBES:
        return
    for name, words in FITTED_ON.items():
        known = name in first.settings and name in second.settings
        if known and first.settings[name] != second.settings[name]:
            raise NotComparableError(
                f"the probes were fitted to other {words} pictures (fingerprints): evaluate both "
                "on one copy of the set"
            )


def _notes(first: Result, second: Result) -> Iterator[str]:
    """What does not keep two numbers from being compared, and should be known."""
    if first.protocol not in PROBES:
        return
    for name, words in FITTED_ON.items():
        if name not in first.settings or name not in second.settings:
            yield f"the {words} pictures of the probes are not recorded"
    for name, words in NOTED.items():
        values = [row.settings.get(name, "not recorded") for row in (first, second)]
        if values[0] != values[1]:
            yield f"the {words} differ: {values[0]}, and {values[1]}"


def _difference(
    folders: tuple[Path, Path],
    rows: tuple[Result, Result],
    read: Callable[[Path], pa.Table],
    *,
    resamples: int,
    seed: int,
) -> Difference:
    first, second = (
        _of_row(read, predictions_path(folder, row), row)
        for folder, row in zip(folders, rows, strict=True)
    )
    metric = rows[0].metric
    if rows[0].protocol == "few-shot":
        # The difference is of the subsets that both have, the rows' values of all.
        values = [few_shot_value(table, metric) for table in (first, second)]
        found = paired_few_shot(first, second, metric, resamples=resamples, seed=seed)
    else:
        found = paired(first, second, metric, resamples=resamples, seed=seed)
        values = [found.first, found.second]
    for folder, row, value in zip(folders, rows, values, strict=True):
        if abs(value - row.value) > TOLERANCE * max(1.0, abs(row.value)):
            raise NotComparableError(
                f"{folder} records {metric} {row.value:.4f}, and its predictions give {value:.4f}: "
                "evaluate again"
            )
    return found


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise NotComparableError(f"{path} is missing: evaluate again")
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise NotComparableError(f"{path} is damaged ({error}): evaluate again") from error


def _of_row(read: Callable[[Path], pa.Table], path: Path, row: Result) -> pa.Table:
    """The predictions that a row was made of."""
    table = read(path)
    if differing := not_of(table, row):
        raise NotComparableError(
            f"{path} and the results beside it are of two evaluations (they differ in "
            f"{', '.join(differing)}): evaluate again"
        )
    if row.protocol != "few-shot":
        return table
    of_row = pc.and_(pc.equal(table["method"], row.method), pc.equal(table["shots"], row.shots))
    table = table.filter(of_row)
    if table.num_rows == 0:
        raise NotComparableError(
            f"{path} has no predictions of {row.method} with {shots_words(row.shots)}: evaluate "
            "again"
        )
    return table


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
