"""The files of a run, as a report reads them; each may be missing, none may be damaged."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import read_json
from winnow.predictions import predictions_file
from winnow.types import InputError

_RECIPE_FILE, _RESULTS_FILE = "recipe.json", "results.jsonl"
_RESULT_FIELDS = (
    *("model", "model_fingerprint", "task", "dataset_fingerprint", "split", "protocol", "method"),
    *("shots", "subset", "metric", "is_main", "value", "standard_error", "low", "high", "interval"),
    *("n", "chance", "num_classes", "precision", "prompts", "asked", "settings", "seconds"),
    *("version", "date"),
)
"""Those of `evaluation/results.py: Result`, all of which the evaluation writes."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model, trained here or not, and what was measured of it."""

    name: str
    """The folder's name; with its parents' names where two runs would be called alike."""
    folder: Path
    recipe: dict[str, Any] | None
    metrics: list[dict[str, float]]
    """Rows of metrics.jsonl in order of steps."""
    results: list[dict[str, Any]]
    """Rows of results.jsonl, with the fields of `evaluation/results.py: Result`."""
    health: list[dict[str, Any]] = field(default_factory=list)
    """Rows of health.jsonl: step, rule, event (began or ended) and sentence."""

    @property
    def evaluation(self) -> Path:
        """Where its results and predictions are."""
        return _evaluation(self.folder)

    def predictions(self, task: str, protocol: str, split: str | None = None) -> pa.Table | None:
        """The predictions of every sample; None where there are none. InputError if damaged.

        Without a split, those of the one that was measured last.
        """
        if split is None:
            of = [
                r["split"] for r in self.results if (r["task"], r["protocol"]) == (task, protocol)
            ]
            if not of:
                return None
            split = of[-1]
        path = predictions_file(self.evaluation, task=task, split=split, protocol=protocol)
        try:
            if not path.is_file():
                return None
        except (OSError, ValueError):  # a task whose name no file can have
            return None
        try:
            # Opened here: pyarrow takes no path whose bytes are not UTF-8.
            with path.open("rb") as file:
                return pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged ({error}): run `winnow evaluate` again") from error


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """One Run per folder. Raises InputError for a folder that is no run, or a damaged one.

    A folder with results alone, as `winnow evaluate` writes, is one too: its model was not trained
    here, or is told of by another folder.
    """
    for folder in folders:
        if not any(
            path.is_file() for path in (folder / _RECIPE_FILE, _evaluation(folder) / _RESULTS_FILE)
        ):
            raise InputError(
                f"{folder} is no run (no {_RECIPE_FILE}), nor are there results of a model: give a "
                "folder that `winnow train` or `winnow evaluate` wrote"
            )
    return [
        Run(
            name=name,
            folder=folder,
            recipe=_read_recipe(folder / _RECIPE_FILE),
            metrics=_read_rows(folder / "metrics.jsonl", ("step",)),
            results=_read_rows(_evaluation(folder) / _RESULTS_FILE, _RESULT_FIELDS),
            health=_read_rows(folder / "health.jsonl", ("step", "rule", "event", "sentence")),
        )
        for folder, name in zip(folders, _names(folders), strict=True)
    ]


def _evaluation(folder: Path) -> Path:
    """The folder itself where it has results, else the part of a run that is for them."""
    return folder if (folder / _RESULTS_FILE).is_file() else folder / "evaluation"


def _names(folders: Sequence[Path]) -> list[str]:
    parts = [folder.absolute().parts for folder in folders]
    depth = 1
    while depth < max(map(len, parts), default=0) and _clash(parts, depth):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _clash(parts: Sequence[tuple[str, ...]], depth: int) -> bool:
    return max(Counter(part[-depth:] for part in parts).values()) > 1


def _read_recipe(path: Path) -> dict[str, Any] | None:
    recipe = read_json(path) if path.is_file() else None
    if recipe is not None and not isinstance(recipe, dict):
        raise InputError(f"{path} is no recipe: restore the one that `winnow train` wrote")
    return recipe


def _read_rows(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a jsonl file, each an object with `fields` at least."""
    if not path.is_file():
        return []
    # A run that is still writing, or was killed, ends in half a line.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_read_row(line, fields, f"{path} line {n}") for n, line in enumerate(lines, start=1)]


def _read_row(line: bytes, fields: Sequence[str], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no json ({error}): take the line out") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is no json object: take the line out")
    missing = [field for field in fields if field not in row]
    if missing:
        raise InputError(f"{where} lacks {missing[0]}: take the line out")
    return row
