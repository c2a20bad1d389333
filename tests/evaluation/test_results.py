import dataclasses
import json
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.evaluation.results import (
    PREDICTED_BY,
    RESULTS_FILE,
    Result,
    check_folder,
    not_of,
    predictions_path,
    read_results,
    write_results,
)
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


def test_predictions_say_which_model_saw_what(tmp_path):
    table = pa.table({"key": ["a"], "rank": [1]})
    write_results(tmp_path, [RESULT], predictions=table)
    written = pq.read_table(predictions_path(tmp_path, RESULT))
    assert written.equals(table)
    assert not_of(written, RESULT) == not_of(table, RESULT) == []
    other = dict.fromkeys(PREDICTED_BY, "other")
    assert not_of(written, dataclasses.replace(RESULT, **other)) == [*PREDICTED_BY]
    assert not_of(written, dataclasses.replace(RESULT, value=0.9, date="later")) == []


def test_a_row_has_the_published_fields(tmp_path):
    write_results(tmp_path, [RESULT])
    row = json.loads((tmp_path / RESULTS_FILE).read_text())
    assert list(row) == [
        *("model", "model_fingerprint", "task", "dataset_fingerprint", "split", "protocol"),
        *("method", "shots", "subset", "metric", "is_main", "value", "standard_error", "low"),
        *("high", "interval", "n", "chance", "num_classes", "precision", "prompts", "asked"),
        *("settings", "seconds", "version", "date"),
    ]


def test_measuring_again_replaces_all_of_a_task_and_protocol(tmp_path):
    old = [dataclasses.replace(RESULT, metric=metric) for metric in ("top1", "top5")]
    others = [dataclasses.replace(RESULT, **{field: "other"}) for field in ("task", "protocol")]
    write_results(tmp_path, old)
    write_results(tmp_path, others)
    again = dataclasses.replace(RESULT, value=0.9, precision="bf16")
    write_results(tmp_path, [again])
    assert read_results(tmp_path) == [*others, again]


def test_results_of_older_weights_go_with_the_first_of_newer_ones(tmp_path):
    write_results(tmp_path, [RESULT, dataclasses.replace(RESULT, task="other")])
    newer = dataclasses.replace(RESULT, model_fingerprint="2d")
    check_folder(tmp_path, model="runs/a", fingerprint="2d")
    write_results(tmp_path, [newer])
    assert read_results(tmp_path) == [newer]


def test_a_folder_with_another_model_s_results_is_refused(tmp_path):
    check_folder(tmp_path, model="runs/b", fingerprint="2d")
    write_results(tmp_path, [RESULT])
    check_folder(tmp_path, model="./runs/a", fingerprint="0f")  # the same weights, spelt otherwise
    with pytest.raises(InputError, match="results of another model, runs/a: name another folder"):
        check_folder(tmp_path, model="runs/b", fingerprint="2d")


def _write_some(folder, number):
    for index in range(10):
        write_results(folder, [dataclasses.replace(RESULT, task=f"{number}-{index}")])


def test_two_that_write_at_once_lose_nothing(tmp_path):
    threads = [Thread(target=_write_some, args=(tmp_path, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_results(tmp_path)) == 40
    assert not list(tmp_path.glob("*.partial"))


def test_a_line_that_is_no_result_is_named(tmp_path):
    write_results(tmp_path, [RESULT])
    with (tmp_path / RESULTS_FILE).open("a") as file:
        file.write('{"model": "a"}\n')
    with pytest.raises(InputError, match=r"results\.jsonl line 2 is not a result"):
        read_results(tmp_path)


def test_no_results_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="winnow evaluate"):
        read_results(tmp_path)
