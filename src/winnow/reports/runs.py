"""The files of a run, as a report reads them; each may be missing, none may be damaged."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import read_json
from winnow.statistics import NORMAL_95, wilson_interval
from winnow.types import InputError

_RECIPE_FILE, _RESULTS_FILE = "recipe.json", "evaluation/results.jsonl"
_RESULT_FIELDS = {
    *("task", "protocol", "metric", "value", "standard_error", "n", "chance", "precision"),
    *("model_fingerprint", "dataset_fingerprint", "version", "date"),
}
_LATER_FIELDS: dict[str, Any] = {
    "split": "test",
    "method": "",
    "shots": None,
    "subset": None,
    "settings": {},
}
"""What a row meant before it said so."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained model and what was measured of it."""

    name: str
    """The folder's name; with its parents' names where two runs would be called alike."""
    folder: Path
    recipe: dict[str, Any] | None
    metrics: list[dict[str, float]]
    """Rows of metrics.jsonl in order of steps."""
    results: list[dict[str, Any]]
    """Rows of evaluation/results.jsonl; those of an older winnow with what later ones say too."""

    def result(self, task: str, protocol: str, metric: str) -> dict[str, Any] | None:
        """The row of one number; None where it was not measured."""
        wanted = (task, protocol, metric)
        rows = [r for r in self.results if (r["task"], r["protocol"], r["metric"]) == wanted]
        return rows[-1] if rows else None

    def predictions(self, task: str, protocol: str) -> pa.Table | None:
        """The predictions of every sample; None where there are none. InputError if damaged."""
        path = self.folder / "evaluation" / "predictions" / f"{task}-{protocol}.parquet"
        try:
            return pq.read_table(path) if path.is_file() else None
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged ({error}): run `winnow evaluate` again") from error


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """One Run per folder. Raises InputError for a folder that is no run, or a damaged one.

    A folder with results alone is one too: a model that was not trained here.
    """
    for folder in folders:
        if not any((folder / name).is_file() for name in (_RECIPE_FILE, _RESULTS_FILE)):
            raise InputError(
                f"{folder} is no run ({_RECIPE_FILE} is missing): give the folder that "
                "`winnow train` wrote"
            )
    return [
        Run(
            name=name,
            folder=folder,
            recipe=_read_recipe(folder / _RECIPE_FILE),
            metrics=_read_rows(folder / "metrics.jsonl", {"step"}),
            results=[_complete(row) for row in _read_rows(folder / _RESULTS_FILE, _RESULT_FIELDS)],
        )
        for folder, name in zip(folders, _names(folders), strict=True)
    ]


def _complete(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the fields that an older winnow did not write."""
    row = _LATER_FIELDS | row
    if "low" in row:
        return row
    value, error, n = row["value"], row["standard_error"], row["n"]
    if row["metric"] == "mean_per_class":
        ends = max(0.0, value - NORMAL_95 * error), min(1.0, value + NORMAL_95 * error)
        return row | {"low": ends[0], "high": ends[1], "interval": "standard error"}
    low, high = wilson_interval(value, n)
    return row | {"low": low, "high": high, "interval": "wilson"}


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


def _read_rows(path: Path, fields: set[str]) -> list[dict[str, Any]]:
    """The rows of a jsonl file, each an object with `fields` at least."""
    if not path.is_file():
        return []
    # A run that is still writing, or was killed, ends in half a line.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_read_row(line, fields, f"{path} line {n}") for n, line in enumerate(lines, start=1)]


def _read_row(line: bytes, fields: set[str], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no json ({error}): take the line out") from error
    if not isinstance(row, dict) or not row.keys() >= fields:
        raise InputError(f"{where} has not the fields {sorted(fields)}: take the line out")
    return row
