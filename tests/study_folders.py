"""Folders of studies as they lie on disk, with numbers that are known."""

import json

import pyarrow as pa
from result_rows import measured

from winnow.evaluation.results import write_results


def write_facts(study, **given):
    facts = {"methods": ["clip", "psd"], "baseline": "clip", "axes": {}} | given
    study.mkdir(parents=True, exist_ok=True)
    (study / "study.json").write_text(json.dumps(facts))
    return study


def cell_folder(study, method, seed, axis="base", level="base"):
    place = "base" if axis == "base" else f"{axis}-{level}"
    return study / "cells" / f"{place}-{method}-seed{seed}"


def write_cell(study, method, seed, rows, *, axis="base", level="base", **given):
    """`rows` are keyword arguments of results, with `predictions` where there are some."""
    folder = cell_folder(study, method, seed, axis, level)
    facts = {"name": folder.name, "method": method, "axis": axis, "level": level, "seed": seed}
    evaluation = folder / "run" / "evaluation"
    evaluation.mkdir(parents=True)
    by_file = {}
    for row in rows:
        row = dict(row)
        predictions = row.pop("predictions", None)
        result = measured(folder.name, **row)
        found = by_file.setdefault((result.task, result.protocol), ([], []))
        found[0].append(result)
        found[1].append(predictions)
    for results, predictions in by_file.values():
        tables = [table for table in predictions if table is not None]
        write_results(evaluation, results, predictions=pa.concat_tables(tables) if tables else None)
    (folder / "cell.json").write_text(json.dumps(facts | {"pairs": 1000} | given))
    return folder


def accuracy(value, task="things", **given):
    return {"task": task, "value": value} | given


def hits(right, task="things", **given):
    """Top-1 of pictures of which some are right."""
    keys = [f"p{number}" for number in range(len(right))]
    ranks = [1 if one else 2 for one in right]
    table = pa.table({"key": keys, "label": [0] * len(right), "rank": ranks})
    return accuracy(sum(right) / len(right), task, n=len(right), predictions=table) | given


def probe(value, shots, task="things", method="text-initialised"):
    return accuracy(value, task, protocol="few-shot", method=method, shots=shots)
