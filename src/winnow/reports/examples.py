"""Pictures of the tasks with what each model made of them, right and wrong, chosen by nobody.

Of the pictures on which at least one model is right, and of those on which none is, those are shown
whose key has the smallest hash: an arbitrary choice that cannot be bent. Predictions say which
pictures these are; only then is a set opened, and read once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.reports.pictures import (
    ShownPicture,
    ShownSample,
    choose,
    shorten,
    shown_pictures,
)
from winnow.reports.runs import Run
from winnow.types import InputError

EXAMPLES_OF = ("zero-shot", "statements", "retrieval")
"""The protocols of which there are examples."""
SHOWN = 4
"""Pictures a task of those with a right answer, and as many of those without."""
SHOWN_QUERIES = 2
MAX_TASKS = 6
NEAREST = 5
"""Answers of a model that are shown."""


@dataclass(frozen=True, kw_only=True)
class ShownSet:
    """The split of an evaluation set that was measured, in whatever layout it is."""

    classnames: tuple[str, ...]
    """In label order; empty for a set without labels."""
    read: Callable[[], Iterator[ShownSample]]
    """Every picture in order; raises InputError where the set is not whole."""


OpenSet = Callable[[], ShownSet]
"""Opens a set when its examples are asked for. Raises InputError where that cannot be."""


class Answer(NamedTuple):
    """One of a model's five nearest."""

    name: str
    """A class, a statement, or a picture's key."""
    score: float
    is_right: bool
    picture: str | None


class Shown(NamedTuple):
    """A picture with what is true of it, or a caption, and the answers of every run in order; none
    of a run without predictions.
    """

    title: str
    picture: str | None
    answers: list[list[Answer]]


@dataclass(frozen=True, kw_only=True)
class TaskExamples:
    """The examples of one task."""

    task: str
    some_right: list[Shown]
    """Pictures on which at least one model is right."""
    none_right: list[Shown]
    num_some_right: int
    """Of how many the first list is; the other is of the rest of `n`."""
    n: int
    found: list[Shown]
    """Captions whose picture at least one model finds among the first five, then others."""
    described: list[Shown]
    """The same of pictures and the captions found for them."""


class _Said(NamedTuple):
    """What one run says of one picture, in numbers of classes or of its own statements."""

    true: Sequence[int]
    nearest: Sequence[int]
    scores: Sequence[float]
    is_right: bool


def read_examples(
    runs: Sequence[Run], tasks: Mapping[str, OpenSet]
) -> tuple[list[TaskExamples], list[str]]:
    """The examples of every task that is there, and why there are none for the others."""
    examples: list[TaskExamples] = []
    problems = []
    for task, open_shown in tasks.items():
        if len(examples) == MAX_TASKS:
            problems.append(
                f"Of {len(tasks)} tasks, the first {MAX_TASKS} with examples are shown."
            )
            break
        try:
            examples.append(_task_examples(runs, task, open_shown))
        except (InputError, OSError) as error:
            problems.append(f"No examples of {task}: {error}")
    return examples, problems


def _task_examples(runs: Sequence[Run], task: str, open_shown: OpenSet) -> TaskExamples:
    said = [_said(run, task) for run in runs]
    asked, shown_to = (
        [_queries(run, task, direction) for run in runs]
        for direction in ("text_to_image", "image_to_text")
    )
    if not any(said) and not any(asked):
        raise InputError("no run has predictions; measure with `winnow evaluate`")
    keys, queries = _common(said), _common(asked)
    if not keys and not queries:
        raise InputError(
            "the runs were measured on different pictures; measure them again on the same"
        )
    right = {key for key in keys if any(of_run[key].is_right for of_run in said if of_run)}
    some_right, none_right = choose(right, SHOWN), choose(keys - right, SHOWN)
    captions = _choose_queries(asked, queries)
    found = [key for caption in captions for rows in asked if rows for key in rows[caption]["top5"]]
    described = _choose_queries(shown_to, _common(shown_to))
    shown_set = open_shown()
    pictures = shown_pictures(shown_set.read(), {*some_right, *none_right, *found, *described})

    def show(key: str) -> Shown:
        return _shown(pictures[key], shown_set, [of_run.get(key) for of_run in said], task=task)

    return TaskExamples(
        task=task,
        some_right=[show(key) for key in some_right],
        none_right=[show(key) for key in none_right],
        num_some_right=len(right),
        n=len(keys),
        found=[_found(query, asked, pictures) for query in captions],
        described=[_described(key, shown_to, pictures[key]) for key in described],
    )


def _said(run: Run, task: str) -> dict[str, _Said]:
    """By picture's key, from whichever predictions there are; empty where there are none."""
    for protocol, readings in _READINGS.items():
        table = run.predictions(task, protocol)
        if table is None:
            continue
        for columns, reading in readings.items():
            if {"key", *columns} <= set(table.column_names):
                keys = table.column("key").to_pylist()
                return dict(zip(keys, reading(table), strict=True))
        raise InputError(
            f"the {protocol} predictions of {run.name} lack columns; run `winnow evaluate` again"
        )
    return {}


