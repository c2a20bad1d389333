"""Curves of every number of a run's rows, its sources and what its health rules said."""

import json
import re

import pytest
from hostile import HOSTILE
from test_page import Page

from winnow.reports.page import write_report
from winnow.reports.runs import read_runs
from winnow.reports.training_section import training_section
from winnow.types import InputError

SAID = "step 20: the scale fell from 14.3 to 9.9"


def write_run(folder, rows, health=()):
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if health:
        (folder / "health.jsonl").write_text("".join(json.dumps(row) + "\n" for row in health))
    return folder


def rows(**columns):
    return [{"step": step, "loss": 5.0 / step} | columns for step in range(1, 31)]


def finding(step, sentence=SAID, event="began", rule="scale-falling"):
    return {"step": step, "rule": rule, "event": event, "sentence": sentence}


def styles(chart):
    return re.findall(r'class="smooth (.*?)"', chart)


@pytest.fixture
def plain(tmp_path):
    return write_run(tmp_path / "plain", rows())


@pytest.fixture
def full(tmp_path):
    given = rows(
        gradient_norm=0.5,
        update_norm=0.01,
        samples_per_second=100.0,
        data_wait_share=0.25,
        mfu=0.4,
        memory_gb=60.0,
        image_similarity=0.3,
        text_similarity=0.4,
    )
    for row in given[::5]:
        row["validation_loss"] = 2.0
    health = [finding(20), finding(30, "step 30: the scale has risen again", "ended")]
    return write_run(tmp_path / "full", given, health)


def page_of(tmp_path, runs):
    path = write_report(tmp_path / "p.html", selection=None, runs=runs, tasks={}, title="t")
    return Page(path)


def test_what_was_not_logged_has_no_chart(tmp_path, plain):
    section = training_section(read_runs([plain]))
    assert (section.panels, section.sources, section.findings, section.validated) == (
        [],
        [],
        [],
        [],
    )
    page = page_of(tmp_path, [plain])
    assert page.open == []
    assert "Gradient norm" not in page.text and "Health" not in page.text


def test_every_number_has_a_chart_in_the_runs_colour(tmp_path, plain, full):
    section = training_section(read_runs([plain, full]))
    charts = {panel.title: styles(panel.chart) for panel in section.panels}
    assert charts.pop("Likeness") == ["c1 solid", "c1 dashed"]
    assert list(charts) == [
        "Gradient norm",
        "Update norm",
        "Samples per second",
        "Waiting for data",
        "Model FLOPs utilization",
        "Memory",
    ]
    assert all(chart == ["c1 solid"] for chart in charts.values())
    page = page_of(tmp_path, [plain, full])
    assert page.open == []
    assert all(title in page.text for title in (*charts, "Likeness"))


def test_the_validation_loss_is_dashed_beside_the_training_loss(tmp_path, plain, full):
    section = training_section(read_runs([plain, full]))
    assert styles(section.loss) == ["c0 solid", "c1 solid", "c1 dashed"]
    assert "<title>plain, full, full validation by step</title>" in section.loss
    text = page_of(tmp_path, [plain, full]).text
    assert "Dashed: the loss on validation pairs (full)." in text


def test_what_the_health_rules_said_is_listed(tmp_path, plain, full):
    text = page_of(tmp_path, [plain, full]).text
    assert f"Health of full {SAID} scale-falling step 30: the scale has risen again" in text
    assert "Health of plain" not in text


def test_many_findings_are_counted(tmp_path):
    run = write_run(tmp_path / "ill", rows(), [finding(step) for step in range(37)])
    page = page_of(tmp_path, [run])
    assert page.text.count(SAID) == 30
    assert "And 7 more in health.jsonl." in page.text


def test_each_source_has_a_line_and_the_smallest_are_left_out(tmp_path):
    sources = {f"source/s{n}/samples": 10 * n for n in range(8)}
    losses = {f"source/s{n}/loss": float(n) for n in range(8)}
    run = write_run(tmp_path / "mixed", rows(**sources, **losses))
    (chart,) = training_section(read_runs([run])).sources
    assert chart.names == ["s7", "s6", "s5", "s4", "s3", "s2"]
    assert styles(chart.chart) == [f"c{n} solid" for n in range(6)]
    text = page_of(tmp_path, [run]).text
    assert "Loss by source mixed , 2 smaller sources left out s7 s6" in text


def test_a_source_without_samples_is_drawn_too(tmp_path):
    run = write_run(tmp_path / "mixed", rows(**{"source/a/b/loss": 1.0, "source//loss": 2.0}))
    (chart,) = training_section(read_runs([run])).sources
    assert chart.names == ["", "a/b"]


def test_hostile_words_of_sources_and_findings_are_shown_and_never_run(tmp_path):
    hostile = f"{HOSTILE}/loss"
    run = write_run(
        tmp_path / "mixed",
        rows(**{f"source/{HOSTILE}/loss": 1.0, f"source/{hostile}/loss": 1.0}),
        [finding(3, HOSTILE, rule=HOSTILE), finding(4, "x" * 10_000), finding(5, None)],
    )
    page = page_of(tmp_path, [run])
    assert page.open == []
    assert page.of("script") == [{}] and page.of("img") == []
    # Two sources in a legend, a title and its description, a sentence and a rule.
    assert page.text.count("<script>alert(1)</script>") == 8
    assert "{{ 7 * 7 }}" in page.text


def test_numbers_that_were_not_finite_leave_a_gap(tmp_path):
    given = rows(gradient_norm=0.5)
    given[3] |= {"gradient_norm": None, "loss": None}
    run = write_run(tmp_path / "gap", given)
    section = training_section(read_runs([run]))
    (panel,) = section.panels
    (path,) = re.findall(r'class="raw c0" d="(.*?)"', panel.chart)
    assert path.count("L") == 28
    assert page_of(tmp_path, [run]).open == []


def test_a_damaged_line_of_findings_is_named(tmp_path, full):
    (full / "health.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match=r"health\.jsonl line 1 lacks rule"):
        page_of(tmp_path, [full])
