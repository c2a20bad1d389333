import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from result_rows import measured
from rich.console import Console

from winnow.evaluation.results import write_results
from winnow.recipes.compare import Compare, run_compare
from winnow.types import InputError


def result(folder, task, ranks, protocol, metric, value):
    which = {"task": task, "protocol": protocol, "metric": metric, "value": value}
    return measured(folder.parent.name, dataset_fingerprint="pictures", n=len(ranks), **which)


def write(folder, task, ranks, *, protocol="zero-shot", metric="top1", value=None):
    value = sum(rank == 1 for rank in ranks) / len(ranks) if value is None else value
    row = result(folder, task, ranks, protocol, metric, value)
    names = [f"p{n}" for n in range(len(ranks))]
    columns = {"key": names, "label": [0] * len(ranks), "rank": ranks}
    if protocol == "retrieval":
        columns = {"direction": ["image_to_text"] * len(ranks), "query": names, "rank": ranks}
    write_results(folder, [row], predictions=pa.table(columns))


@pytest.fixture
def runs(tmp_path):
    """The second has 15 of 100 more right; a median rank falls from 3 to 1; one task is its own."""
    runs = tmp_path / "a", tmp_path / "b"
    for run, right, rank in zip(runs, (50, 65), (3, 1), strict=True):
        folder = run / "evaluation"
        write(folder, "[red]emoji", [1] * right + [2] * (100 - right))
        metric = "image_to_text_median_rank"
        write(folder, "pairs", [rank] * 9, protocol="retrieval", metric=metric, value=rank)
    write(runs[1] / "evaluation", "photos", [1])
    return runs


def said_by(options):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    run_compare(options, say=console.print)
    return console.export_text()


def test_the_terminal_says_who_is_better_and_how_sure_that_is(runs):
    text = said_by(Compare(first=runs[0], second=runs[1]))
    title, row = [line.split() for line in text.splitlines() if "emoji" in line or "top-1" in line]
    assert title == ["[red]emoji"]
    assert row[:4] == ["top-1", "50.0", "65.0", "+15.0"]
    assert row[4].startswith("[+8.")
    assert row[-3:] == ["<.001", "<.001", "100"]
    assert "sign test" not in text  # of one task it says nothing
    assert "left out photos (zero-shot): only the second model was measured on it" in text
    assert "median rank" not in text
    assert max(map(len, text.splitlines()[:6])) <= 80


def test_wins_are_told_of_two_tasks_or_more(runs):
    for run, right in zip(runs, (5, 4), strict=True):
        write(run / "evaluation", "icons", [1] * right + [2] * (10 - right))
    text = said_by(Compare(first=runs[0], second=runs[1]))
    assert "zero-shot: second wins 1 of 2; sign test p = 1.000" in text


def test_the_directions_of_one_retrieval_are_no_two_tasks(tmp_path):
    names = [f"p{n}" for n in range(4)]
    for run in (tmp_path / "a", tmp_path / "b"):
        folder = run / "evaluation"
        metrics = [f"{direction}_recall@1" for direction in ("image_to_text", "text_to_image")]
        rows = [result(folder, "pairs", [1] * 4, "retrieval", metric, 1.0) for metric in metrics]
        directions = {"direction": [m.removesuffix("_recall@1") for m in metrics for _ in names]}
        table = pa.table(directions | {"query": names * 2, "picture": names * 2, "rank": [1] * 8})
        write_results(folder, rows, predictions=table)
    text = said_by(Compare(first=tmp_path / "a", second=tmp_path / "b"))
    assert text.count("T R@1") == text.count("I R@1") == 1
    assert "sign test" not in text


@pytest.fixture
def probed(tmp_path):
    """Probes of 1 and 16 shots, and of 3 subsets on one side and 2 on the other."""
    runs = tmp_path / "a", tmp_path / "b"
    for run, subsets in zip(runs, (3, 2), strict=True):
        folder, rows, tables = run / "evaluation", [], []
        for shots in (1, 16):
            row = result(folder, "held-out-drawings", [1] * 3 + [2], "few-shot", "top1", 0.75)
            settings = {"subsets": subsets}
            probe = {"method": "text-initialised", "shots": shots, "settings": settings}
            rows.append(dataclasses.replace(row, **probe))
            columns = {
                "method": ["text-initialised"] * 4 * subsets,
                "shots": [shots] * 4 * subsets,
                "subset": np.arange(subsets).repeat(4),
                "key": ["a", "b", "c", "d"] * subsets,
                "label": [0] * 4 * subsets,
                "predicted": [0, 0, 0, 1] * subsets,
            }
            tables.append(pa.table(columns))
        write_results(folder, rows, predictions=pa.concat_tables(tables))
    return runs


def test_probes_stand_under_their_names_in_80_columns(probed):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    run_compare(Compare(first=probed[0], second=probed[1]), say=console.print)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    start = lines.index("held-out-drawings")
    assert lines[start + 1] == " text-initialised"
    cells = ["75.0", "75.0", "+0.0", "[+0.0,", "+0.0]", "1.000", "1.000", "4"]
    assert lines[start + 2].split() == ["1", "shot", "top-1", *cells]
    assert lines[start + 3].split() == ["16", "shots", "top-1", *cells]
    said = " ".join(lines)
    assert said.count("note on held-out-drawings (few-shot): the numbers of subsets differ") == 1


def test_ranks_are_no_percentages_and_a_fall_has_its_sign(runs):
    text = said_by(Compare(first=runs[0], second=runs[1], metric="all"))
    (row,) = [line for line in text.splitlines() if "I→T median rank" in line]
    assert row.split()[3:] == ["3.0", "1.0", "−2.0", "[−2.0,", "−2.0]", "<.001", "9"]


def test_the_json_holds_what_the_table_shows(runs, tmp_path):
    out = tmp_path / "compared.json"
    said_by(Compare(first=runs[0], second=runs[1], out=out))
    written = json.loads(out.read_text())
    (row,) = written["comparisons"]
    assert (row["task"], row["metric"], row["group"]) == ("[red]emoji", "top1", "zero-shot")
    assert row["difference"] == pytest.approx(0.15)
    assert (row["only_first"], row["only_second"]) == (0, 15)
    assert row["p_value"] == row["adjusted_p"] == pytest.approx(2 / 2**15)
    assert written["sign_tests"]["zero-shot"]["wins"] == 1
    assert [one["task"] for one in written["left_out"]] == ["photos"]
    first, out = out.read_text(), tmp_path / "new" / "deep" / "compared.json"
    said_by(Compare(first=runs[0] / "evaluation", second=runs[1], out=out))
    assert json.loads(first)["comparisons"] == json.loads(out.read_text())["comparisons"]


@pytest.mark.parametrize("place", ["a", "file/x.json"])
def test_a_file_that_cannot_be_written_is_said_before_the_work(runs, tmp_path, monkeypatch, place):
    monkeypatch.setattr("winnow.recipes.compare.compare", lambda *_, **__: pytest.fail("compared"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"{place} cannot be written: name another file"):
        said_by(Compare(first=runs[0], second=runs[1], out=tmp_path / place))


def test_a_folder_without_results_is_named(runs, tmp_path):
    with pytest.raises(InputError, match=r"nowhere holds no results\.jsonl, nor does its evalu"):
        said_by(Compare(first=runs[0], second=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="resamples is 10"):
        Compare(first=runs[0], second=runs[1], resamples=10)
