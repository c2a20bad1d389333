import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from hostile import HOSTILE
from PIL import Image
from test_page import Page

from winnow.reports.charts import Bar, BarGroup, Dot, agreement_chart, bar_chart
from winnow.reports.concepts import (
    CalibrationBin,
    ConceptCount,
    ConceptSample,
    ConceptSection,
    ConceptShare,
    HeadFacts,
    HeadMeasures,
    Recall,
    SampleHead,
    StoppedConcept,
    arrange,
)
from winnow.reports.page import write_report
from winnow.reports.runs import read_runs
from winnow.reports.training import concept_curve, curve, run_facts

MEASURES = HeadMeasures(
    num_held_out=1_234,
    recall=(
        Recall(k=1, value=0.412, low=0.401, high=0.423, majority=0.051),
        Recall(k=10, value=0.768, low=0.752, high=0.784, majority=0.243),
    ),
    cross_entropy=3.2149,
    cross_entropy_of_frequencies=5.4321,
    calibration=(
        CalibrationBin(probability=1e-4, mass=0.0, count=7_654_321),
        CalibrationBin(probability=0.5, mass=0.347, count=112),
    ),
    calibration_error=0.00123,
)


def picture(seed):
    """A png of 16 patches of chance."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((200, 200)).save(file, "png")
    return file.getvalue()


def shares(**given):
    return tuple(ConceptShare(concept, share) for concept, share in given.items())


def sample_head(head="objects", caption=(), teacher=(), **students):
    return SampleHead(head=head, caption=caption, teacher=teacher, students=students)


def sample(*heads, caption="a cat on a mat", image=b"", key="k0"):
    return ConceptSample(
        caption=caption, image=image or picture(0), key=key, shard="0.tar", heads=heads
    )


def facts(head="objects", **given):
    plain = HeadFacts(
        head=head,
        size=812,
        min_count=5,
        pairs_with=0.934,
        most_frequent=(ConceptCount(concept="cat", count=4_321, example="a cat asleep"),),
        rarest=(ConceptCount(concept="newt", count=6, example="a newt, swimming"),),
        stopped=(StoppedConcept(concept="icon", count=2_222, reason="says what kind it is"),),
        measures=MEASURES,
    )
    return replace(plain, **given)


def section(*samples, heads=None, **given):
    plain = ConceptSection(
        selection="clean-cat",
        teacher="efficientnet-lite0",
        teacher_identity="4f" * 32,
        vocabulary="9c" * 32,
        k=10,
        heads=(facts(), facts("attributes", size=97)) if heads is None else heads,
        samples=samples,
        chosen="The held-out pairs whose uid has the smallest hash.",
    )
    return replace(plain, **given)


def page_of(folder, concepts, runs=()):
    options = {"selection": None, "runs": runs, "tasks": {}, "title": "t", "concepts": concepts}
    return Page(write_report(folder / "p.html", **options))


def rows_of(concepts, runs=()):
    (shown,) = arrange(section(sample(concepts)), runs).samples
    return shown.heads[0].rows


def table(page):
    """The cells of every row of the pairs' tables, as text."""
    found = []
    for body in re.findall(r'<table class="seen-by".*?</table>', page.source, re.DOTALL):
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL):
            cells = re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
            found.append([unescape(re.sub("<.*?>", "", cell)).strip() for cell in cells])
    return found


def test_a_pair_has_a_row_for_every_concept_of_caption_teacher_and_students():
    head = sample_head(
        caption=("mat", "cat"),
        teacher=shares(cat=0.6, dog=0.3, sofa=0.1),
        a=shares(dog=0.5, cat=0.25, lynx=0.2, mat=0.01),
    )
    rows = rows_of(head)
    assert [row.concept for row in rows] == ["cat", "dog", "sofa", "lynx", "mat"]
    assert [row.is_named for row in rows] == [True, False, False, False, True]
    assert [row.teacher for row in rows] == [0.6, 0.3, 0.1, None, None]
    assert [row.students for row in rows] == [[0.25], [0.5], [None], [0.2], [0.01]]


