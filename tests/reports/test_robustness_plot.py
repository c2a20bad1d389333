import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hostile import HOSTILE

from winnow.reports.colours import DARK, LIGHT
from winnow.reports.robustness_plot import (
    FittedLine,
    RobustnessPlot,
    RobustnessPoint,
    describe,
    robustness_chart,
    write_robustness_svg,
)

LINE = FittedLine(slope=0.9114, intercept=-0.4813, low=0.57, high=0.85, words="80 standard models")
SVG = "{http://www.w3.org/2000/svg}"


def logit(share):
    return math.log(share / (1 - share))


def point(x, y, label="a", kind="run", width=0.0, **by_line):
    ends = {"x_low": x - width, "x_high": x + width, "y_low": y - width, "y_high": y + width}
    return RobustnessPoint(label=label, x=x, y=y, kind=kind, **ends, **by_line)


def plot_of(*points, line=LINE, **given):
    names = {"shift": "imagenetv2", "in_distribution": "imagenet1k"}
    return RobustnessPlot(points=points, line=line, **names | given)


def parse(chart):
    return ET.fromstring(chart)  # noqa: S314 - our own


def classed(chart, tag, kind):
    return [one for one in parse(chart).iter(tag) if kind in one.get("class", "").split()]


def percent(element, name):
    return float(element.get(name).rstrip("%"))


def axis_ends(shares):
    """Of what is shown and 6 % of it on both sides."""
    low, high = logit(min(shares)), logit(max(shares))
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def expected(x):
    return 1 / (1 + math.exp(-(0.9114 * math.log(x / (1 - x)) - 0.4813)))


def test_a_model_is_told_by_how_far_it_is_from_what_the_line_expects():
    assert describe(point(0.5981, 0.5253, expected=0.47)) == (
        "a: 59.8 → 52.5 %, 5.5 points above the line"
    )
    assert describe(point(0.5, 0.3, "c", expected=0.382, extrapolated=True)) == (
        "c: 50.0 → 30.0 %, 8.2 points below the line (extrapolated)"
    )


def test_dots_and_whiskers_are_where_their_logits_are():
    chart = robustness_chart(plot_of(point(0.6, 0.5, width=0.02), point(0.3, 0.25, "b")))
    x_low, x_high = axis_ends([0.3, 0.85])
    y_low, y_high = axis_ends([0.25, expected(0.85)])
    first, second = classed(chart, "circle", "dot")
    inner = 340 - 8 - 40
    for dot, x, y in ((first, 0.6, 0.5), (second, 0.3, 0.25)):
        across = 7 + 91 * (logit(x) - x_low) / (x_high - x_low)
        down = 8 + inner * (1 - (logit(y) - y_low) / (y_high - y_low))
        assert percent(dot, "cx") == pytest.approx(across, abs=0.01)
        assert float(dot.get("cy")) == pytest.approx(down, abs=0.1)
    across, up = classed(chart, "line", "error")[:2]
    for name, x in (("x1", 0.58), ("x2", 0.62)):
        place = 7 + 91 * (logit(x) - x_low) / (x_high - x_low)
        assert percent(across, name) == pytest.approx(place, abs=0.01)
    for name, y in (("y1", 0.48), ("y2", 0.52)):
        place = 8 + inner * (1 - (logit(y) - y_low) / (y_high - y_low))
        assert float(up.get(name)) == pytest.approx(place, abs=0.1)


def test_the_line_is_solid_where_it_was_fitted_and_dashed_beyond():
    chart = robustness_chart(plot_of(point(0.4, 0.2), point(0.95, 0.97, "b")))
    x_low, x_high = axis_ends([0.4, 0.95])
    (solid,) = classed(chart, "line", "solid")
    for name, x in (("x1", 0.57), ("x2", 0.85)):
        place = 7 + 91 * (logit(x) - x_low) / (x_high - x_low)
        assert percent(solid, name) == pytest.approx(place, abs=0.01)
    before, after = classed(chart, "line", "dashed")
    assert percent(before, "x1") == pytest.approx(7, abs=0.01)
    assert (before.get("x2"), before.get("y2")) == (solid.get("x1"), solid.get("y1"))
    assert (after.get("x1"), after.get("y1")) == (solid.get("x2"), solid.get("y2"))
    assert percent(after, "x2") == pytest.approx(98, abs=0.01)
    # On logit axes it is straight: all three have one slope.
    rises = [
        (float(one.get("y2")) - float(one.get("y1"))) / (percent(one, "x2") - percent(one, "x1"))
        for one in (before, solid, after)
    ]
    assert rises == pytest.approx([rises[1]] * 3, rel=0.02)


