import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hostile import HOSTILE

from winnow.reports.curve_plot import Curve, CurvePoint, Level, curve_chart
from winnow.reports.evaluation_few_shot import place_of
from winnow.reports.forest_plot import ForestRow, Mark, draw_forest


def parse(chart):
    return ET.fromstring(chart)  # noqa: S314 - our own


def classed(chart, tag, kind):
    return [one for one in parse(chart).iter(tag) if kind in one.get("class", "").split()]


def percent(element, name):
    return float(element.get(name).rstrip("%"))


def test_a_forest_row_has_a_dot_a_run_with_its_interval_and_chance():
    marks = [Mark(0.4, 0.35, 0.5, "a: 40"), Mark(0.6, 0.55, 0.62, "b: 60")]
    rows, axis = draw_forest(
        [
            ForestRow("one", "top-1", [[marks[0]], [], [marks[1]]], 0.1),
            ForestRow("two", "mAP", [[], [Mark(0.78, 0.7, 0.8, "", "hollow")], []], None),
        ]
    )
    words = [text.text for text in parse(axis).iter("text")]
    assert words == ["0", "20", "40", "60", "80"]
    assert percent(next(parse(axis).iter("text")), "x") == 1
    dots = classed(rows[0].chart, "circle", "dot")
    assert [percent(dot, "cx") for dot in dots] == [49.5, 73.75]  # 1 + 97 · value / 0.8
    assert [percent(dot, "cy") for dot in dots] == pytest.approx([100 / 6, 500 / 6], abs=0.01)
    assert [dot.get("class").split()[1] for dot in dots] == ["c0", "c2"]
    whiskers = classed(rows[0].chart, "line", "whisker")
    ends = [percent(whiskers[0], end) for end in ("x1", "x2")]
    assert ends == pytest.approx([1 + 97 * 0.35 / 0.8, 1 + 97 * 0.5 / 0.8], abs=0.01)
    (chance,) = classed(rows[0].chart, "line", "chance")
    assert percent(chance, "x1") == pytest.approx(1 + 97 * 0.1 / 0.8, abs=0.01)
    assert classed(rows[1].chart, "line", "chance") == []
    assert "hollow" in classed(rows[1].chart, "circle", "c1")[0].get("class")


def test_rows_of_many_runs_are_as_high_as_their_dots_need():
    lanes = [[Mark(0.5, 0.4, 0.6, "")] for _ in range(4)]
    rows, _ = draw_forest([ForestRow(f"set {n}", "top-1", lanes, 0.1) for n in range(40)])
    assert {row.height for row in rows} == {4 * 11 + 8}
    downs = [percent(dot, "cy") / 100 * 52 for dot in classed(rows[7].chart, "circle", "dot")]
    assert all(b - a > 2 * 4 for a, b in itertools.pairwise(downs))  # wider than a dot
    assert draw_forest([])[0] == []


def test_every_doubling_of_the_shots_is_one_step():
    assert [place_of(k) for k in (0, 1, 2, 4, 8, 16)] == [0, 1, 2, 3, 4, 5]


def test_a_curve_goes_through_its_points_on_the_axis_of_its_ticks():
    points = [
        CurvePoint(place_of(k), y, y - 0.05, y + 0.05, f"{k}")
        for k, y in ((0, 0.3), (1, 0.35), (16, 0.6))
    ]
    curve = Curve("m", 1, points, [(place_of(1), 0.3), (place_of(1), 0.4)])
    ticks = [(place_of(k), str(k)) for k in (0, 1, 2, 4, 8, 16)]
    chart = curve_chart([curve], x_ticks=ticks, x_label="shots", level=Level(0.3, "zero-shot"))
    low, high, inner = 0.2, 0.7, 220 - 8 - 40  # round numbers around 0.25 and 0.65
    dots = [dot for dot in classed(chart, "circle", "dot") if "single" not in dot.get("class")]
    for dot, point in zip(dots, points, strict=True):
        across = 7 + 91 * (point.x + 0.3) / 5.6
        assert percent(dot, "cx") == pytest.approx(across, abs=0.01)
        down = 8 + inner * (1 - (point.y - low) / (high - low))
        assert float(dot.get("cy")) == pytest.approx(down, abs=0.1)
    assert len(classed(chart, "circle", "single")) == 2
    (level,) = classed(chart, "line", "chance")
    assert level.get("y1") == level.get("y2") == dots[0].get("cy")
    assert len(classed(chart, "line", "whisker")) == 3
    shown = [text.text for text in classed(chart, "text", "tick")]
    assert shown[-7:] == ["0", "1", "2", "4", "8", "16", "shots"]
    assert shown[:-7] == ["20", "30", "40", "50", "60", "70"]


def test_curves_are_moved_aside_except_where_they_begin_together():
    def curve(series):
        start = CurvePoint(0.0, 0.5, 0.5, 0.5, "", is_shared=True)
        return Curve("m", series, [start, CurvePoint(1.0, 0.6, 0.6, 0.6, "", is_chosen=True)])

    chart = curve_chart([curve(0), curve(1)], x_ticks=[(0.0, "0"), (1.0, "1")], x_label="x")
    across = [percent(dot, "cx") for dot in classed(chart, "circle", "dot")]
    assert across[0] == across[2]
    assert across[3] - across[1] == pytest.approx(91 * 0.07 / 1.6, abs=0.02)
    rings = [percent(ring, "cx") for ring in classed(chart, "circle", "ring")]
    assert rings == [across[1], across[3]]
    assert classed(chart, "line", "whisker") == []


def test_equal_values_have_an_axis_too():
    curve = Curve("m", 0, [CurvePoint(0.0, 0.0, 0.0, 0.0, "")])
    (dot,) = classed(curve_chart([curve], x_ticks=[(0.0, "0")], x_label="x"), "circle", "dot")
    assert math.isfinite(float(dot.get("cy")))
    assert percent(dot, "cx") == pytest.approx(52.5, abs=0.01)


def test_hostile_words_stay_words():
    rows, _ = draw_forest([ForestRow(HOSTILE, HOSTILE, [[Mark(0.5, 0.4, 0.6, HOSTILE)]], None)])
    point = CurvePoint(0.0, 0.5, 0.4, 0.6, HOSTILE)
    ticks, level = [(0.0, HOSTILE)], Level(0.1, HOSTILE)
    curves = curve_chart([Curve(HOSTILE, 0, [point])], x_ticks=ticks, x_label=HOSTILE, level=level)
    for chart in (rows[0].chart, curves):
        tags = {one.tag for one in parse(chart).iter()}
        assert tags <= {"svg", "g", "title", "line", "circle", "path", "text"}
        assert HOSTILE in "".join(parse(chart).itertext())