def test_only_the_five_most_probable_of_each_are_rows_and_ties_go_by_the_alphabet():
    teacher = shares(**dict.fromkeys("hgfedcba", 0.1))
    student = shares(z=0.5, y=0.2, x=0.1, w=0.08, v=0.07, u=0.05)
    rows = rows_of(sample_head(teacher=teacher, a=student))
    assert [row.concept for row in rows] == [*"abcde", *"zyxwv"]
    # A concept that is a row for another's sake still has its share.
    rows = rows_of(sample_head(caption=("h",), teacher=teacher))
    assert {row.concept: row.teacher for row in rows}["h"] == 0.1


def test_a_caption_of_a_hundred_concepts_has_twelve_rows_and_says_how_many_more(tmp_path):
    head = sample_head(caption=tuple(f"n{n:03d}" for n in range(100)), teacher=shares(n050=1.0))
    (shown,) = arrange(section(sample(head)), []).samples
    assert len(shown.heads[0].rows) == 13
    assert shown.heads[0].num_more == 87
    assert "and 87 more that the caption names" in page_of(tmp_path, section(sample(head))).text


def test_the_tables_say_what_they_were_given(tmp_path, runs):
    objects = sample_head(
        caption=("cat",),
        teacher=shares(cat=0.873, dog=0.127),
        b=shares(cat=0.4567, dog=0.0002, sofa=0.3),
        elsewhere=shares(cat=0.0),
    )
    attributes = sample_head("attributes", teacher=shares(red=1.0), b=shares(red=0.25))
    page = page_of(tmp_path, section(sample(objects, attributes)), runs)
    assert table(page) == [
        ["concept", "caption", "teacher", "b", "elsewhere"],
        ["objects"],
        ["cat", "✓ yes", "87.3 %", "45.7 %", "0.0 %"],
        ["dog", "no", "12.7 %", "< 0.1 %", "–"],
        ["sofa", "no", "–", "30.0 %", "–"],
        ["attributes"],
        ["red", "no", "100.0 %", "25.0 %", "–"],
    ]
    # `a` has no heads and no column; `b` has the colour that it has elsewhere on the page.
    bars = [a for a in page.of("i") if a.get("class", "").startswith("bar")]
    assert [(a["class"], a["style"]) for a in bars[:3]] == [
        ("bar teacher", "width:87.3%"),
        ("bar c1", "width:45.7%"),
        ("bar c2", "width:0.0%"),
    ]


def test_the_facts_of_the_heads_are_on_the_page(tmp_path):
    page = page_of(tmp_path, section())
    for words in (
        "Objects · 812 concepts · 93.4 % of the pairs name one",
        "Attributes · 97 concepts",
        "Selection “ clean-cat ”, teacher efficientnet-lite0 4f4f4f4f4f4f4f4f , vocabulary 9c9c",
        "on 1,234 held-out pairs with objects",
        "recall@1 41.2 % 40.1 to 42.3 5.1 %",
        "recall@10 76.8 % 75.2 to 78.4 24.3 %",
        "cross-entropy, nats 3.215 5.432",
        "calibration error 0.0012",
        "0.0001 0 7,654,321 0.5 0.347 112",
        "if 5 pairs or more name it",
        "cat 4,321 a cat asleep",
        "newt 6 a newt, swimming",
        "icon 2,222 says what kind it is",
    ):
        assert words in page.text, words
    assert page.source.count("recall@1</text>") == 2
    assert page.source.count("<circle") == 4
    assert page.open == []


def test_long_lists_of_a_vocabulary_are_cut(tmp_path):
    many = tuple(ConceptCount(concept=f"n{n}", count=n) for n in range(200))
    stopped = tuple(StoppedConcept(concept=f"s{n}", count=n, reason="r") for n in range(200))
    heads = (facts(most_frequent=many, stopped=stopped),)
    page = page_of(tmp_path, section(heads=heads))
    assert "n29 29" in page.text
    assert "n30 30" not in page.text
    assert "Stopped 30 of 200" in page.text


