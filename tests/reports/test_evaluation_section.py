import dataclasses
import json
import re

import pytest
from hostile import HOSTILE
from result_rows import measured
from test_page import Page

from winnow.evaluation.results import Result
from winnow.reports.colours import DARK, LIGHT
from winnow.reports.evaluation import evaluation_section
from winnow.reports.page import write_report
from winnow.reports.robustness_plot import FittedLine, RobustnessPlot, RobustnessPoint
from winnow.reports.runs import Run, read_runs
from winnow.types import InputError


def row(task="s", protocol="zero-shot", metric="top1", value=0.5, **given):
    ends = {"low": value - 0.1, "high": value + 0.1}
    which = {"task": task, "protocol": protocol, "metric": metric, "value": value}
    data = {"dataset_fingerprint": "d", "n": 100, "chance": 0.1, "num_classes": 10}
    return dataclasses.asdict(measured(**data | ends | which | given))


def few(method, shots, subset, value, **given):
    which = {
        "method": method,
        "shots": shots,
        "subset": subset,
        "interval": "t over subsets and pictures",
    }
    return row(protocol="few-shot", value=value, **which | given)


def run_of(tmp_path, *rows, name="a"):
    return Run(name=name, folder=tmp_path / name, recipe=None, metrics=[], results=list(rows))


def write_run(folder, *rows):
    (folder / "evaluation").mkdir(parents=True)
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / "evaluation" / "results.jsonl").write_text(lines)
    return folder


def page_of(tmp_path, *runs, **given):
    options = {"selection": None, "tasks": {}, "title": "t"}
    return Page(write_report(tmp_path / "p.html", runs=runs, **options, **given))


def few_shot_rows():
    rows = [few("zero-shot", None, None, 0.5)]
    for method, gain in (("text-initialised", 0.05), ("from-zero", -0.2)):
        for shots in (1, 2, 4):
            values = [0.5 + gain * shots + step for step in (-0.01, 0.0, 0.02)]
            rows += [few(method, shots, number, value) for number, value in enumerate(values)]
            chosen = {"chosen_by": f"{shots} further shots a class"}
            mean = sum(values) / 3
            rows.append(few(method, shots, None, mean, settings=chosen))
    return rows


def test_every_set_has_its_own_metric_with_the_interval_that_was_measured(tmp_path):
    first = [
        row("b", value=0.7, low=0.61, high=0.83),
        row("b", metric="top5"),
        row("a", metric="map", value=0.3, interval="bootstrap", chance=None),
        row("a", metric="top1"),
        row("a", "retrieval", "image_to_text_recall@1", 0.2),
        row("a", "retrieval", "text_to_image_recall@1", 0.1),
        row("c", "statements", value=0.9),
    ]
    second = [row("b", value=0.75, low=0.7, high=0.8, dataset_fingerprint="other"), row("d")]
    runs = [run_of(tmp_path, *first), run_of(tmp_path, *second, name="b")]
    section = evaluation_section(runs)
    shown = [(one.title, one.metric, one.interval) for one in section.tasks]
    assert shown == [
        ("b", "top-1", "Wilson"),
        ("a", "mAP", "bootstrap"),
        ("d", "top-1", "Wilson"),
        ("a", "I→T R@1", "Wilson"),
        ("a", "T→I R@1", "Wilson"),
        ("c", "top-1", "Wilson"),
    ]
    assert section.tasks[0].numbers == [(0.7, 0.61, 0.83), (0.75, 0.7, 0.8)]
    assert section.tasks[1].numbers[1] is None
    assert section.tasks[1].chance is None
    assert [one.is_same_data for one in section.tasks] == [False, True, True, True, True, True]
    assert len(section.forest) == 6
    assert section.missing[0].startswith("a linear probe")


def test_the_newest_number_counts_and_one_that_is_none_does_not(tmp_path):
    rows = [row(value=0.2), row(value=0.4), row(value=float("nan")), row("x", value=float("nan"))]
    (only,) = evaluation_section([run_of(tmp_path, *rows)]).tasks
    assert only.numbers[0].value == 0.4


