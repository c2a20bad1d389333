import json

import pyarrow as pa
import pytest
from rich.console import Console

from winnow.evaluation.results import Result, write_predictions, write_results
from winnow.recipes.compare import Compare, run_compare
from winnow.types import InputError


def write(folder, task, ranks, *, protocol="zero-shot", metric="top1", value=None):
    row = Result(
        model=folder.parent.name,
        model_fingerprint=folder.parent.name,
        task=task,
        dataset_fingerprint="pictures",
        split="test",
        protocol=protocol,
        metric=metric,
        value=sum(rank == 1 for rank in ranks) / len(ranks) if value is None else value,
        standard_error=0.0,
        low=0.0,
        high=1.0,
        interval="wilson",
        n=len(ranks),
        chance=None,
        num_classes=None,
        precision="fp32",
        prompts="",
        seconds=0.0,
        version="0",
        date="2026-11-22T00:00:00+00:00",
    )
    names = [f"p{n}" for n in range(len(ranks))]
    columns = {"key": names, "label": [0] * len(ranks), "rank": ranks}
    if protocol == "retrieval":
        columns = {"direction": ["image_to_text"] * len(ranks), "query": names, "rank": ranks}
    write_results(folder, [row])
    write_predictions(folder, task, protocol, pa.table(columns))


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
    title, row = [line.split() for line in text.splitlines() if "emoji" in line or "top1" in line]
    assert title == ["[red]emoji"]
    assert row[:4] == ["top1", "50.0", "65.0", "+15.0"]
    assert row[4].startswith("[+8.")
    assert row[-3:] == ["<.001", "<.001", "100"]
    assert "zero-shot: second wins 1 of 1; sign test p = 1.000" in text
    assert "left out photos (zero-shot): only the second model was measured on it" in text
    assert "median_rank" not in text
    assert max(map(len, text.splitlines()[:6])) <= 80


def test_ranks_are_no_percentages_and_a_fall_has_its_sign(runs):
    text = said_by(Compare(first=runs[0], second=runs[1], metric="all"))
    (row,) = [line for line in text.splitlines() if "I→T median_rank" in line]
    assert row.split()[2:] == ["3.0", "1.0", "−2.0", "[−2.0,", "−2.0]", "<.001", "9"]


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
    first = out.read_text()
    said_by(Compare(first=runs[0] / "evaluation", second=runs[1], out=out))
    assert json.loads(first)["comparisons"] == json.loads(out.read_text())["comparisons"]


def test_a_folder_without_results_is_named(runs, tmp_path):
    with pytest.raises(InputError, match=r"nowhere holds no results\.jsonl, nor does its evalu"):
        said_by(Compare(first=runs[0], second=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="resamples is 10"):
        Compare(first=runs[0], second=runs[1], resamples=10)
