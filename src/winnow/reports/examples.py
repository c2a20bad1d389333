"""Pictures of the tasks with what each model made of them, right and wrong, chosen by nobody.

Of the pictures on which at least one model is right, and of those on which none is, those are shown
whose key has the smallest hash: an arbitrary choice that cannot be bent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from winnow.reports.pictures import TaskPictures, choose, shorten
from winnow.reports.runs import Run
from winnow.types import InputError

SHOWN = 4
"""Pictures a task of those with a right answer, and as many of those without."""
SHOWN_QUERIES = 2
MAX_TASKS = 6


class Answer(NamedTuple):
    """One of a model's five nearest."""

    name: str
    """A class, or a picture's key."""
    score: float
    is_right: bool
    picture: str | None


class Shown(NamedTuple):
    """A picture with its class, or a caption, and the answers of every run in order; none of a run
    without predictions.
    """

    title: str
    picture: str | None
    answers: list[list[Answer]]


@dataclass(frozen=True, kw_only=True)
class TaskExamples:
    """The examples of one task."""

    task: str
    some_right: list[Shown]
    """Pictures that at least one model classifies rightly."""
    none_right: list[Shown]
    num_some_right: int
    """Of how many the first list is; the other is of the rest of `n`."""
    n: int
    found: list[Shown]
    """Captions whose picture at least one model finds among the first five, then others."""


def read_examples(
    runs: Sequence[Run], tasks: Mapping[str, Path]
) -> tuple[list[TaskExamples], list[str]]:
    """The examples of every task that is there, and why there are none for the others."""
    examples, problems = [], []
    for task, folder in list(tasks.items())[:MAX_TASKS]:
        try:
            examples.append(_task_examples(runs, task, folder))
        except InputError as error:
            problems.append(f"No examples of {task}: {error}")
    if len(tasks) > MAX_TASKS:
        problems.append(f"Examples are of the first {MAX_TASKS} of {len(tasks)} tasks.")
    return examples, problems


def _task_examples(runs: Sequence[Run], task: str, folder: Path) -> TaskExamples:
    if not (folder / "test").is_dir():
        raise InputError(f"{folder} holds no evaluation set")
    pictures = TaskPictures(folder)
    classified = [_rows(run, task, "zero-shot") for run in runs]
    asked = [_rows(run, task, "retrieval") for run in runs]
    if not any(classified) and not any(asked):
        raise InputError("no run has predictions; measure with `winnow evaluate`")
    keys = _common(classified)
    right = {key for key in keys if any(rows[key]["rank"] == 1 for rows in classified if rows)}
    labels = {key: rows[key]["label"] for rows in classified if rows for key in keys}
    names = _lines(folder / "classnames.txt")

    def show(chosen: Sequence[str]) -> list[Shown]:
        thumbnails = pictures.thumbnails(chosen)
        return [
            Shown(
                title=names[labels[key]],
                picture=thumbnails[key],
                answers=[_classes(rows[key], names) if rows else [] for rows in classified],
            )
            for key in chosen
        ]

    return TaskExamples(
        task=task,
        some_right=show(choose(right, SHOWN)),
        none_right=show(choose(keys - right, SHOWN)),
        num_some_right=len(right),
        n=len(keys),
        found=_queries(asked, pictures),
    )


def _queries(asked: Sequence[dict[str, dict]], pictures: TaskPictures) -> list[Shown]:
    """Captions with the five pictures that each run finds nearest."""
    common = _common(asked)
    found = {query for query in common if any(rows[query]["rank"] <= 5 for rows in asked if rows)}
    chosen = choose(found, SHOWN_QUERIES) + choose(common - found, SHOWN_QUERIES)
    keys = [key for query in chosen for rows in asked if rows for key in rows[query]["top5"]]
    thumbnails = pictures.thumbnails(keys)

    def answers(query: str, row: dict) -> list[Answer]:
        return [
            Answer(key, score, query in pictures.captions.get(key, ()), thumbnails[key])
            for key, score in zip(row["top5"], row["scores"], strict=True)
        ]

    return [
        Shown(shorten(query), None, [answers(query, rows[query]) if rows else [] for rows in asked])
        for query in chosen
    ]


def _common(by_run: Sequence[dict[str, dict]]) -> set[str]:
    """What every run that has predictions has one of."""
    return set.intersection(*[set(rows) for rows in by_run if rows] or [set()])


def _classes(row: dict, names: Sequence[str]) -> list[Answer]:
    return [
        Answer(names[label], score, label == row["label"], None)
        for label, score in zip(row["top5"], row["scores"], strict=True)
    ]


def _rows(run: Run, task: str, protocol: str) -> dict[str, dict]:
    """Predictions by picture's key, or by caption; empty where there are none."""
    table = run.predictions(task, protocol)
    rows = table.to_pylist() if table is not None else []
    if protocol == "zero-shot":
        return {row["key"]: row for row in rows}
    return {row["query"]: row for row in rows if row["direction"] == "text_to_image"}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it again as UTF-8") from error
