from pathlib import Path

import pytest
from result_rows import measured
from rich.console import Console

from winnow.evaluation.results import write_results
from winnow.recipes.robustness import Robustness, run_robustness
from winnow.types import InputError


def write(folder, model, **accuracies):
    rows = [measured(model, task=task, value=value, n=10_000) for task, value in accuracies.items()]
    write_results(folder, rows)
    return folder


@pytest.fixture
def run(tmp_path):
    """OpenAI CLIP ViT-B/32's accuracies, and two sets of one's own."""
    accuracies = {"imagenet1k": 0.6330, "imagenetv2": 0.5577, "imagenet_sketch": 0.4237}
    folder = tmp_path / "run" / "evaluation"
    return write(folder, "clip", **accuracies, photos=0.7, icons=0.5).parent


def said_by(options):
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    run_robustness(options, say=console.print)
    return console.export_text()


def test_published_lines_are_met_where_both_sets_were_measured(run):
    text = said_by(Robustness(runs=(run,)))
    rows = [line.split() for line in text.splitlines() if " clip " in line]
    assert rows == [
        ["clip", "63.3", "55.8", "50.4", "+5.4", "±", "1.3"],
        ["clip", "63.3", "42.4", "14.4", "+28.0", "±", "1.1"],
    ]
    assert "imagenetv2: logit y = 0.9114 logit x -0.4813" in text
    assert "n = 85" in text and "x 57.0 to 85.0 %" in text
    assert "imagenet-a" not in text


def test_a_model_on_the_line_is_no_negative_zero_beyond_it(run, tmp_path):
    """It is 0.03 points below what is expected of it; two baselines leave no residual for a ±."""
    one = write(tmp_path / "one", "one", photos=0.7, icons=0.5003)
    two = write(tmp_path / "two", "two", photos=0.3, icons=0.2)
    options = {"in_distribution": "photos", "shift": ("icons",), "baseline": (one, two)}
    text = said_by(Robustness(runs=(run,), **options))
    (row,) = [line.split() for line in text.splitlines() if " clip " in line]
    assert row[1:] == ["70.0", "50.0", "50.0", "+0.0"]


def test_own_baselines_give_the_line(run, tmp_path):
    one = write(tmp_path / "one", "one", photos=0.3, icons=0.2)
    two = write(tmp_path / "two", "two", photos=0.5, icons=0.4)
    options = {"runs": (run,), "in_distribution": "photos", "shift": ("icons",)}
    text = said_by(Robustness(**options, baseline=(one, two)))
    (row,) = [line for line in text.splitlines() if " clip " in line]
    assert row.split()[-1] == "extrapolated"
    assert "least squares on 2 baseline models" in text
    assert "only 2 baseline models" in text and "so there is no ±" in text
    assert "±" not in row
    three = write(tmp_path / "three", "three", photos=0.8, icons=0.6)
    text = said_by(Robustness(**options, baseline=(one, two, three)))
    assert "least squares on 3 baseline models" in text
    assert "extrapolated" not in text and "only" not in text
    (row,) = [line.split() for line in text.splitlines() if " clip " in line]
    assert row[4:] == ["−1.5", "±", "55.1"]


def test_baselines_alone_refit_the_published_pairs(run, tmp_path):
    one = write(tmp_path / "one", "one", imagenet1k=0.3, imagenetv2=0.25)
    two = write(tmp_path / "two", "two", imagenet1k=0.7, imagenetv2=0.6)
    text = said_by(Robustness(runs=(run,), baseline=(one, two)))
    assert "imagenetv2: logit y" in text
    assert "imagenet_sketch" not in text


def test_the_plot_has_the_models_and_the_line(run, tmp_path):
    one = write(tmp_path / "one", "one", photos=0.3, icons=0.2)
    two = write(tmp_path / "two", "two", photos=0.5, icons=0.4)
    out = tmp_path / "plot.svg"
    options = {"in_distribution": "photos", "shift": ("icons",), "baseline": (one, two)}
    said_by(Robustness(runs=(run,), **options, out=out))
    drawn = out.read_text()
    assert "clip: 70.0 → 50.0 %" in drawn
    assert "one: 30.0 → 20.0 %" in drawn
    assert "least squares on 2 baseline models" in drawn
    said_by(Robustness(runs=(run,), out=out))
    assert {path.name for path in tmp_path.glob("plot-*.svg")} == {
        "plot-imagenetv2.svg",
        "plot-imagenet_sketch.svg",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shift": ("icons",), "in_distribution": "photos"}, "no line is published from photos"),
        ({"in_distribution": "photos"}, "name what is with --shift"),
        (
            {"in_distribution": "photos", "shift": ("icons", "wds_Photos")},
            "wds_Photos is the set without a shift",
        ),
        ({"shift": ("imagenet",)}, "imagenet is the set without a shift"),
        ({"shift": ("objectnet",)}, "no model was measured both with and without a shift"),
        ({"out": "plot.png"}, "no .svg file"),
    ],
)
def test_what_cannot_be_done_is_said(run, options, says):
    if "out" in options:
        options = {"out": Path(options["out"])}
    with pytest.raises(InputError, match=says):
        said_by(Robustness(runs=(run,), **options))


def test_runs_and_enough_baselines_are_asked_for(run, tmp_path):
    with pytest.raises(InputError, match="there is no model"):
        Robustness(runs=())
    one = write(tmp_path / "one", "one", photos=0.3, icons=0.2)
    options = {"runs": (run,), "in_distribution": "photos", "shift": ("icons",)}
    with pytest.raises(InputError, match="at least 2 different accuracies, and there is only 1"):
        said_by(Robustness(**options, baseline=(one,)))
    with pytest.raises(InputError, match="no baseline model was measured on ImageNet and one"):
        said_by(Robustness(runs=(run,), baseline=(one,)))
