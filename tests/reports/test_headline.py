import json

import pytest
from rich.console import Console

from winnow.reports.runs import read_runs
from winnow.reports.table import headline, hits, render
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
    first, second = (
        hits(r, task="pixels", protocol="zero-shot", metric="top1") for r in read_runs(runs)
    )
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
    with pytest.raises(InputError, match="nowhere is no run"):
        headline([tmp_path / "nowhere"])
