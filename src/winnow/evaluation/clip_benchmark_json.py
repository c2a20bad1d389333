"""The same numbers in the files that CLIP_benchmark writes, for scripts that read those.

One json a model, data set and task, so that a folder holds those of many models: {"dataset",
"model", "pretrained", "task", "metrics", "language"}, as `clip_benchmark` 1.6 names them and their
file. Only what it measures too is in them. A class without a positive counts in its mean average
precision, as 0, and not in ours.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from winnow.config import write_json
from winnow.evaluation.results import Result

TASKS = {
    "zero-shot": "zeroshot_classification",
    "retrieval": "zeroshot_retrieval",
    "linear-probe": "linear_probe",
}
METRICS = {
    ("zero-shot", "top1"): "acc1",
    ("zero-shot", "top5"): "acc5",
    ("zero-shot", "mean_per_class"): "mean_per_class_recall",
    ("zero-shot", "map"): "mean_average_precision",
    ("linear-probe", "top1"): "lp_acc1",
    ("linear-probe", "top5"): "lp_acc5",
    ("linear-probe", "mean_per_class"): "lp_mean_per_class_recall",
    **{
        ("retrieval", f"text_to_image_recall@{k}"): f"image_retrieval_recall@{k}"
        for k in (1, 5, 10)
    },
    **{
        ("retrieval", f"image_to_text_recall@{k}"): f"text_retrieval_recall@{k}" for k in (1, 5, 10)
    },
}


def write_clip_benchmark_json(folder: Path, results: Sequence[Result]) -> list[Path]:
    """One file for every data set and task that CLIP_benchmark knows; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = sorted(
        (result for result in results if (result.protocol, result.metric) in METRICS),
        key=lambda result: (result.task, result.protocol),
    )
    written = []
    for (task, protocol), rows in groupby(shared, key=lambda row: (row.task, row.protocol)):
        numbers = list(rows)
        name, tag = _name_and_tag(numbers[0].model)
        file_name = f"{task}_{tag}_{name}_en_{TASKS[protocol]}.json"
        path = folder / file_name.replace("/", "_")
        content = {
            "dataset": task,
            "model": name,
            "pretrained": tag,
            "task": TASKS[protocol],
            "metrics": {METRICS[protocol, row.metric]: _value(row) for row in numbers},
            "language": "en",
        }
        write_json(path, content)
        written.append(path)
    return written


def _value(row: Result) -> float:
    if row.metric == "map" and row.num_classes:
        return row.value * row.n / row.num_classes
    return row.value


def _name_and_tag(model: str) -> tuple[str, str]:
    name, _, tag = model.partition(":")
    is_place = name in ("local-dir", "hf-hub", "openai", "diht") or "/" in name
    return (model, "") if is_place else (name, tag)
