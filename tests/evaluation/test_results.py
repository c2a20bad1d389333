import dataclasses
import json

import pytest

from winnow.evaluation.results import RESULTS_FILE, Result, read_results, write_results
from winnow.types import InputError

RESULT = Result(
    model="runs/a",
    model_fingerprint="0f",
    task="colours",
    dataset_fingerprint="1e",
    split="test",
    protocol="zero-shot",
    metric="top1",
    value=0.1 + 0.2,
    low=0.4,
    high=0.6,
    interval="wilson",
    prompts="ab",
    seconds=0.5,
    standard_error=1e-3,
    n=21,
    chance=1 / 7,
    num_classes=7,
    precision="fp32",
    version="0.1.0",
    date="2026-11-22T00:00:00+00:00",
)


def test_results_come_back_as_they_were_written(tmp_path):
    results = [RESULT, dataclasses.replace(RESULT, protocol="retrieval", num_classes=None)]
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


def test_a_row_has_the_published_fields(tmp_path):
    write_results(tmp_path, [RESULT])
    row = json.loads((tmp_path / RESULTS_FILE).read_text())
    assert list(row) == [
        *("model", "model_fingerprint", "task", "dataset_fingerprint", "split", "protocol"),
        *("method", "shots", "subset", "metric", "value", "standard_error", "low", "high"),
        *("interval", "n", "chance", "num_classes", "precision", "prompts", "settings"),
        *("seconds", "version", "date"),
    ]


def test_measuring_again_replaces_and_other_results_stay(tmp_path):
    others = [
        dataclasses.replace(RESULT, **{field: "other"})
        for field in ("model", "task", "protocol", "metric")
    ]
    write_results(tmp_path, [RESULT, *others])
    again = dataclasses.replace(RESULT, value=0.9, model_fingerprint="2d")
    write_results(tmp_path, [again])
    assert read_results(tmp_path) == [*others, again]


def test_a_line_that_is_no_result_is_named(tmp_path):
    write_results(tmp_path, [RESULT])
    with (tmp_path / RESULTS_FILE).open("a") as file:
        file.write('{"model": "a"}\n')
    with pytest.raises(InputError, match=r"results\.jsonl line 2 is not a result"):
        read_results(tmp_path)


def test_no_results_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="winnow evaluate"):
        read_results(tmp_path)
