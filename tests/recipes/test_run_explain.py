import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from winnow.curation.annotate import annotate
from winnow.curation.rule_specs import read_rules
from winnow.curation.select import select
from winnow.data.sources import open_source
from winnow.recipes.explain import Explain, run_explain
from winnow.recipes.report import Report, run_report
from winnow.reports.marks import OFFENDING
from winnow.types import InputError


def said(options):
    console = Console(width=120, file=io.StringIO(), soft_wrap=True)
    run_explain(options, say=console.print)
    return console.file.getvalue()


@pytest.fixture
def sign(tmp_path):
    picture = Image.new("RGB", (480, 240), "white")
    font = ImageFont.load_default(56)
    ImageDraw.Draw(picture).text((40, 80), "SUMMER SALE", font=font, fill="black")
    picture.save(tmp_path / "sign.png")
    return tmp_path / "sign.png"


@pytest.fixture
def curated(shards, tmp_path):
    out = tmp_path / "curated"
    annotate(open_source(str(shards)), out, workers=1)
    for name in ("clean", "none"):
        select(out, read_rules([name]), name=name)
    return out


@pytest.mark.slow  # loads the parser and the spotter
def test_a_picture_of_ones_own_is_explained_and_drawn(sign, tmp_path):
    png = tmp_path / "out" / "boxes.png"
    words = said(Explain(image=sign, text="A woman holds a sign of the summer sale", png=png))
    assert "woman: 1" in words
    assert "hold -> sign" in words
    assert "1 'SUMMER SALE'" in words
    assert 'clean cat: dropped, text-in-caption: "summer sale"' in words
    assert "complexity 2, kept from 1" in words
    drawn = np.asarray(Image.open(png))
    red = tuple(int(OFFENDING[i : i + 2], 16) for i in (1, 3, 5))
    rows, columns = np.nonzero((drawn == red).all(axis=2))
    # Around the words, which the picture was not marked with before.
    assert columns.min() in range(20, 50)
    assert columns.max() in range(380, 470)
    assert rows.max() in range(110, 160)


def test_a_pair_of_a_folder_is_explained_by_every_selection(curated, monkeypatch, tmp_path):
    monkeypatch.setattr("winnow.recipes.explain._annotators", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    words = said(Explain(pair=(str(curated), "000000003")))
    assert "a picture of thing number 3" in words
    assert "40 x 40 pixels, png" in words
    assert "row 3 of 00000" in words
    assert "selection clean: kept" in words
    assert "selection none: kept" in words
    one = said(Explain(pair=(str(curated), "000000003"), selection="none"))
    assert "selection clean" not in one
    assert not list(tmp_path.glob("*.png"))  # no text was looked for, and no picture asked for


def test_a_selection_that_cannot_be_read_leaves_the_others(curated, monkeypatch):
    monkeypatch.setattr("winnow.recipes.explain._annotators", lambda *_: [])
    (curated / "selections" / "none" / "summary.json").write_text("{}")
    words = said(Explain(pair=(str(curated), "000000003")))
    assert "selection none is left out:" in words
    assert "selection clean: kept" in words
    with pytest.raises(InputError, match=r"summary\.json"):
        said(Explain(pair=(str(curated), "000000003"), selection="none"))


def test_the_page_shows_what_the_rules_measure(curated, tmp_path, monkeypatch):
    monkeypatch.chdir(curated / "selections")
    page = tmp_path / "report.html"
    run_report(Report(runs=(), selection=Path("clean"), tasks=(), out=page))
    source = page.read_text()
    assert "Not everything is shown" not in source
    assert "the rule asks all pairs" in source


def test_scraped_words_do_not_command_the_terminal(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("winnow.recipes.explain._annotators", lambda *_: [])
    picture = tmp_path / "\x1b[31m.png"
    Image.new("RGB", (60, 60)).save(picture)
    words = said(Explain(image=picture, text="[red]not red[/] \x1b]0;title\x07 a\u202eb\nkept"))
    assert "\x1b" not in words
    assert "\x07" not in words
    assert "\u202e" not in words
    assert "[red]not red[/]" in words


@pytest.mark.parametrize(
    "options",
    [
        Explain(),
        Explain(pair=("curated",)),
        Explain(pair=("curated", "key"), text="a caption"),
    ],
)
def test_what_is_to_be_explained_has_to_be_said(options):
    with pytest.raises(InputError, match="takes DIR and a UID or KEY, or else --image"):
        said(options)