def test_a_head_without_concepts_or_measures_says_so(tmp_path):
    nothing = facts(
        "attributes", size=0, pairs_with=0.0, most_frequent=(), rarest=(), stopped=(), measures=None
    )
    unmeasured = replace(MEASURES, recall=(), calibration=())
    concepts = section(
        sample(sample_head(), sample_head("attributes")),
        sample(image=b"GIF89a"),
        heads=(nothing, facts(measures=unmeasured)),
        problems=("The run x has no heads.",),
    )
    page = page_of(tmp_path, concepts)
    assert "Attributes · 0 concepts · 0.0 % of the pairs" in page.text
    assert "There are no heads beside the targets" in page.text
    assert "The run x has no heads." in page.text
    assert [row for row in table(page) if row == ["none"]] == [["none"]] * 2
    assert page.source.count("not<br>readable") == 1
    assert "<circle" not in page.source


def test_without_concepts_one_line_says_so(tmp_path):
    page = page_of(tmp_path, None)
    assert "No concepts were given" in page.text
    assert 'class="sample"' not in page.source


def test_why_concepts_are_missing_stands_in_their_place(tmp_path):
    options = {"selection": None, "runs": [], "tasks": {}, "title": "t", "concepts": None}
    out = write_report(tmp_path / "p.html", concepts_problem=f"Not shown: {HOSTILE}.", **options)
    page = Page(out)
    (section,) = re.findall(r"<h2>Concepts</h2>(.*?)</section>", page.source, re.DOTALL)
    (problem,) = re.findall(r'<p class="missing" dir="auto">(.*?)</p>', section, re.DOTALL)
    assert unescape(problem) == f"Not shown: {HOSTILE}."
    assert "No concepts were given" not in page.text and page.of("script") == [{}]


