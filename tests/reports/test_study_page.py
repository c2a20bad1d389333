import json
import re

import pytest
from hostile import HOSTILE
from study_folders import accuracy, hits, probe, write_cell, write_facts

from winnow.evaluation.study.tables import as_json, study_tables, write_study_tables
from winnow.reports.study import read_study_tables, study_page, study_parts
from winnow.reports.study_charts import (
    axis_figures,
    base_forests,
    few_shot_figures,
    robustness_figures,
)
from winnow.reports.study_forest import Difference, DifferenceRow, difference_forest
from winnow.types import InputError

AXES = {
    "size": {"levels": ["tenth", "all"], "values": [None, None], "base": "all"},
    "noise": {"levels": ["none", "some"], "values": [0.0, 0.4], "base": "none"},
    "curation": {"levels": ["none", "cat"], "values": [None, None], "base": "none"},
}


def rows(level):
    right = [number < 20 * level for number in range(20)]
    few = [probe(level, 0, method="zero-shot"), probe(level, 1), probe(level + 0.1, 16)]
    return [hits(right), accuracy(level - 0.1, HOSTILE), *few]


@pytest.fixture
def study(tmp_path):
    folder = write_facts(
        tmp_path / "study",
        axes=AXES,
        shifts={HOSTILE: "things"},
        cells=None,
    )
    cost = {"seconds_per_step": 1.0, "alone": True}
    for seed in range(3):
        for method, gain in (("clip", 0.0), ("psd", 0.05 * (seed + 1))):
            level = 0.4 + 0.05 * seed
            write_cell(folder, method, seed, rows(level + gain), pairs=2_000, **cost)
            for axis, name in (("size", "tenth"), ("noise", "some"), ("curation", "cat")):
                there = {"axis": axis, "level": name, "pairs": 200}
                write_cell(folder, method, seed, rows(level - 0.1 + gain), **there)
    return folder


@pytest.fixture
def tables(study):
    return json.loads(json.dumps(as_json(study_tables(study))))


def test_a_difference_is_drawn_where_it_is():
    """The axis is from -2 to 2 points over 95 % of the row, after 2 %."""
    one = Difference(0.01, -0.005, 0.02, 1, "psd: +1.0 points")
    bare = Difference(-0.02, None, None, 2, "cd: -2.0 points, no interval")
    (row,), axis = difference_forest([DifferenceRow("things", "top-1", [one, bare])])
    assert re.findall(r'text class="tick" x="([\d.]+)%"[^>]*>(-?\d+)', axis) == [
        *[("2.00", "-2"), ("25.75", "-1"), ("49.50", "0"), ("73.25", "1"), ("97.00", "2")]
    ]
    assert '<circle class="dot c1" cx="73.25%"' in row.chart
    assert '<line class="whisker c1" x1="37.62%" x2="97.00%"' in row.chart
    assert '<circle class="dot hollow c2" cx="2.00%"' in row.chart
    assert '<line class="chance" x1="49.50%" x2="49.50%"' in row.chart
    assert row.chart.count("whisker") == 1
    title = "<title>things top-1; psd: +1.0 points; cd: -2.0 points, no interval</title>"
    assert title in row.chart


def test_the_page_has_every_part_and_loads_nothing(tables, tmp_path):
    page = study_page(tables, tmp_path / "study.html").read_text()
    anchors = re.findall(r'<section id="([\w-]+)"', page)
    assert anchors == [
        *("study-verdicts", "study-base", "study-axes", "study-robustness", "study-few-shot"),
        "study-cost",
    ]
    assert "psd against clip · 24 cells done" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert all("<title>" in svg for svg in re.findall(r'<svg[^>]*role="img".*?</svg>', page, re.S))
    # As the tables: PSD gains 5, 10 and 15 points.
    assert "+10.0 (−2.4 to +22.4)" in page


def test_each_shift_says_what_it_is_compared_with(tables, tmp_path):
    page = study_page(tables, tmp_path / "study.html").read_text()
    (section,) = re.findall(r'<section id="study-robustness".*?</section>', page, re.S)
    row = re.findall(r"<tr.*?</tr>", section, re.S)[1]
    assert [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)][
        -4:-2
    ] == ["clip", "12"]
    assert "things" in row


def test_charts_are_of_the_axes_that_have_places(tables):
    answers = tables["answers"]
    titles = [figure.title for figure in axis_figures(answers)]
    assert titles == ["size: zero-shot", "size: few-shot", "noise: zero-shot", "noise: few-shot"]
    size = axis_figures(answers)[0].chart
    assert ">200</text>" in size
    assert ">2,000</text>" in size
    assert "psd: +10.0 points (-2.4 to +22.4)" in size
    (robustness,) = robustness_figures(answers)
    assert robustness.chart.count('class="dot baseline"') == 12
    (few_shot,) = few_shot_figures(answers)
    assert "clip, zero-shot: 45.0 %" in few_shot.chart
    assert "psd, 16 shots: 65.0 %" in few_shot.chart


def test_the_interval_that_decides_is_drawn(tables):
    forest = base_forests(tables["answers"])[0]
    (row,) = [
        row
        for row in tables["answers"]["tasks"]
        if (row["method"], row["family"], row["quantity"]["task"]) == ("psd", "zero-shot", "things")
    ]
    low, high = (100 * row["over_both"][end] for end in ("low", "high"))
    assert abs(high - 100 * row["over_seeds"]["high"]) > 0.1
    (chart,) = [drawn.chart for drawn in forest.rows if drawn.title == "things"]
    assert f"({low:+.1f} to {high:+.1f})" in chart


def test_one_seed_alone_has_a_page(tmp_path):
    folder = write_facts(tmp_path / "study", axes=AXES, shifts={"b": "things"})
    write_cell(folder, "clip", 0, rows(0.4))
    write_cell(folder, "psd", 0, rows(0.5))
    page = study_page(as_json(study_tables(folder)), tmp_path / "study.html").read_text()
    assert "+10.0 (needs 2 seeds or more)" in page
    assert "dot hollow" in page
    empty = write_facts(tmp_path / "empty", cells=["base-clip-seed0"])
    parts = study_parts(as_json(study_tables(empty)))
    assert [part.anchor for part in parts] == ["study-verdicts", "study-problems"]
    assert "the cell base-clip-seed0 is not done" in parts[1].body


def test_tables_are_read_back(study, tables, tmp_path):
    path = write_study_tables(study_tables(study), tmp_path / "tables.json")
    assert read_study_tables(path) == tables
    path.write_text("[]")
    with pytest.raises(InputError, match="no tables of a study"):
        read_study_tables(path)