def test_splits_of_one_set_are_apart(tmp_path):
    rows = [row(value=0.2), row(value=0.4, split="val")]
    tasks = evaluation_section([run_of(tmp_path, *rows)]).tasks
    assert [(one.title, one.numbers[0].value) for one in tasks] == [("s", 0.2), ("s (val)", 0.4)]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Result)])
def test_a_row_without_a_field_is_named_with_its_line(tmp_path, field):
    rows = [row(), {name: value for name, value in row().items() if name != field}]
    folder = write_run(tmp_path / "run", *rows)
    with pytest.raises(InputError, match=rf"results\.jsonl line 2 lacks {field}: take the line"):
        read_runs([folder])


def test_a_few_shot_curve_starts_at_the_zero_shot_point(tmp_path):
    section = evaluation_section([run_of(tmp_path, *few_shot_rows())]).few_shot
    assert section.compared == []
    assert (section.shots, section.num_subsets) == ([1, 2, 4], 3)
    assert section.intervals == ["t over subsets and pictures"]
    assert section.chosen_by == ["… further shots a class"]
    (run,) = section.runs
    assert run.methods == [("text-initialised", 0), ("from-zero", 5)]
    ours, plain, start = run.lines
    means = [0.5 + 0.05 * k + 0.01 / 3 for k in (1, 2, 4)]
    assert [number.value for number in ours.numbers] == pytest.approx(means)
    assert (plain.method, start.is_zero_shot, start.numbers[0].value) == ("from-zero", True, 0.5)
    (chart,) = run.charts
    words = re.findall("<title>(.*?)</title>", chart.chart)
    assert "a, zero-shot: 50.0 % (40.0 to 60.0)" in words
    assert words.count("a, text-initialised, 1 shot: 55.3 % (45.3 to 65.3)") == 1
    assert sum(one.startswith("a, text-initialised") for one in words) == 3
    assert chart.chart.count('class="dot single') == 2 * 3 * 3
    # Places at 0, 1, 2 and 4 shots: every doubling is a step; from zero begins at 1 shot.
    paths = re.findall(r'class="smooth c(\d)" d="M(.*?)"', chart.chart)
    counts = {series: path.count("L") + 1 for series, path in paths}
    assert counts == {"0": 4, "5": 3}


def test_shots_that_a_class_does_not_have_are_marked_in_numbers_and_counted(tmp_path):
    first = [
        few(method, shots, None, 0.5, settings={"short_classes": number, "absent_classes": 0})
        for method in ("text-initialised", "lp++")
        for shots, number in ((1, 0), (8, 1), (16, 3))
    ]
    second = [few("lp++", shots, None, 0.5, task="other") for shots in (1, 8, 16)]
    folders = [write_run(tmp_path / name, *rows) for name, rows in (("a", first), ("b", second))]
    page = page_of(tmp_path, *folders)
    row = "50.0 40.0–60.0 50.0 † 40.0–60.0 50.0 † 40.0–60.0"
    assert f"s text-initialised {row} s lp++ {row}" in page.text
    assert "other lp++ 50.0 40.0–60.0 50.0 40.0–60.0 50.0 40.0–60.0" in page.text
    words = "†: fewer training pictures than shots, and all of them taken:"
    assert page.text.count(words) == 1
    assert f"{words} s in 1 class at 8 shots, in 3 classes at 16 shots." in page.text
    assert "†" not in page_of(tmp_path, folders[1]).text


def test_zero_shot_by_itself_is_the_start_where_the_harness_has_none(tmp_path):
    rows = [row(value=0.47), *few_shot_rows()[1:]]
    (run,) = evaluation_section([run_of(tmp_path, *rows)]).few_shot.runs
    assert run.lines[-1].numbers[0].value == 0.47


def test_runs_are_compared_by_the_text_initialised_method(tmp_path):
    runs = [run_of(tmp_path, *few_shot_rows(), name=name) for name in "abc"]
    section = evaluation_section([runs[0], run_of(tmp_path, name="none"), *runs[1:]]).few_shot
    (chart,) = section.compared
    assert re.findall(r'class="smooth (c\d)"', chart.chart) == ["c0", "c2", "c3"]
    assert "from-zero" not in chart.chart
    assert [run.name for run in section.runs] == ["a", "b", "c"]