def test_hostile_words_are_text_and_cut(tmp_path):
    override, word = "\u202eevil", "w" * 100_000
    named = (HOSTILE, override, word)
    head = sample_head(caption=named, teacher=shares(**{HOSTILE: 1.0}), **{HOSTILE: ()})
    counts = tuple(ConceptCount(concept=one, count=1, example=one) for one in named)
    stopped = tuple(StoppedConcept(concept=one, count=1, reason=one) for one in named)
    pairs = [sample(head, caption=one, key=one) for one in named]
    heads = (facts(HOSTILE, most_frequent=counts, rarest=counts, stopped=stopped),)
    given = {"selection": HOSTILE, "teacher": HOSTILE, "chosen": HOSTILE, "problems": named[:2]}
    page = page_of(tmp_path, section(*pairs, heads=heads, **given))
    assert page.open == []
    assert page.text.count("<script>alert(1)</script>") >= 12
    assert "{{ 7 * 7 }}" in page.text
    assert page.of("script") == [{}]
    assert {a["src"][:23] for a in page.of("img")} == {"data:image/webp;base64,"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert "w" * 141 not in page.source
    assert "w" * 59 + "… (+99,940 characters)" in page.source
    # What turns the direction of writing is written out, and isolated, as letters have directions
    # too: all but the problem, alone in its paragraph, and what only screen readers have.
    assert "\u202e" not in page.source
    around = re.findall(r"(<bdi>)?⟨U\+202E⟩evil(</bdi>)?", re.sub(r'"[^"]*"', "", page.source))
    assert around.count(("<bdi>", "</bdi>")) == len(around) - 2 >= 9


def test_two_dozen_pairs_are_small(tmp_path):
    names = [f"concept-{n}" for n in range(40)]
    heads = [
        sample_head(
            head,
            caption=tuple(names[20:24]),
            teacher=shares(**dict.fromkeys(names[:10], 0.1)),
            a=shares(**dict.fromkeys(names[5:25], 0.05)),
            b=shares(**dict.fromkeys(names[10:30], 0.05)),
        )
        for head in ("objects", "attributes")
    ]
    pairs = [sample(*heads, image=picture(n), caption="some words " * 20) for n in range(24)]
    page = page_of(tmp_path, section(*pairs))
    assert page.source.count("data:image/webp") == 24
    assert len(page.source.encode()) < 400_000


def circles(chart):
    found = ET.fromstring(chart).iter("circle")  # noqa: S314 - our own
    return [
        (float(one.get("cx").rstrip("%")), float(one.get("cy")), "hollow" in one.get("class"))
        for one in found
    ]


def test_a_dot_lies_on_the_diagonal_where_both_agree():
    chart = agreement_chart(
        [Dot(v, v, "") for v in (1e-4, 1e-3, 0.01, 0.1, 1.0)], x_label="probability"
    )
    (diagonal,) = [
        [float(line.get(end).rstrip("%")) for end in ("x1", "y1", "x2", "y2")]
        for line in ET.fromstring(chart).iter("line")  # noqa: S314 - our own
        if line.get("class") == "chance"
    ]
    for index, (x, y, is_hollow) in enumerate(circles(chart)):
        part = index / 4
        assert x == pytest.approx(diagonal[0] + part * (diagonal[2] - diagonal[0]), abs=0.02)
        assert y == pytest.approx(diagonal[1] + part * (diagonal[3] - diagonal[1]), abs=0.1)
        assert not is_hollow
    words = [text.text for text in ET.fromstring(chart).iter("text")]  # noqa: S314 - our own
    assert words == ["1", "0.1", "0.01", "10⁻³", "10⁻⁴"] * 2 + ["probability"]


@pytest.mark.parametrize(
    "dots", [[], [(0.0, 0.0)], [(1e-12, 0.5)], [(1.0, 1.0)], [(0.3, 0.0), (1e-3, 0.4)]]
)
def test_any_dots_fit_and_what_is_off_the_scale_is_hollow(dots):
    found = circles(agreement_chart([Dot(x, y, HOSTILE) for x, y in dots], x_label="x"))
    assert [is_hollow for *_, is_hollow in found] == [min(x, y) < 1e-6 for x, y in dots]
    assert all(7 <= x <= 98 and 8 <= y <= 200 for x, y, _ in found)


def test_a_baseline_above_every_bar_is_inside_the_chart():
    chart = bar_chart([BarGroup("recall@1", [Bar(0.1, 0.05, 0.15)], 0.9)])
    (at,) = re.findall(r'class="chance" x1="([\d.]+)%"', chart)
    assert float(at) <= 88


@pytest.fixture
def learned(tmp_path):
    """Runs without and with concept heads, the third with objects alone."""
    folders = []
    for name, heads in (("a", ()), ("b", ("objects", "attributes")), ("c", ("objects",))):
        run = tmp_path / "learned" / name
        run.mkdir(parents=True)
        rows = []
        for step in range(1, 41):
            row = {"step": step, "loss": 5.0 / step}
            if heads:
                row |= {"loss_contrastive": 5.0 / step, "loss": 5.0 / step + 2 * len(heads)}
            rows.append(row | {f"loss_{head}": 2.0 for head in heads})
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (run / "recipe.json").write_text("{}")
        folders.append(run)
    return folders


def test_the_loss_of_a_run_that_learns_concepts_is_its_contrastive_part(tmp_path, learned):
    runs = read_runs(learned)
    drawn = re.findall(r'class="raw c\d" d="(.*?)"', curve(runs, "loss_contrastive", "loss"))
    assert len(drawn) == 3
    assert drawn[0] == drawn[1] == drawn[2]
    assert run_facts(runs[1], 1).loss == pytest.approx(run_facts(runs[0], 0).loss)
    assert run_facts(runs[0], 0).loss == pytest.approx(
        (5 / 37 + 5 / 40 + 5 / 38 + 5 / 39) / 4, rel=0.01
    )
    page = page_of(tmp_path, None, learned)
    assert "Of b, c the contrastive part of the loss is shown" in page.text
    assert "Concept loss" in page.text


def test_the_concept_loss_has_a_line_per_run_and_head_in_the_runs_colour(tmp_path, learned):
    chart = concept_curve(read_runs(learned), smooth_over=0.1)
    assert re.findall(r'class="smooth (.*?)"', chart) == ["c1 solid", "c1 dashed", "c2 solid"]
    assert "<title>b objects, b attributes, c objects by step</title>" in chart
    assert concept_curve(read_runs(learned[:1]), smooth_over=0.1) is None
    page = page_of(tmp_path, None, learned[:1])
    assert "Concept loss" not in page.text
    assert "contrastive part" not in page.text


def test_a_run_without_a_column_does_not_take_the_next_ones_colour(learned):
    for step, value in ((41, math.nan), (42, 14.0), (43, 15.0)):
        with (learned[2] / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "scale": value}) + "\n")
    chart = curve(read_runs(learned), "scale")
    assert re.findall(r'class="raw (.*?)"', chart) == ["c2"]
