"""What an evaluation leaves behind: `results.jsonl`, and predictions for every sample.

One row of `results.jsonl` is one number with all that is needed to compare it a month later. The
predictions (one parquet per task, split and protocol) let two models be compared sample by sample:

- zero-shot, linear-probe: key, label, rank (of the true class, 1 is best), top5 (class ids),
  scores (cosines; logits of a probe). Several labels a picture, or two classes: also labels,
  class_scores
- retrieval: direction, query (picture's key, or caption), picture (that key, or the first that has
  the caption), rank (of the best right answer), top5 (captions, or keys), scores
- statements: key, answer, rank, scores
- few-shot: method, shots, subset, key, label, predicted (-1 where classes tie)

The parquet's metadata says which model saw what (`PREDICTED_BY`), as the rows do: a kill may leave
new predictions beside old rows.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import from_dict
from winnow.data.folder import partial_name, waiting_for
from winnow.predictions import predictions_file
from winnow.types import InputError

RESULTS_FILE = "results.jsonl"
PREDICTED_BY = (
    *("model_fingerprint", "precision", "dataset_fingerprint", "split", "prompts", "asked"),
)
"""Fields of a result that its predictions repeat."""
_METADATA_KEY = b"winnow"


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
    is_main: bool = False
    """Whether the set counts by this metric; see `task_table.py: main_metrics`."""
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
    asked: str = ""
    """A hash of a probe's options and of the pictures it was fitted on; empty where none was."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What a probe chose, and on which data."""
    seconds: float
    """What the protocol took on stored features, for all its numbers together."""
    version: str
    """Of winnow."""
    date: str
    """UTC, ISO 8601."""


def write_results(
    folder: Path, results: Sequence[Result], *, predictions: pa.Table | None = None
) -> list[Result]:
    """Add the results of one model to the file in `folder`, and the predictions behind the first.

    Whatever was measured before of a split and protocol goes, as its predictions do, and so does
    all of other weights: what stands together in the file is of one model. Returns what went.
    """
    measured = {_measured(result) for result in results}
    weights = {result.model_fingerprint for result in results}
    gone: list[Result] = []

    def added(old: list[Result]) -> list[Result]:
        stays = [row.model_fingerprint in weights and _measured(row) not in measured for row in old]
        gone.extend(row for row, stay in zip(old, stays, strict=True) if not stay)
        for row in gone:
            predictions_path(folder, row).unlink(missing_ok=True)
        if predictions is not None:
            _write_predictions(folder, results[0], predictions)
        return [*(row for row, stay in zip(old, stays, strict=True) if stay), *results]

    change_results(folder, added)
    return gone


def _measured(row: Result) -> tuple[str, str, str]:
    return row.task, row.split, row.protocol


def change_results(folder: Path, change: Callable[[list[Result]], list[Result]]) -> None:
    """Put what `change` makes of the results in `folder` in their place, one writer at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with waiting_for(folder):
        old = read_results(folder) if (folder / RESULTS_FILE).exists() else []
        rows = [json.dumps(dataclasses.asdict(result)) + "\n" for result in change(old)]
        partial = folder / partial_name(RESULTS_FILE)
        partial.write_text("".join(rows), encoding="utf-8")
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
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            result = from_dict(Result, json.loads(line), where="it")
            if not math.isfinite(result.value):
                raise ValueError("value is not finite")
        except (ValueError, TypeError, InputError) as error:
            raise InputError(
                f"{path} line {number} is not a result ({error}): take the line out, or delete the "
                "file and measure again with `winnow evaluate`"
            ) from error
        results.append(result)
    return results


def predictions_path(folder: Path, row: Result) -> Path:
    """Where the predictions of a result are, which those of its split and protocol share."""
    return predictions_file(folder, task=row.task, split=row.split, protocol=row.protocol)


def not_of(table: pa.Table, result: Result) -> list[str]:
    """The fields in which predictions are of something else than `result`.

    Empty where the file does not say.
    """
    written = (table.schema.metadata or {}).get(_METADATA_KEY)
    if written is None:
        return []
    made_by = json.loads(written)
    return [name for name, own in _made_by(result).items() if made_by.get(name) != own]


def _made_by(result: Result) -> dict[str, str]:
    return {name: getattr(result, name) for name in PREDICTED_BY}


def _write_predictions(folder: Path, row: Result, predictions: pa.Table) -> None:
    """Write them so that the file appears whole or not at all."""
    made_by = json.dumps(_made_by(row), sort_keys=True)
    metadata = {**(predictions.schema.metadata or {}), _METADATA_KEY: made_by}
    path = predictions_path(folder, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    pq.write_table(predictions.replace_schema_metadata(metadata), partial)
    partial.replace(path)