@pytest.mark.parametrize("slope", [8.0, -3.0, 0.0])
def test_a_line_ends_where_the_plot_does(slope):
    line = FittedLine(slope=slope, intercept=0.0, low=0.45, high=0.55, words="")
    chart = robustness_chart(plot_of(point(0.05, 0.4), point(0.95, 0.6, "b"), line=line))
    drawn = classed(chart, "line", "fitted")
    assert drawn
    for one in drawn:
        assert 7 <= percent(one, "x1") <= percent(one, "x2") <= 98
        assert all(7.9 <= float(one.get(end)) <= 300.1 for end in ("y1", "y2"))


def test_accuracies_of_0_and_1_lie_on_the_edge_hollow():
    chart = robustness_chart(plot_of(point(1.0, 0.0), point(0.6, 0.5, "b")))
    first, second = classed(chart, "circle", "dot")
    assert "hollow" in first.get("class")
    assert "hollow" not in second.get("class")
    assert 7 <= percent(first, "cx") <= 98
    assert 8 <= float(first.get("cy")) <= 300


def test_ticks_are_round_and_apart():
    for low, high in ((0.002, 0.998), (0.2, 0.8), (0.5, 0.6), (0.71, 0.97), (0.002, 0.01)):
        chart = robustness_chart(plot_of(point(low, low), point(high, high, "b"), line=None))
        ticks = classed(chart, "text", "tick")
        across = [one for one in ticks if one.get("text-anchor") == "middle"]
        places = [percent(one, "x") for one in across if not one.text.startswith("imagenet")]
        assert 2 <= len(places) <= 10
        assert all(after - before >= 9.9 for before, after in itertools.pairwise(places))


def test_runs_have_their_colours_and_are_drawn_over_the_baselines():
    plot = plot_of(point(0.6, 0.5, "b"), point(0.7, 0.6, "x", "baseline"), point(0.65, 0.5, "new"))
    kinds = [
        one.get("class") for one in classed(robustness_chart(plot, runs="ab"), "circle", "dot")
    ]
    assert kinds == ["dot baseline", "dot c1", "dot c2"]
    alone = [one.get("class") for one in classed(robustness_chart(plot), "circle", "dot")]
    assert alone == ["dot baseline", "dot c0", "dot c1"]


def test_without_a_line_there_are_points_alone():
    chart = robustness_chart(plot_of(point(0.6, 0.5), line=None))
    assert classed(chart, "line", "fitted") == []
    assert classed(chart, "circle", "dot")[0].find("title").text == "a: 60.0 → 50.0 %"


def test_the_file_stands_alone_in_light_and_dark(tmp_path):
    plot = plot_of(
        point(0.5981, 0.5253, expected=0.47),
        point(0.7, 0.6, "x", "baseline"),
        note="Only a few. " * 30,
    )
    out = write_robustness_svg(plot, tmp_path / "plots" / "v2.svg")
    source = out.read_text()
    assert source.count("http") == 1  # the name of the format alone
    assert "url(" not in source
    assert not list(out.parent.glob("*.partial"))
    root = parse(source)
    assert root.tag == f"{SVG}svg"
    style = root.find(f"{SVG}style").text
    light, dark = style.split("@media(prefers-color-scheme:dark)")
    assert f".c0{{fill:{LIGHT['c0']};stroke:{LIGHT['c0']}}}" in light
    assert f".c0{{fill:{DARK['c0']};stroke:{DARK['c0']}}}" in dark
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a: 59.8 → 52.5 %, 5.5 points above the line" in texts
    assert "what the line was fitted on" in texts
    assert "80 standard models" in texts
    # All words are inside, one below the other.
    height = float(root.get("height"))
    downs = [float(t.get("y")) for t in root.findall(f"{SVG}text")]
    assert downs == sorted(downs)
    assert downs[-1] < height
    assert max(map(len, texts)) <= 100


def test_hostile_words_stay_words(tmp_path):
    plot = plot_of(
        point(0.6, 0.5, HOSTILE),
        line=FittedLine(slope=1.0, intercept=0.0, low=0.5, high=0.7, words=HOSTILE),
        shift=HOSTILE,
        in_distribution=HOSTILE,
        note=HOSTILE,
    )
    for source in (robustness_chart(plot), write_robustness_svg(plot, tmp_path / "p").read_text()):
        assert not re.search("<(script|img)", source)
        assert HOSTILE[:20] in "".join(parse(source).itertext())
