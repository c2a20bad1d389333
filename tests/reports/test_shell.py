"""The shell of every page: its size, its colours, and words that no file can hold."""

import re
from itertools import product

import pytest
from hostile import HOSTILE
from markupsafe import Markup
from test_page import Page

from winnow.reports import shell
from winnow.reports.colours import DARK, LIGHT
from winnow.reports.shell import Part, render, write_page

PICTURE = "data:image/webp;base64," + "A" * 1_000


def parts_with(pictures, words=""):
    def parts(allowance):
        shown = [allowance.admit(PICTURE) for _ in range(pictures)]
        images = Markup("").join(
            Markup('<img src="{}" alt="">').format(one) for one in shown if one
        )
        return [Part("a", "A", images + words)]

    return parts


def write(out, parts, **given):
    return write_page(out, **{"title": "t", "lead": "l", "parts": parts} | given)


def test_pictures_give_way_where_the_page_would_be_too_large(tmp_path, monkeypatch):
    bare = write(tmp_path / "p.html", parts_with(0)).stat().st_size
    monkeypatch.setattr(shell, "LARGEST", bare + 20_500)
    page = Page(write(tmp_path / "p.html", parts_with(30)))
    # Each is 1,023 characters and 20 of markup, and so is the line that says that some are missing.
    shown = len(page.of("img"))
    assert 15 <= shown <= 19
    assert f"{30 - shown} pictures are left out" in page.text
    assert len(page.source.encode()) <= shell.LARGEST
    assert "left out" not in Page(write(tmp_path / "p.html", parts_with(15))).text


def test_words_alone_may_be_more_and_leave_no_place_for_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(shell, "LARGEST", 10_000)
    page = Page(write(tmp_path / "p.html", parts_with(1, "x" * 20_000)))
    assert page.of("img") == []
    assert "1 picture is left out" in page.text


def test_words_that_no_file_can_hold_are_written_out(tmp_path):
    raw = Markup('<script type="application/json">["\ud800"]</script>')
    page = Page(write(tmp_path / "p.html", lambda _: [Part("a", "A", raw)], title="t\udcff"))
    assert "t⟨U+DCFF⟩" in page.text
    assert page.scripts[0] == '["\\ud800"]'


def test_the_contents_lead_to_every_part_and_words_there_are_text(tmp_path):
    parts = [Part("a", "A", Markup("")), Part("b", HOSTILE, Markup(""))]
    page = Page(write(tmp_path / "p.html", lambda _: parts, notes=[HOSTILE]))
    links = [a["href"] for a in page.of("a")]
    assert links == ["#main", "#a", "#b"]
    assert {a["id"] for _, a in page.tags if "id" in a} >= {"main", "a", "b"}
    assert page.text.count(HOSTILE) == 3
    assert page.open == []


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_as_wcag_defines_it():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_words_can_be_read_on_every_ground_and_curves_be_told_from_it(colours):
    words, grounds = ("ink", "soft", "faint", "good", "bad", "link"), ("page", "card", "wash")
    for word, ground in [*product(words, grounds), ("ink", "note"), ("ink", "mark")]:
        assert contrast(colours[word], colours[ground]) >= 4.5, (word, ground)
    for drawn, ground in product(("c0", "c1", "c2", "c3", "c4", "c5", "edge"), ("page", "card")):
        assert contrast(colours[drawn], colours[ground]) >= 3, (drawn, ground)


def test_every_colour_of_the_style_is_of_the_tables():
    style = str(render("style.css.j2"))
    named = set(re.findall(r"var\(--(\w+)\)", style))
    assert named - LIGHT.keys() == {"colour"}  # which each series sets
    assert LIGHT.keys() == DARK.keys()
    outside = re.sub(r"--\w+: #[0-9a-f]{6};", "", style)
    # Behind pictures that are see-through, and on paper.
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", outside)) == {"#fff"}