def test_a_linear_probe_is_beside_zero_shot_with_what_was_chosen(tmp_path):
    path = [[100.0, 0.7], [0.01, 0.5], [1.0, 0.8]]
    settings = {"strength": 1.0, "path": path, "chosen_by": "20 % of the training split"}
    rows = [row(value=0.4), row(protocol="linear-probe", value=0.6, settings=settings)]
    other = [row(protocol="linear-probe", value=0.5)]
    runs = [run_of(tmp_path, *rows), run_of(tmp_path, *other, name="b")]
    probes = evaluation_section(runs).probes
    first, second = probes.lines
    assert (first.zero_shot.value, first.probe.value, first.strength) == (0.4, 0.6, 1.0)
    assert first.chosen_by == "20 % of the training split"
    assert (second.run, second.zero_shot, second.strength) == (1, None, None)
    classes = re.findall(r'<circle class="(.*?)"', probes.forest[0].chart)
    assert [one.split()[1:] for one in classes] == [["c0", "hollow"], ["c0"], ["c1"]]
    (drawn,) = probes.paths
    words = re.findall(r"<title>(a, C = .*?)</title>", drawn.chart)
    assert words[0] == "a, C = 0.01: 50.0 % of the validation samples"
    assert [one.split()[3] for one in words] == ["0.01:", "1:", "100:"]
    assert drawn.chart.count('class="ring"') == 1
    assert ">1e-2<" in drawn.chart
    assert ">1e2<" in drawn.chart


def test_retrieval_has_both_ways_and_median_ranks_are_no_percentages(tmp_path):
    rows = [
        row("s", "retrieval", f"{way}_recall@{k}", 0.1 * number + 0.01 * k)
        for number, way in enumerate(("image_to_text", "text_to_image"))
        for k in (1, 5, 10)
    ]
    rank = {"low": 7.0, "high": 12.5, "chance": None, "interval": "bootstrap"}
    rows.append(row("s", "retrieval", "image_to_text_median_rank", 9.0, **rank))
    (line,) = evaluation_section([run_of(tmp_path, *rows)]).retrieval
    values = [number.value for number in line.recalls]
    assert values == pytest.approx([0.01, 0.05, 0.1, 0.11, 0.15, 0.2])
    assert line.median_ranks == [(9.0, 7.0, 12.5), None]
    page = page_of(tmp_path, write_run(tmp_path / "run", *rows))
    assert "9 7–12" in page.text
    assert "900.0" not in page.text
    assert "image_to_text_median_rank 9.0" in page.text


def test_effective_robustness_is_in_points_with_the_line_it_is_against(tmp_path):
    wanted = {"protocol": "robustness", "metric": "effective_robustness", "method": "published"}
    rows = [
        row("v2", value=0.01, **wanted),
        row("v2", **wanted | {"value": 0.055, "low": 0.041, "high": 0.069}),
        row("r", value=-0.02, **wanted, settings={"extrapolated": True}),
        row("v2", **wanted | {"metric": "accuracy_on_subset"}),
    ]
    page = page_of(tmp_path, write_run(tmp_path / "run", *rows))
    assert "v2 published +5.5 +4.1 to +6.9" in page.text
    assert "r published −2.0 −12.0 to +8.0, extrapolated" in page.text
    first, second = evaluation_section([run_of(tmp_path, *rows)]).shift_rows
    assert (first.title, first.line, first.is_extrapolated) == ("v2", "published", [False])
    assert (second.title, second.is_extrapolated) == ("r", [True])


