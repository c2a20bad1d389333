import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import measured
from rich.console import Console

from winnow.predictions import hits_of
from winnow.reports.runs import read_runs
from winnow.reports.table import headline, render
from winnow.statistics import mcnemar_p_value
from winnow.types import InputError


def test_the_headline_holds_what_was_measured(runs):
    rows = headline(runs)
    assert [(row.task, row.label) for row in rows] == [
        ("pixels", "top-1"),
        ("pixels", "top-5"),
        ("pixels", "I→T R@1"),
        ("pixels", "T→I R@1"),
    ]
    top1 = rows[0]
    assert (top1.n, top1.chance, top1.runs) == (10, 0.1, ("a", "b"))
    recorded = [json.loads((run / "evaluation/results.jsonl").open().readline()) for run in runs]
    for cell, result in zip(top1.cells, recorded, strict=True):
        assert (cell.value, cell.standard_error) == (result["value"], result["standard_error"])
        assert cell.times_chance == pytest.approx(10 * result["value"])
        assert cell.low <= cell.value <= cell.high
    assert top1.cells[1].value == 1.0


def test_the_difference_is_paired_by_sample(runs):
    top1 = headline(runs)[0]
    first, second = (hits_of(r.predictions("pixels", "zero-shot"), "top1") for r in read_runs(runs))
    gained = sum(second[key] and not first[key] for key in first)
    assert gained >= 3
    difference = top1.differences[1]
    assert (difference.only_first, difference.only_second) == (0, gained)
    assert difference.difference == pytest.approx(top1.cells[1].value - top1.cells[0].value)
    assert difference.p_value == mcnemar_p_value(0, gained)
    assert top1.differences[0] is None


def test_runs_on_different_data_are_not_paired(runs):
    path = runs[1] / "evaluation/results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(r | {"dataset_fingerprint": "other"}) + "\n" for r in rows))
    assert [row.differences[1] for row in headline(runs)] == [None] * 4


def test_runs_with_different_prompts_are_not_paired(runs):
    path = runs[0] / "evaluation/results.jsonl"
    rows = [json.loads(line) | {"prompts": "others"} for line in path.open()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {row.differences for row in headline(runs)} == {(None, None)}


@pytest.mark.parametrize(("pictures", "is_paired"), [("aabc", False), ("abcd", True)])
def test_captions_that_share_a_picture_are_not_paired_as_if_independent(
    tmp_path, pictures, is_paired
):
    """Pictures may share a caption, and ask one at a time."""
    ways = ["image_to_text", "text_to_image"]
    rows = [
        {"task": "s", "protocol": "retrieval", "metric": f"{way}_recall@1", "value": 0.5}
        for way in ways
    ]
    queries = {"direction": [way for way in ways for _ in range(4)], "query": list("abcdwxyz")}
    asked = queries | {"picture": list("aabc" + pictures)}
    runs = [
        write_run(tmp_path / name, *rows, predictions={"s-test-retrieval": asked | {"rank": rank}})
        for name, rank in (("a", [1, 1, 2, 2] * 2), ("b", [1, 2, 1, 1] * 2))
    ]
    by_picture, by_caption = (row.differences[1] for row in headline(runs))
    assert (by_picture.only_first, by_picture.only_second) == (1, 2)
    assert by_caption == (by_picture if is_paired else None)


def test_a_run_without_results_leaves_its_cells_empty(runs):
    (runs[0] / "evaluation/results.jsonl").unlink()
    top1 = headline(runs)[0]
    assert top1.cells[0] is None
    assert top1.cells[1].value == 1.0
    assert top1.differences[1] is None


def test_the_terminal_shows_the_same_numbers(runs):
    rows = headline(runs)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(rows))
    text = console.export_text()
    for cell in rows[0].cells:
        assert f"{100 * cell.value:.1f} ± {100 * cell.standard_error:.1f}" in text
    assert text.count("pixels") == 1
    assert "change (p)" in text


def write_run(folder, *rows, predictions=()):
    """A run with `rows` of results and, by task, split and protocol, tables of predictions."""
    (folder / "evaluation" / "predictions").mkdir(parents=True)
    lines = "".join(json.dumps(row_of(**row)) + "\n" for row in rows)
    (folder / "evaluation" / "results.jsonl").write_text(lines)
    for which, columns in dict(predictions).items():
        pq.write_table(
            pa.table(columns), folder / "evaluation" / "predictions" / f"{which}.parquet"
        )
    return folder


def row_of(**given):
    data = {"n": 4, "chance": 0.5, "dataset_fingerprint": "d"}
    return dataclasses.asdict(measured(**data | given))


def test_statements_are_shown_and_paired_by_picture(tmp_path):
    row = {"task": "asked", "protocol": "statements"}
    answers = {"key": ["a", "b", "c", "d"], "answer": [0, 1, 0, 2]}
    scores = {"scores": [[0.1, 0.2, 0.3]] * 4}
    first = answers | {"rank": [2, 1, 3, 2]} | scores
    second = {name: values[::-1] for name, values in (answers | {"rank": [1, 1, 1, 2]}).items()}
    runs = [
        write_run(
            tmp_path / name, row | {"value": value}, predictions={"asked-test-statements": said}
        )
        for name, value, said in (("a", 1 / 4, first), ("b", 3 / 4, second | scores))
    ]
    (shown,) = headline(runs)
    assert (shown.task, shown.protocol, shown.label) == ("asked", "statements", "statements top-1")
    assert [cell.value for cell in shown.cells] == [1 / 4, 3 / 4]
    assert shown.cells[0].times_chance == 0.5
    difference = shown.differences[1]
    assert (difference.only_first, difference.only_second) == (0, 2)
    assert difference.difference == 1 / 2


def test_another_split_than_test_is_named(tmp_path):
    row = {"task": "folders", "protocol": "zero-shot"}
    val = row | {"split": "val", "value": 1 / 2, "dataset_fingerprint": "v"}
    asked = {"key": ["a", "b", "c", "d"], "label": [0, 1, 0, 1], "rank": [1, 2, 1, 2]}
    predictions = {"folders-val-zero-shot": asked}
    runs = [
        write_run(tmp_path / "a", val, predictions=predictions),
        write_run(tmp_path / "b", row | {"value": 1 / 4}, val, predictions=predictions),
        write_run(tmp_path / "c", row | {"value": 3 / 4}),
    ]
    shown = {row.task: row for row in headline(runs)}
    assert list(shown) == ["folders (val)", "folders"]
    values = {task: [cell and cell.value for cell in row.cells] for task, row in shown.items()}
    assert values == {"folders (val)": [1 / 2, 1 / 2, None], "folders": [None, 1 / 4, 3 / 4]}
    assert shown["folders (val)"].differences[1].difference == 0
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(headline(runs)))
    assert "folders (val)" in console.export_text()


def test_no_runs_give_an_empty_table():
    assert headline([]) == []
    assert render([]).row_count == 0


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text("{}")
    assert [run.name for run in read_runs(folders)] == ["x/run", "y/run"]
    assert [run.name for run in read_runs(folders[:1])] == ["run"]


def test_half_a_line_at_the_end_of_the_metrics_is_left_out(runs):
    assert len(read_runs(runs)[0].metrics) == 40


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is no run \(no recipe.json\), nor are th"):
        headline([tmp_path / "nowhere"])
