"""The files of a run, as a report reads them; each may be missing."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.types import InputError


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
    """Rows of evaluation/results.jsonl."""

    def result(self, task: str, protocol: str, metric: str) -> dict[str, Any] | None:
        """The row of one number; None where it was not measured."""
        wanted = (task, protocol, metric)
        rows = [r for r in self.results if (r["task"], r["protocol"], r["metric"]) == wanted]
        return rows[-1] if rows else None

    def predictions(self, task: str, protocol: str) -> pa.Table | None:
        """The predictions of every sample; None where there are none."""
        path = self.folder / "evaluation" / "predictions" / f"{task}-{protocol}.parquet"
        return pq.read_table(path) if path.is_file() else None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """One Run per folder. Raises InputError for a folder that is not there."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no run: give the folder that `winnow train` wrote")
    return [
        Run(
            name=name,
            folder=folder,
            recipe=_read_json(folder / "recipe.json"),
            metrics=_read_rows(folder / "metrics.jsonl"),
            results=_read_rows(folder / "evaluation" / "results.jsonl"),
        )
        for folder, name in zip(folders, _names(folders), strict=True)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    parts = [folder.absolute().parts for folder in folders]
    depth = 1
    while depth < max(map(len, parts), default=0) and _clash(parts, depth):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _clash(parts: Sequence[tuple[str, ...]], depth: int) -> bool:
    return max(Counter(part[-depth:] for part in parts).values()) > 1


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    # A run that is still writing, or was killed, ends in half a line.
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
