"""What an evaluation leaves behind: `results.jsonl`, and predictions for every sample.

One row of `results.jsonl` is one number with all that is needed to compare it a month later. The
predictions (one parquet per task and protocol) let two models be compared sample by sample.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.types import InputError

RESULTS_FILE = "results.jsonl"
PREDICTIONS = "predictions"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured number."""

    model: str
    model_fingerprint: str
    task: str
    dataset_fingerprint: str
    protocol: str
    """"zero-shot" or "retrieval"."""
    metric: str
    """"top1", "top5", "mean_per_class", "image_to_text_recall@1", "text_to_image_recall@10", ..."""
    value: float
    """0 to 1."""
    standard_error: float
    n: int
    """What the metric averages over: pictures, captions, or classes for "mean_per_class"."""
    chance: float
    """The expected value of a model that orders the candidates at random."""
    num_classes: int | None
    """Null for retrieval."""
    precision: str
    version: str
    """Of winnow."""
    date: str
    """UTC, ISO 8601."""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What this measures: a later result with the same identity replaces it."""
        return self.model, self.task, self.protocol, self.metric


def write_results(folder: Path, results: Sequence[Result]) -> None:
    """Add `results` to the file in `folder`; each replaces an older one of the same identity."""
    new = {result.identity: result for result in results}
    path = folder / RESULTS_FILE
    old = read_results(folder) if path.exists() else []
    kept = [result for result in old if result.identity not in new]
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    rows = [json.dumps(dataclasses.asdict(result)) + "\n" for result in [*kept, *new.values()]]
    partial.write_text("".join(rows))
    partial.replace(path)


def read_results(folder: Path) -> list[Result]:
    """Every result in `folder`, oldest first. Raises InputError where there are none."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        raise InputError(f"{path} does not exist: measure the model with `winnow evaluate`")
    results = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            results.append(Result(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise InputError(f"{path} line {number} is not a result: {error}") from error
    return results


def predictions_path(folder: Path, task: str, protocol: str) -> Path:
    """Where the predictions of one task and protocol are."""
    return folder / PREDICTIONS / f"{task}-{protocol}.parquet"


def write_predictions(folder: Path, task: str, protocol: str, table: pa.Table) -> None:
    """Write the predictions so that the file appears whole or not at all.

    Zero-shot: key, label, rank (of the true class, 1 is best), top5 (class ids), scores (cosines).
    Retrieval: direction, query (picture's key, or caption), rank (of the best right answer), top5
    (captions, or pictures' keys), scores.
    """
    path = predictions_path(folder, task, protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    partial.replace(path)