def _of_one_label(table: pa.Table) -> Iterator[_Said]:
    columns = [table.column(name).to_pylist() for name in ("label", "rank", "top5", "scores")]
    for label, rank, nearest, scores in zip(*columns, strict=True):
        yield _Said((label,), nearest, scores, rank == 1)


def _of_several_labels(table: pa.Table) -> Iterator[_Said]:
    """Right is a picture whose nearest class is one of its own; a tie is not."""
    columns = table.column("labels").to_pylist(), table.column("class_scores")
    for true, scores in zip(*columns, strict=True):
        yield _ordered(true, scores.values.to_numpy())


def _of_statements(table: pa.Table) -> Iterator[_Said]:
    columns = [table.column(name).to_pylist() for name in ("answer", "rank", "scores")]
    for answer, rank, scores in zip(*columns, strict=True):
        yield _ordered([answer], np.array(scores))._replace(is_right=rank == 1)


def _ordered(true: Sequence[int], score_K: np.ndarray) -> _Said:
    """By falling score; of equal ones, those that are not true come first."""
    is_true_K = np.isin(np.arange(len(score_K)), true)
    nearest = np.lexsort((is_true_K, -score_K))[:NEAREST].tolist()
    return _Said(true, nearest, score_K[nearest].tolist(), bool(is_true_K[nearest[0]]))


_Reading = Callable[[pa.Table], Iterator[_Said]]
_READINGS: Mapping[str, Mapping[tuple[str, ...], _Reading]] = {
    "zero-shot": {
        ("label", "rank", "top5", "scores"): _of_one_label,
        ("labels", "class_scores"): _of_several_labels,
    },
    "statements": {("answer", "rank", "scores"): _of_statements},
}
"""How predictions are read, by the columns they have."""


def _shown(
    picture: ShownPicture, shown_set: ShownSet, said: Sequence[_Said | None], *, task: str
) -> Shown:
    names = picture.statements or shown_set.classnames
    numbers = [n for one in said if one for n in (*one.true, *one.nearest)]
    if max(numbers, default=0) >= len(names):
        raise InputError(
            f"the predictions of {task} have answer {max(numbers)}, and the set has only "
            f"{len(names)}: run `winnow evaluate` again"
        )
    true = next(one.true for one in said if one)
    return Shown(
        title=shorten(", ".join(names[n] for n in true) or "none of the classes"),
        picture=picture.thumbnail,
        answers=[_answers(one, names) if one else [] for one in said],
    )


def _answers(said: _Said, names: Sequence[str]) -> list[Answer]:
    return [
        Answer(shorten(names[n]), score, n in said.true, None)
        for n, score in zip(said.nearest, said.scores, strict=True)
    ]


def _queries(run: Run, task: str, direction: str) -> dict[str, dict]:
    """Rankings of pictures by caption, or of captions by picture; empty where there are none."""
    table = run.predictions(task, "retrieval")
    if table is None:
        return {}
    rows = table.filter(pc.equal(table.column("direction"), direction)).to_pylist()
    return {row["query"]: row for row in rows}


def _choose_queries(asked: Sequence[dict[str, dict]], queries: set[str]) -> list[str]:
    """Of those whose right answer some run has among the first five, then of the others."""
    found = {
        query for query in queries if any(rows[query]["rank"] <= NEAREST for rows in asked if rows)
    }
    return choose(found, SHOWN_QUERIES) + choose(queries - found, SHOWN_QUERIES)


def _found(
    query: str, asked: Sequence[dict[str, dict]], pictures: Mapping[str, ShownPicture]
) -> Shown:
    """A caption with the five pictures that each run finds nearest."""
    answers = [
        [
            Answer(key, score, query in pictures[key].captions, pictures[key].thumbnail)
            for key, score in zip(rows[query]["top5"], rows[query]["scores"], strict=True)
        ]
        if rows
        else []
        for rows in asked
    ]
    return Shown(shorten(query), None, answers)


def _described(key: str, shown_to: Sequence[dict[str, dict]], picture: ShownPicture) -> Shown:
    """A picture with the five captions that each run finds nearest."""
    answers = [
        [
            Answer(shorten(caption), score, caption in picture.captions, None)
            for caption, score in zip(rows[key]["top5"], rows[key]["scores"], strict=True)
        ]
        if rows
        else []
        for rows in shown_to
    ]
    return Shown(shorten(" · ".join(picture.captions)), picture.thumbnail, answers)


def _common(by_run: Sequence[Mapping[str, object]]) -> set[str]:
    """What every run that has predictions has one of."""
    return set.intersection(*[set(rows) for rows in by_run if rows] or [set()])