def test_a_shift_has_its_plot_its_line_and_its_note(tmp_path):
    def point(label, x, y, kind="run", **by_line):
        ends = {"x_low": x, "x_high": x, "y_low": y, "y_high": y}
        return RobustnessPoint(label=label, x=x, y=y, kind=kind, **ends, **by_line)

    line = FittedLine(slope=0.9114, intercept=-0.4813, low=0.57, high=0.85, words="80 models")
    points = [
        point("a", 0.5981, 0.5253, expected=0.47),
        point("b", 0.4, 0.3, expected=0.299, extrapolated=True),
        point("x", 0.6, 0.5, "baseline"),
    ]
    plot = RobustnessPlot(
        shift="v2", in_distribution="imagenet1k", points=points, line=line, note="Only a few."
    )
    folder = write_run(tmp_path / "b", row())
    page = page_of(tmp_path, folder, robustness=[plot])
    assert "Line: 80 models. Solid from 57.0 to 85.0 %, where it was fitted" in page.text
    assert "grey: what it was fitted on, 1 model." in page.text
    assert "Only a few." in page.text
    assert "a 59.8 52.5 47.0 +5.5" in page.text
    assert re.search(r"b 40\.0 30\.0 29\.9 extrapolated \+0\.1", page.text)
    # The run that the page knows has its colour there too.
    shown = evaluation_section(read_runs([folder]), [plot]).shifts[0]
    assert [(model.point.label, model.colour) for model in shown.runs] == [("a", 1), ("b", 0)]


def test_what_was_not_measured_is_said(tmp_path):
    page = page_of(tmp_path)
    assert "No run was evaluated, so there is nothing to draw." in page.text
    page = page_of(tmp_path, write_run(tmp_path / "run", row()))
    assert (
        "Not measured: retrieval, which needs captions; a linear probe, which needs a training "
        "split; few-shot probes, which need a training split; robustness" in page.text
    )
    assert evaluation_section([]).tasks == []


def test_hostile_words_are_shown_and_never_run(tmp_path):
    settings = {"strength": 1.0, "path": [[1.0, 0.5]], "chosen_by": HOSTILE}
    rows = [
        row(HOSTILE, metric=HOSTILE, interval=HOSTILE),
        row(HOSTILE, "retrieval", "image_to_text_recall@1"),
        row(HOSTILE, "linear-probe", HOSTILE, settings=settings),
        few(HOSTILE, 1, None, 0.5, task=HOSTILE, interval=HOSTILE, settings=settings),
        few("text-initialised", 1, None, 0.5, task=HOSTILE),
        row(HOSTILE, "robustness", "effective_robustness", method=HOSTILE),
    ]
    ends = {"x_low": 0.5, "x_high": 0.5, "y_low": 0.5, "y_high": 0.5}
    point = RobustnessPoint(label=HOSTILE, x=0.5, y=0.5, kind="run", expected=0.5, **ends)
    line = FittedLine(slope=1.0, intercept=0.0, low=0.4, high=0.6, words=HOSTILE)
    plot = RobustnessPlot(
        shift=HOSTILE, in_distribution=HOSTILE, points=[point], line=line, note=HOSTILE
    )
    folders = [write_run(tmp_path / name, *rows) for name in ("a", "b")]
    page = page_of(tmp_path, *folders, robustness=[plot])
    assert page.open == []
    assert page.of("script") == [{}]
    assert page.of("img") == []
    assert "{{ 7 * 7 }}" in page.text
    assert page.text.count("alert(1)") > 20


def test_forty_sets_of_four_runs_are_a_page_that_opens(tmp_path):
    rows = [row(f"set-{n}", value=0.5 + n / 100) for n in range(40)] + few_shot_rows()
    folders = [write_run(tmp_path / name, *rows) for name in "abcd"]
    page = page_of(tmp_path, *folders)
    assert page.open == []
    tracks = [a["style"] for a in page.of("div") if a.get("class") == "track"]
    assert [t for t in tracks if t == "min-height:52px"] == tracks
    assert len(tracks) == 40
    assert len(page.source) < 1_000_000


def test_the_page_has_the_colours_of_the_plots_that_stand_alone(tmp_path):
    source = page_of(tmp_path).source
    for colours in (LIGHT, DARK):
        assert all(f"--{name}: {colour};" in source for name, colour in colours.items())
