"""`winnow report`: examples from sets in every layout, and robustness under the runs' names."""

import io
import json
import re

import pytest
import torch
from PIL import Image
from result_rows import measured

from winnow.data.images import View
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import evaluate
from winnow.evaluation.results import read_results, write_results
from winnow.evaluation.sets import evaluation_set as sets
from winnow.evaluation.shifts import effective_robustness_rows
from winnow.recipes.report import Report, run_report, shown_sets
from winnow.recipes.robustness import plots_for
from winnow.reports.examples import read_examples
from winnow.reports.runs import read_runs
from winnow.types import InputError

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


class ColourEncoder:
    """A picture is its mean colour, a text that of the colour it names."""

    name = fingerprint = "colour"
    precision = "fp32"
    view = View(8)
    logit_scale = 100.0

    def encode_image(self, image_BCHW):
        return image_BCHW.float().mean(dim=(2, 3)) - 80

    def encode_text(self, texts):
        named = [next(rgb for name, rgb in COLOURS.items() if name in text) for text in texts]
        return torch.tensor(named, dtype=torch.float32) - 80


def png(colour, *, size=12):
    file = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(file, "png")
    return file.getvalue()


@pytest.fixture
def places(tmp_path):
    """A set in each of three layouts: class folders with one split "val", statements, captions."""
    for number, colour in enumerate(COLOURS):
        folder = tmp_path / "folders" / "val" / colour
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(png(colour, size=12 + number))
    asked, listed = tmp_path / "asked", tmp_path / "listed"
    for folder in (asked, listed):
        (folder / "images").mkdir(parents=True)
        for colour in COLOURS:
            (folder / "images" / f"{colour}.png").write_bytes(png(colour))
    lines = [
        {"image": f"images/{name}.png", "statements": ["it is red", "it is green"], "answer": n}
        for n, name in enumerate(["red", "green"])
    ]
    (asked / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    images = [
        {
            "filename": f"{name}.png",
            "split": "test",
            "sentences": [{"raw": f"{word} {name}"} for word in ("all", "a")],
        }
        for name in COLOURS
    ]
    (listed / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return {"folders": tmp_path / "folders", "asked": asked, "listed": listed}


@pytest.fixture
def run(tmp_path, places):
    """A model that was measured on all of them."""
    folder = tmp_path / "run"
    out = folder / "evaluation"
    evaluate(Embedder(encoder=ColourEncoder(), cache=out / "embeddings"), places, out)
    (folder / "recipe.json").write_text("{}")
    return folder


def test_sets_of_every_layout_are_shown_with_the_split_that_was_measured(run, places):
    runs = read_runs([run])
    examples, problems = read_examples(runs, shown_sets(places, runs))
    assert problems == []
    folders, asked, listed = examples
    assert (folders.n, folders.num_some_right) == (3, 3)
    assert {shown.title for shown in folders.some_right} == COLOURS.keys()
    assert (asked.n, asked.num_some_right) == (2, 2)
    assert {shown.title for shown in asked.some_right} == {"it is red", "it is green"}
    assert (listed.n, len(listed.found)) == (0, 2)
    for query in listed.found:
        ((first, *others),) = query.answers
        assert first.name == f"{query.title.split()[1]}.png"
        assert [first.is_right, *(one.is_right for one in others)] == [True, False, False]
    pictures = [shown.picture for one in (folders, asked) for shown in one.some_right]
    assert all(picture.startswith("data:image/webp;base64,") for picture in pictures)


def test_what_the_evaluation_has_checked_is_not_checked_again(run, places, monkeypatch):
    monkeypatch.setattr(sets, "read_through", lambda *_, **__: pytest.fail("read again"))
    runs = read_runs([run])
    examples, problems = read_examples(runs, shown_sets(places, runs))
    assert (len(examples), problems) == (3, [])


def test_sets_that_are_gone_or_broken_are_lines(run, places, tmp_path):
    places["folders"].rename(tmp_path / "elsewhere")
    (places["asked"] / "images" / "red.png").unlink()
    images = places["listed"] / "images"
    (images / "red.png").write_bytes(b"")
    out = tmp_path / "page.html"
    tasks = tuple(map(str, places.values()))
    assert run_report(Report(runs=(run,), tasks=tasks, out=out)) == out
    lines = re.findall(r"No examples of (\w+): ([^<]*)", out.read_text())
    assert [name for name, _ in lines] == ["folders", "asked", "listed"]
    assert "does not exist" in lines[0][1]
    assert "red.png" in lines[1][1]
    assert "empty picture" in lines[2][1]


def accuracies(folder, model, **values):
    """A run that was measured zero-shot, 1,000 pictures a set."""
    rows = [measured(model, task=task, value=value) for task, value in values.items()]
    write_results(folder / "evaluation", rows)
    return folder


@pytest.fixture
def clips(tmp_path):
    """Two runs of the same weights, and one that was not measured under a shift."""
    both = {"imagenet1k": 0.6330, "imagenetv2": 0.5577}
    return [
        accuracies(tmp_path / "one", "clip", **both, photos=0.7, icons=0.5),
        accuracies(tmp_path / "none", "clip", imagenet1k=0.5),
        accuracies(tmp_path / "two", "clip", **both, imagenet_sketch=0.4237),
    ]


def test_published_shifts_have_the_runs_under_their_names(clips):
    plots = plots_for(read_runs(clips))
    shown = {plot.shift: [(p.label, p.x, p.y, p.kind) for p in plot.points] for plot in plots}
    assert shown == {
        "imagenetv2": [("one", 0.6330, 0.5577, "run"), ("two", 0.6330, 0.5577, "run")],
        "imagenet_sketch": [("two", 0.6330, 0.4237, "run")],
    }
    above = plots[0].points[0].y - plots[0].points[0].expected
    assert 100 * above == pytest.approx(5.4, abs=0.05)
    assert (plots[0].points[0].x_low, plots[0].points[0].x_high) == pytest.approx(
        (0.6027, 0.6623), abs=1e-4
    )


def test_the_page_has_them_in_the_runs_colours(clips, tmp_path):
    out = tmp_path / "page.html"
    run_report(Report(runs=tuple(clips), tasks=(), out=out))
    dots = re.findall(
        r'class="dot (c\d)"[^>]*><title>(\w+): ([\d.]+) → ([\d.]+) %', out.read_text()
    )
    assert dots == [
        ("c0", "one", "63.3", "55.8"),
        ("c2", "two", "63.3", "55.8"),
        ("c2", "two", "63.3", "42.4"),
    ]


def test_a_line_of_ones_own_goes_through_the_baselines(clips, tmp_path):
    models = (
        accuracies(tmp_path / "m1", "m1", photos=0.3, icons=0.2),
        accuracies(tmp_path / "m2", "m2", photos=0.5, icons=0.4),
    )
    options = {"in_distribution": "photos", "shift": ("icons",), "baseline": models}
    (plot,) = plots_for(read_runs(clips), **options)
    assert [(p.label, p.kind) for p in plot.points] == [
        ("m1", "baseline"),
        ("m2", "baseline"),
        ("one", "run"),
    ]
    assert [point.expected for point in plot.points[:2]] == pytest.approx([0.2, 0.4])
    assert [point.extrapolated for point in plot.points] == [False, False, True]
    out = tmp_path / "page.html"
    run_report(Report(runs=tuple(clips), tasks=(), out=out, **options))
    assert "least squares on 2 baseline models" in out.read_text()


def test_without_results_there_is_no_plot_and_no_error(tmp_path, run):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "recipe.json").write_text("{}")
    assert plots_for(read_runs([tmp_path / "new", run])) == []
    assert plots_for([]) == []


def test_the_page_expects_what_the_results_say(tmp_path):
    """Every one of 1,000 is right, so x is taken at 1000.5 / 1001; a baseline has none."""
    folder = accuracies(tmp_path / "all", "all", imagenet1k=1.0, imagenetv2=0.9)
    (plot,) = plots_for(read_runs([folder]))
    (point,) = plot.points
    (row,) = effective_robustness_rows(read_results(folder / "evaluation"))
    assert (point.expected, point.extrapolated) == (pytest.approx(0.99842, abs=1e-5), True)
    assert (row.settings["expected"], row.settings["extrapolated"]) == (point.expected, True)
    models = (
        accuracies(tmp_path / "m1", "m1", imagenet1k=0.0, imagenetv2=0.1),
        accuracies(tmp_path / "m2", "m2", imagenet1k=0.5, imagenetv2=0.4),
    )
    (plot,) = plots_for(read_runs([folder]), baseline=models)
    assert plot.points[0].expected == pytest.approx(0.1)
    out = run_report(Report(runs=(folder,), tasks=(), out=tmp_path / "page.html"))
    assert "all: 100.0 → 90.0 %, 9.8 points below the line (extrapolated)" in out.read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"in_distribution": "photos"}, "name what is with --shift"),
        ({"in_distribution": "photos", "shift": ("icons",)}, "no line is published from photos"),
    ],
)
def test_what_cannot_be_drawn_is_said(clips, options, says):
    with pytest.raises(InputError, match=says):
        plots_for(read_runs(clips), **options)
