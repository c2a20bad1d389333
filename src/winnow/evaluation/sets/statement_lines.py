"""Statements: our reading of VQA-style tasks, a picture against candidates of which one is true.

    FOLDER/SPLIT.jsonl   {"image": PATH, "statements": ["...", "..."], "answer": 1, "id"?: "q17"}

A line is a question turned into statements. PATH counts from the folder, `answer` from 0. There
are K statements, two or more, and K may differ from line to line: chance is the mean of 1/K.
Without an `id`, the number of the sample is its key. The papers' own conversion of VQAv2 and
SNLI-VE is not published: numbers on such a set compare the models measured here, and no others.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from winnow.data.files import mendable
from winnow.evaluation.sets.contents import SPLIT_NAMES, Contents, Sample, Splits
from winnow.evaluation.sets.text_files import inside, read_picture
from winnow.types import InputError

ONLY_SPLIT = "test"
"""What the split of a file is called that has another name."""
_START_BYTES = 1 << 16


def splits(path: Path) -> Splits:
    """One for each jsonl file whose first line has statements; `path` may be such a file."""
    if path.is_file():
        is_one = path.suffix == ".jsonl" and _has_statements(path)
        name = path.stem if path.stem in SPLIT_NAMES else ONLY_SPLIT
        return {name: partial(_open, path)} if is_one else {}
    files = [file for file in sorted(path.glob("*.jsonl")) if _has_statements(file)]
    return {file.stem: partial(_open, file) for file in files}


def _has_statements(path: Path) -> bool:
    with mendable(str(path)), path.open("rb") as file:
        starts = iter(partial(file.readline, _START_BYTES), b"")
        return b'"statements"' in next((start for start in starts if start.strip()), b"")


def _open(path: Path) -> Contents:
    pictures = dict.fromkeys(f"{path.parent}/{values['image']}" for values, _ in _rows(path))
    return Contents(
        folder=path.parent,
        files=(str(path), *pictures),
        read=partial(_read, path),
        num_samples=sum(1 for _ in _rows(path)),
    )


def _read(path: Path) -> Iterator[Sample]:
    for number, (values, where) in enumerate(_rows(path), start=1):
        image = read_picture(f"{path.parent}/{values['image']}", where=where)
        statements = tuple(text.strip() for text in values["statements"])
        key = str(values.get("id", f"{number:06d}"))
        yield Sample(key, image, statements=statements, answer=values["answer"])


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The checked object of every line that is not blank, and where it stands."""
    with mendable(str(path)), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            if line.strip():
                yield _checked(line, where=where), where


def _checked(line: bytes, *, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no json: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("image"), str):
        raise InputError(f'{where} is no object with an "image"')
    inside(values["image"], where=where)
    _check_statements(values.get("statements"), values.get("answer"), where=where)
    return values


def _check_statements(statements: Any, answer: Any, *, where: str) -> None:
    given = statements if isinstance(statements, list) else []
    if len(given) < 2 or not all(isinstance(text, str) and text.strip() for text in given):
        raise InputError(f'{where} needs "statements", a list of at least two texts')
    if len({text.strip() for text in given}) < len(given):
        raise InputError(f"{where} has the same statement twice: no model could tell them apart")
    if type(answer) is not int or not 0 <= answer < len(given):
        raise InputError(
            f'{where} has the "answer" {answer!r}: it says which of the {len(given)} statements '
            "is true, counted from 0"
        )
