"""What an evaluation leaves behind: `results.jsonl`, and predictions for every sample.

One row of `results.jsonl` is one number with all that is needed to compare it a month later. The
predictions (one parquet per task and protocol) let two models be compared sample by sample:

- zero-shot, linear-probe: key, label, rank (of the true class, 1 is best), top5 (class ids),
  scores (cosines; logits of a probe). Several labels a picture, or two classes: also labels,
  class_scores
- retrieval: direction, query (picture's key, or caption), picture (that key, or the first that has
  the caption), rank (of the best right answer), top5 (captions, or keys), scores
- statements: key, answer, rank, scores
- few-shot: method, shots, subset, key, label, predicted
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.folder import partial_name, waiting_for
from winnow.types import InputError

RESULTS_FILE = "results.jsonl"
PREDICTIONS = "predictions"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured number."""

    model: str
    model_fingerprint: str
    task: str
    """The name of the evaluation set."""
    dataset_fingerprint: str
    split: str
    protocol: str
    """"zero-shot", "retrieval", "statements", "linear-probe", "few-shot" or "robustness"."""
    method: str = ""
    """Which few-shot probe, or against which line robustness is measured; else empty."""
    shots: int | None = None
    """Pictures a class that a few-shot probe was fitted on."""
    subset: int | None = None
    """Which of the few-shot subsets; null for the mean over them."""
    metric: str
    """"top1", "mean_per_class", "map", "roc_auc", "image_to_text_recall@1", ..."""
    value: float
    """0 to 1; a rank from 1; effective robustness from -1 to 1."""
    standard_error: float
    low: float
    """End of the 95 % interval, as is `high`."""
    high: float
    interval: str
    """How the interval was made: "wilson", "bootstrap", "bootstrap over pictures", ..."""
    n: int
    """What the metric averages over: pictures, captions, or for means over classes these."""
    chance: float | None
    """The expected value of a model that orders the candidates at random; null where none."""
    num_classes: int | None
    """Null where there are no classes."""
    precision: str
    """What the model computed in."""
    prompts: str
    """A hash of class names and prompts; empty where none were used."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What a probe chose, and on which data."""
    seconds: float
    """What the protocol took on stored features, for all its numbers together."""
    version: str
    """Of winnow."""
    date: str
    """UTC, ISO 8601."""


def write_results(folder: Path, results: Sequence[Result]) -> None:
    """Add the results of one model to the file in `folder`.

    Whatever was measured before of a task and protocol goes, as its predictions do, and so does all
    of other weights: what stands together in the file is of one model.
    """
    measured = {(result.task, result.protocol) for result in results}
    weights = {result.model_fingerprint for result in results}
    folder.mkdir(parents=True, exist_ok=True)
    with waiting_for(folder):
        old = read_results(folder) if (folder / RESULTS_FILE).exists() else []
        kept = [
            result
            for result in old
            if result.model_fingerprint in weights
            and (result.task, result.protocol) not in measured
        ]
        rows = [json.dumps(dataclasses.asdict(result)) + "\n" for result in [*kept, *results]]
        partial = folder / partial_name(RESULTS_FILE)
        partial.write_text("".join(rows))
        partial.replace(folder / RESULTS_FILE)


def check_folder(folder: Path, *, model: str, fingerprint: str) -> None:
    """Raise InputError where results of this model could not be added to those in `folder`.

    They can to its own, and in the place of older weights of the same name.
    """
    if not (folder / RESULTS_FILE).exists():
        return
    of = {result.model: result.model_fingerprint for result in read_results(folder)}
    others = sorted(name for name, known in of.items() if fingerprint != known and name != model)
    if others:
        raise InputError(
            f"{folder} holds the results of another model, {others[0]}: name another folder for "
            f"those of {model}"
        )


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
            raise InputError(
                f"{path} line {number} is not a result ({error}): take the line out, or delete the "
                "file and measure again with `winnow evaluate`"
            ) from error
    return results


def predictions_path(folder: Path, task: str, protocol: str) -> Path:
    """Where the predictions of one task and protocol are."""
    return folder / PREDICTIONS / f"{task}-{protocol}.parquet"


def write_predictions(folder: Path, task: str, protocol: str, table: pa.Table) -> None:
    """Write the predictions so that the file appears whole or not at all."""
    path = predictions_path(folder, task, protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    pq.write_table(table, partial)
    partial.replace(path)
