"""The command line as a user meets it: in a process of its own where that matters."""

import json
import subprocess
import sys

import pytest

from winnow import cli
from winnow.types import InputError, Interrupted


def test_help_lists_every_verb_and_loads_nothing_heavy():
    script = (
        "import sys; from winnow.cli import run; run(['--help']); "
        "print([m for m in ('torch', 'open_clip', 'pyarrow', 'PIL', 'tyro') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)
    assert done.stdout.rstrip().endswith("[]")


def test_curating_does_not_load_torch():
    script = "import sys, winnow.recipes.data; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_an_unknown_verb_names_the_known_ones(capsys):
    assert cli.run(["trian"]) == 2
    verbs = "demo, curate, sweep, explain, materialise, concepts, doctor, train, ablate, evaluate, "
    verbs += "audit, tasks, compare, robustness, report, explore, export, push"
    assert verbs in capsys.readouterr().err


def test_a_selection_alone_has_a_page_and_nothing_has_none(shards, tmp_path, capsys):
    curated, page = tmp_path / "curated", tmp_path / "page.html"
    assert cli.run(["curate", str(shards), "--out", str(curated), "--workers", "1"]) == 0
    selection = ["--selection", str(curated / "selections" / "clean")]
    assert cli.run(["report", *selection, "--out", str(page)]) == 0
    assert "caption-repeated" in page.read_text()
    assert cli.run(["report"]) == 2
    assert "there is nothing to report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (InputError("shard 3 is empty: leave it out"), 2, "winnow: shard 3 is empty: leave it out"),
        (Interrupted("saved at step 5", 15), 143, "winnow: saved at step 5"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
)
def test_what_stops_a_command_is_one_sentence_and_a_status(
    raised, status, says, monkeypatch, capsys
):
    def verb(arguments):
        raise raised

    monkeypatch.setitem(cli.VERBS, "demo", verb)
    assert cli.run(["demo"]) == status
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["siglipp"], "there is no recipe 'siglipp': did you mean siglip?"),
        (["qqqq"], "there is no recipe 'qqqq': `winnow train --help` lists them"),
        (["--data", "x"], "the recipe's name comes before --data: `winnow train --help` lists"),
    ],
)
def test_an_unknown_recipe_is_one_sentence_with_the_nearest(arguments, says, capsys):
    assert cli.run(["train", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"winnow: {says}")


def test_an_unknown_field_is_an_error_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(["train", "psd", "--data", "x", "--out", "y", "--objective.final-shore", "1"])
    assert stop.value.code == 2
    assert "--objective.final-share" in capsys.readouterr().err


def test_objective_bias_and_mask_are_set_from_the_command_line(monkeypatch, tmp_path):
    trained = []
    monkeypatch.setattr("winnow.recipes.train.open_selection", lambda data, index: data)
    monkeypatch.setattr(
        "winnow.recipes.train.train", lambda recipe, *_, **__: trained.append(recipe)
    )
    data = ["--data", "x", "--out", str(tmp_path)]
    towers = ["--model.logit-bias", "-10", "--model.logit-scale", "2.303"]
    siglip = ["--mask.same-caption", *towers, "objective:sig-lip"]
    both = ["objective:hard-negative-self-distillation", "--objective.negatives.beta", "0.5"]
    both += ["--objective.targets.final-share", "0.4"]
    assert cli.run(["train", "tiny", *data, *siglip]) == 0
    assert cli.run(["train", "hn_psd", *data, *both]) == 0
    assert type(trained[0].objective).__name__ == "SigLIP"
    assert (trained[0].model.logit_bias, trained[0].model.logit_scale) == (-10.0, 2.303)
    assert (trained[0].mask.same_caption, trained[0].mask.same_image) == (True, False)
    assert trained[1].objective.negatives.beta == 0.5
    assert trained[1].objective.targets.final_share == 0.4


def test_curate_train_evaluate_report_from_the_command_line(
    evaluation_set, shards, tmp_path, capsys
):
    """The road end to end, on real shards, with fields overridden."""
    curated, run = tmp_path / "curated", tmp_path / "run"
    assert cli.run(["curate", str(shards), "--out", str(curated), "--workers", "1"]) == 0
    assert "= kept" in capsys.readouterr().out
    overrides = ["--steps", "2", "--batch-size", "4", "--runtime.workers", "0"]
    towers = ["--model.image.image-size", "32", "--model.text.layers", "1"]
    rule = ["objective:progressive-self-distillation", "--objective.final-share", "0.4"]
    data = ["--data", str(curated), "--out", str(run)]
    assert cli.run(["train", "tiny", *data, *overrides, *towers, *rule]) == 0
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["objective"]["kind"] == "ProgressiveSelfDistillation"
    assert (recipe["objective"]["final_share"], recipe["steps"]) == (0.4, 2)
    assert cli.run(["evaluate", str(run), "--tasks", str(evaluation_set)]) == 0
    rows = [json.loads(row) for row in (run / "evaluation/results.jsonl").read_text().splitlines()]
    assert {row["metric"] for row in rows if row["protocol"] == "zero-shot"} >= {"top1"}
    page = tmp_path / "page.html"
    options = ["--tasks", str(evaluation_set), "--selection", str(curated / "selections/clean")]
    assert cli.run(["report", str(run), "--out", str(page), *options]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_raw_shards_are_indexed_and_trained_on(shards, tmp_path):
    overrides = ["--steps", "1", "--batch-size", "4", "--runtime.workers", "0"]
    out = ["--out", str(tmp_path / "run")]
    assert cli.run(["train", "tiny", "--data", str(shards), *out, *overrides]) == 0
    assert json.loads((tmp_path / "run" / "data.json").read_text())["pairs"] == 12
