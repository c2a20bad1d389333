import math
import re
import xml.etree.ElementTree as ET

import pytest

from winnow.reports.charts import Bar, BarGroup, Line, bar_chart, line_chart


def parse(chart):
    return ET.fromstring(chart)  # noqa: S314 - our own


def paths(chart, kind):
    return [
        [tuple(map(float, point.split())) for point in re.split("[ML]", path.get("d"))[1:]]
        for path in parse(chart).iter("path")
        if path.get("class").startswith(kind)
    ]


def test_bars_are_as_long_as_their_values():
    bars = [Bar(0.4, 0.3, 0.5), None, Bar(0.1, 0.05, 0.15)]
    chart = parse(bar_chart([BarGroup("a < b", bars, 0.2)]))
    widths = [float(rect.get("width").rstrip("%")) for rect in chart.iter("rect")]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.02)
    chance = next(line for line in chart.iter("line") if line.get("class") == "chance")
    assert float(chance.get("x1").rstrip("%")) == pytest.approx(widths[0] / 2, abs=0.02)
    whiskers = [line for line in chart.iter("line") if line.get("class") == "error"]
    ends = [float(whiskers[0].get(end).rstrip("%")) for end in ("x1", "x2")]
    assert ends == pytest.approx([0.75 * widths[0], 1.25 * widths[0]], abs=0.02)
    words = [text.text for text in chart.iter("text")]
    assert words == ["a < b", "40.0 %", "not measured", "10.0 %"]


def test_a_line_goes_through_its_points():
    chart = line_chart([Line("a", [0, 5, 10], [0.0, 1.0, 4.0])], x_label="step")
    (points,) = paths(chart, "raw")
    assert points[0] == (0, 1000)
    assert points[-1] == (1000, 0)
    assert points[1] == (500, 750)


def test_a_straight_line_stays_where_it_is_when_it_is_smoothed():
    line = Line("a", list(range(101)), [2.0 * x for x in range(101)])
    chart = line_chart([line], x_label="step", smooth_over=0.2)
    assert paths(chart, "smooth") == paths(chart, "raw")


def test_smoothing_takes_noise_away():
    line = Line("a", list(range(200)), [1.0 + (-1) ** x for x in range(200)])
    chart = line_chart([line], x_label="step", smooth_over=0.1)
    heights = [y for _, y in paths(chart, "smooth")[0][20:-20]]
    assert max(abs(y - 500) for y in heights) < 60


def test_a_long_line_is_thinned_and_keeps_its_end():
    line = Line("a", list(range(100_000)), [math.sin(x / 1e4) for x in range(100_000)])
    (points,) = paths(line_chart([line], x_label="step"), "raw")
    assert len(points) <= 300
    assert points[-1][0] == pytest.approx(1000, abs=0.1)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-2.0, -2.0], [1e-9, 2e-9], [1e9, 3e9]])
def test_any_values_fit_the_chart(values):
    line = Line("a", list(range(1, len(values) + 1)), values)
    (points,) = paths(line_chart([line], x_label="step"), "raw")
    assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in points)


def test_names_are_escaped():
    chart = line_chart([Line("<script>", [0, 1], [0.0, 1.0])], x_label="</svg>")
    assert "<script>" not in chart
    assert parse(chart).find("title").text == "<script> by </svg>"
