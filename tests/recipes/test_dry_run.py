"""`winnow train RECIPE --dry-run`: builds and measures all, needs no data, leaves nothing."""

import re

import pytest

from winnow import cli
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.towers import Towers
from winnow.recipes.dry_run import ASSUMED_CONCEPTS
from winnow.types import Interrupted

TEXT = ["--model.text.layers", "1", "--runtime.device", "cpu"]
TOWERS = ["--model.image.image-size", "32", *TEXT]
SMALL = CustomTowers(
    embed_dim=256,
    image=VisionTransformer(image_size=32, patch_size=16, width=64, layers=1),
    text=TextTransformer(context_length=12, width=128, heads=2, layers=1),
)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(text, row):
    """What stands in the second column of a row."""
    (value,) = re.findall(rf"^ +{re.escape(row)} +(\S.*?)(?:   .*)?$", text, re.MULTILINE)
    return value


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(nowhere, capsys):
    vision = ["model.image:vision-transformer", "--model.image.image-size", "32"]
    vision += ["--model.image.patch-size", "16", "--model.image.width", "64"]
    arguments = ["--dry-run", "--steps", "1000", "--model.image.layers", "1", *TEXT]
    assert cli.run(["train", "tiny", *vision, *arguments]) == 0
    text = capsys.readouterr().out
    parameters = sum(parameter.numel() for parameter in Towers(SMALL).parameters())
    assert found(text, "parameters") == f"{parameters / 1e6:,.1f} M"
    assert found(text, "exported model") == f"{4 * parameters / 1e9:,.2f} GB"
    assert found(text, "checkpoints at once") == f"{3 * 12 * parameters / 1e9:,.2f} GB"
    assert "a batch of 256 in 1; resident in" in text
    assert "1,000 steps that never wait" in text
    assert list(nowhere.iterdir()) == []


def test_a_folder_that_is_named_is_not_made(nowhere):
    arguments = ["--data", "nothing-there", "--out", "run", "--batch-size", "4", *TOWERS]
    assert cli.run(["train", "tiny", "--dry-run", *arguments]) == 0
    assert list(nowhere.iterdir()) == []


def test_heads_without_a_teacher_are_as_large_as_they_get(nowhere, capsys):
    arguments = ["train", "tiny", "--dry-run", "--batch-size", "4", *TOWERS]
    assert cli.run([*arguments, "concept-distillation:concept-distillation"]) == 0
    text = capsys.readouterr().out
    towers = float(found(text, "exported model").removesuffix(" GB")) / 4 * 1e3
    heads = sum(ASSUMED_CONCEPTS.values()) * 257 / 1e6
    assert float(found(text, "parameters").removesuffix(" M")) == pytest.approx(
        towers + heads, abs=1.5
    )
    assert "assumed: --concepts names" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--runtime.device", "nowhere"], "the device 'nowhere' cannot be used here"),
        (["--model.image.name", "resnet18", "--micro-batches", "2"], "batch normalisation"),
        (["--batch-size", "0"], "must be at least 1"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(changes, says, nowhere, capsys):
    assert cli.run(["train", "tiny", "--dry-run", *changes]) == 2
    assert says in capsys.readouterr().err
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize(
    ("stop", "status"), [(KeyboardInterrupt(), 130), (Interrupted("at once", 15), 143)]
)
def test_one_that_is_stopped_has_nothing_to_go_on_from(stop, status, nowhere, monkeypatch, capsys):
    def stopped(*_, **__):
        raise stop

    monkeypatch.setattr("winnow.recipes.dry_run.measure_capacity", stopped)
    assert cli.run(["train", "tiny", "--dry-run", "--runtime.device", "cpu"]) == status
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "winnow: stopped; a dry run keeps nothing, and the same command begins anew"
