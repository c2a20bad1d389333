"""Measure a model on tasks: embed each once, run the protocols, write results and predictions."""

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from winnow.evaluation.embed import Embeddings, Encoder, embed
from winnow.evaluation.measures import Measure
from winnow.evaluation.ranking import Ranking
from winnow.evaluation.results import Result, write_predictions, write_results
from winnow.evaluation.retrieval import retrieval, retrieval_measures
from winnow.evaluation.tasks import MissingTaskError, Task
from winnow.evaluation.zero_shot import zero_shot, zero_shot_measures
from winnow.types import InputError

PROTOCOLS = ("zero-shot", "retrieval")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was asked for and not measured."""

    task: str
    why: str
    """One sentence, with what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one call of `evaluate` measured, and what it did not."""

    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]


def evaluate(
    encoder: Encoder,
    tasks: Mapping[str, Path],
    out: Path,
    *,
    cache: Path,
    protocols: Sequence[str] = PROTOCOLS,
    precision: str = "fp32",
    batch_size: int = 256,
) -> Evaluation:
    """Measure `encoder` on every task (name -> folder) and write into the folder `out`.

    A task that is not there is skipped and the others go on; a task that is there but not whole
    raises InputError before the model runs on any. Results are written task by task.
    """
    unknown = set(protocols) - set(PROTOCOLS)
    if unknown:
        raise InputError(
            f"unknown protocol {sorted(unknown)[0]!r}: there are {', '.join(PROTOCOLS)}"
        )
    opened, skipped = _open(tasks)
    results: list[Result] = []
    for task in opened:
        embeddings = embed(encoder, task, cache=cache, precision=precision, batch_size=batch_size)
        for protocol in protocols:
            if not _applies(protocol, task):
                lacks = "labels (.cls)" if protocol == "zero-shot" else "captions (.txt)"
                skipped.append(Skipped(task=task.name, why=f"{protocol} needs {lacks}"))
                continue
            measures, predictions = _run(protocol, embeddings, num_classes=len(task.classnames))
            write_predictions(out, task.name, protocol, predictions)
            new = [_result(measure, encoder, task, protocol, precision) for measure in measures]
            write_results(out, new)
            results += new
    return Evaluation(results=tuple(results), skipped=tuple(skipped))


def _open(tasks: Mapping[str, Path]) -> tuple[list[Task], list[Skipped]]:
    opened: list[Task] = []
    skipped: list[Skipped] = []
    for name, folder in tasks.items():
        try:
            opened.append(Task.open(folder, name=name))
        except MissingTaskError as error:
            skipped.append(Skipped(task=name, why=str(error)))
    return opened, skipped


def _applies(protocol: str, task: Task) -> bool:
    return bool(task.classnames) if protocol == "zero-shot" else task.has_captions


def _run(
    protocol: str, embeddings: Embeddings, *, num_classes: int
) -> tuple[list[Measure], pa.Table]:
    if protocol == "zero-shot":
        label_N = embeddings.label_N
        ranking = zero_shot(embeddings.image_ND, embeddings.class_KD, label_N)
        measures = zero_shot_measures(ranking, label_N, num_classes=num_classes)
        columns = {"key": embeddings.keys, "label": label_N, **_columns(ranking)}
        return measures, pa.table(columns)
    answer = retrieval(embeddings.image_ND, embeddings.caption_MD, embeddings.pair_P2)
    keys, captions = np.array(embeddings.keys, object), np.array(embeddings.captions, object)
    tables = [
        _direction_table("image_to_text", keys, captions, answer.image_to_text.ranking),
        _direction_table("text_to_image", captions, keys, answer.text_to_image.ranking),
    ]
    return retrieval_measures(answer), pa.concat_tables(tables)


def _direction_table(
    direction: str, queries: np.ndarray, candidates: np.ndarray, ranking: Ranking
) -> pa.Table:
    columns = {"direction": [direction] * len(queries), "query": queries, **_columns(ranking)}
    columns["top5"] = candidates[ranking.top_QK].tolist()
    return pa.table(columns)


def _columns(ranking: Ranking) -> dict[str, object]:
    top, scores = (
        ranking.top_QK.tolist(),
        pa.array(ranking.score_QK.tolist(), pa.list_(pa.float32())),
    )
    return {"rank": ranking.rank_Q, "top5": top, "scores": scores}


def _result(
    measure: Measure, encoder: Encoder, task: Task, protocol: str, precision: str
) -> Result:
    return Result(
        model=encoder.name,
        model_fingerprint=encoder.fingerprint,
        task=task.name,
        dataset_fingerprint=task.fingerprint,
        protocol=protocol,
        num_classes=len(task.classnames) if protocol == "zero-shot" else None,
        precision=precision,
        version=importlib.metadata.version("winnow-clip"),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **measure._asdict(),
    )
