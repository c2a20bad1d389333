"""`winnow export`: whole or not at all, from a run with its data and results."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image
from result_rows import measured

from winnow import cli
from winnow.data.selection import Selection
from winnow.evaluation.results import write_results
from winnow.models import CustomTowers, TextTransformer, TimmImageTower, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.models.exporting import hugging_face
from winnow.models.towers import Towers
from winnow.recipes.data import Curate, run_curate
from winnow.recipes.export import Export, run_export
from winnow.recipes.export_folder import LIST_FILE, whole_export
from winnow.types import InputError

TEXT = TextTransformer(context_length=12, width=32, heads=2, layers=1)
SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TEXT,
)
RECIPE = {
    "objective": {"kind": "HardNegativeNCE", "alpha": 1.0, "beta": 0.25},
    "model": {"kind": "CustomTowers", "embed_dim": 16, "weights": "openai:/home/me/ViT-B-32.pt"},
    "batch_size": 4,
    "steps": 30,
    "optimizer": {"kind": "AdamW", "learning_rate": 0.001},
    "average": None,
    "runtime": {"workers": 2, "cache": "/scratch/me"},
    "notes": ["/home/me/notes", "<img src=x onerror=alert(1)> | [x](http://evil.example)"],
}


@pytest.fixture(scope="module")
def home(shards, tmp_path_factory):
    """A run on a selection of two pairs out of twelve, and what was measured of it."""
    home = tmp_path_factory.mktemp("export")
    rule = "caption-length:min_characters=28"
    options = Curate(shards=(str(shards),), out=str(home / "curated"), rules=(rule,), workers=1)
    curated = run_curate(options, say=lambda _: None)
    selection = Selection.open(curated.folder.path)
    run = home / "clip[run]"
    torch.manual_seed(0)
    Towers(SMALL).export(run / "model")
    (run / "recipe.json").write_text(json.dumps(RECIPE))
    facts = {"selection": str(selection.directory), "fingerprint": selection.fingerprint}
    (run / "data.json").write_text(json.dumps(facts | {"pairs": len(selection)}))
    weights = load_encoder(str(run)).fingerprint
    rows = [measured(weights, model="r", task="things|<b>", value=0.5, low=0.25, high=0.75, n=40)]
    write_results(run / "evaluation", rows)
    return home


@pytest.fixture(scope="module")
def run(home):
    return home / "clip[run]"


def export(model, out, *formats, **options):
    said = []
    formats = formats or ("open-clip",)
    run_export(Export(model=str(model), out=out, formats=formats, **options), say=said.append)
    return said


@pytest.fixture(scope="module")
def exported(run, home):
    out = home / "exported"
    export(run, out, "open-clip", "hugging-face", license="apache-2.0")
    return out


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_model_gives_the_same_files_and_each_format_says_how_near_it_is(
    run, exported, tmp_path
):
    said = export(run, tmp_path / "out", "open-clip", "hugging-face", license="apache-2.0")
    assert tree(tmp_path / "out") == tree(exported)
    assert [line.partition(":")[0] for line in said] == ["open-clip", "hugging-face"]
    assert said[0] == "open-clip: loaded back, at most 0.0e+00 from the model"
    listed = whole_export(tmp_path / "out")
    assert listed.formats == ("open-clip", "hugging-face")
    assert sorted(listed.files) == sorted(tree(tmp_path / "out").keys() - {LIST_FILE})
    assert {(tmp_path / "out" / name).stat().st_mode & 0o777 for name in listed.files} == {
        (tmp_path / "out" / "README.md").stat().st_mode & 0o777
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_of_an_export_is_the_same_model(run, exported, tmp_path):
    export(f"local-dir:{exported}", tmp_path / "second")
    weights = "open_clip_model.safetensors"
    assert (tmp_path / "second" / weights).read_bytes() == (exported / weights).read_bytes()


def test_the_card_has_the_hub_s_metadata(exported):
    card = (exported / "README.md").read_text()
    _, metadata, _ = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "open_clip",
        "license": "apache-2.0",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "open_clip", "transformers", "winnow"],
    }


def lines_of(card):
    return card.read_text().splitlines()


def test_the_card_tells_recipe_funnel_and_results(exported):
    lines = lines_of(exported / "README.md")
    assert "30 steps of 4 pairs: 120 pairs were seen." in lines
    for line in (
        "| objective | HardNegativeNCE |",
        "| objective.beta | 0.25 |",
        "| optimizer.learning\\_rate | 0.001 |",
        "| average | none |",
        "| seen | 12 | 100.0% |",
        "| dropped: caption-too-short | 10 | 83.3% |",
        "| dropped: caption-too-long | 0 | 0.0% |",
        "| kept | 2 | 16.7% |",
        "| things\\|&lt;b&gt; (test) | zero-shot | top-1 | 50.0% | 25.0% to 75.0% | 0.1% | 40 |",
    ):
        assert line in lines
    settings = "min\\_words 1, min\\_characters 28, max\\_words 256"
    assert f"| caption-length | {settings} |" in lines


def test_the_card_leaks_no_path_and_lets_no_word_act(exported, home):
    card = (exported / "README.md").read_text()
    for word in (str(home), "/home/me", "/scratch", "runtime", "<img", "<b>", "](http://evil"):
        assert word not in card
    assert "# clip\\[run\\]" in card
    assert "| model.weights | openai:ViT-B-32.pt |" in card
    assert str(home) not in (exported / LIST_FILE).read_text()


def test_the_card_s_own_examples_run(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 30), 50).convert("RGB").save("picture.jpg")
    examples = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example.replace("FOLDER", str(exported)), "card", "exec"), {})  # noqa: S102


def test_without_a_run_the_card_says_what_it_does_not_know(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "theirs")
    export(f"local-dir:{tmp_path / 'theirs'}", tmp_path / "out")
    lines = lines_of(tmp_path / "out" / "README.md")
    assert "# local-dir:theirs" in lines
    assert "- How the model was trained, and on what." in lines
    assert "- A license: none was stated. Ask whoever published this." in lines
    assert "None were measured of these weights." in lines
    assert not any(line.startswith("license:") for line in lines)


def test_numbers_of_other_weights_are_left_out(run, tmp_path):
    results = tmp_path / "results"
    write_results(results, [measured("other", task="else")])
    export(run, tmp_path / "out", results=results)
    lines = lines_of(tmp_path / "out" / "README.md")
    assert "1 numbers of other weights are left out." in lines
    assert not any("else" in line for line in lines if line.startswith("|"))


def test_a_selection_that_changed_is_not_told_of(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    facts = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps(facts | {"fingerprint": "another"}))
    export(copy, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "It is no longer there as it was" in card
    assert "| seen |" not in card


def test_sources_of_a_mixture_and_weights_of_an_earlier_step_are_told_of(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    facts = json.loads((copy / "data.json").read_text())
    gone = {"selection": "/data/gone", "fingerprint": "f", "pairs": 7}
    mixture = {"fingerprint": "m", "sources": [{"name": "a"} | facts, gone]}
    (copy / "data.json").write_text(json.dumps(mixture))
    (copy / "model").rename(copy / "best")
    export(copy / "best", tmp_path / "out")
    lines = lines_of(tmp_path / "out" / "README.md")
    assert [line for line in lines if line.startswith("Selection ")] == [
        f"Selection {facts['selection'].rpartition('/')[2]}: 2 pairs.",
        "Selection gone: 7 pairs.",
    ]
    assert "The weights are those in best, perhaps of an earlier step." in lines


def test_an_export_replaces_an_export(run, exported, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    export(run, out)
    assert not (out / "config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["README.md", "notes.txt", "onnx/mine.txt"])
def test_nobody_s_own_file_goes(name, run, exported, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    (out / "onnx").mkdir()
    (out / name).write_text("mine")
    before = tree(out)
    with pytest.raises(InputError, match=f"{name} in .* was changed or put there"):
        export(run, out)
    assert tree(out) == before


def test_a_folder_that_no_export_wrote_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="holds something that no export wrote"):
        export(run, run)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is no folder"):
        export(run, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    export(run, tmp_path / "empty")
    whole_export(tmp_path / "empty")


def test_what_differs_from_the_model_is_refused_and_leaves_nothing(
    run, exported, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    before = tree(out)
    written = hugging_face.clip_weights

    def off(clip):
        return {name: value * 1.001 for name, value in written(clip).items()}

    monkeypatch.setattr(hugging_face, "clip_weights", off)
    with pytest.raises(InputError, match="the hugging-face export is not the model"):
        export(run, out, "open-clip", "hugging-face")
    assert tree(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_format_cannot_hold_is_refused_with_what_can(tmp_path):
    towers = CustomTowers(
        embed_dim=16, image=TimmImageTower(name="resnet10t", image_size=32), text=TEXT
    )
    Towers(towers).export(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"cannot be exported as hugging-face.*timm_model_name"
    ) as e:
        export(tmp_path / "model", tmp_path / "out", "open-clip", "hugging-face")
    assert str(e.value).endswith("It can be as open-clip and onnx")
    assert not (tmp_path / "out").exists()
    export(tmp_path / "model", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert config["model_cfg"]["vision_cfg"]["timm_model_pretrained"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ()}, "--format names none of open-clip, hugging-face, onnx"),
        ({"formats": ("onnx", "onnx")}, "--format names a format twice: onnx onnx"),
        ({"license": "My Own"}, "--license 'My Own' is no identifier of the Hub"),
        ({"results": "nowhere"}, "there are no results in nowhere"),
    ],
)
def test_bad_options_are_one_sentence(options, message, run, tmp_path):
    if "results" in options:
        options = {"results": tmp_path / "nowhere"}
        message = f"there are no results in {tmp_path / 'nowhere'}"
    with pytest.raises(InputError, match=re.escape(message)):
        run_export(Export(model=str(run), out=tmp_path / "o", **options), say=lambda _: None)
    assert not (tmp_path / "o").exists()


def test_a_library_that_is_missing_is_named_before_anything_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    find = "winnow.recipes.export.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: None if name == "transformers" else name)
    with pytest.raises(
        InputError, match=r"needs transformers: pip install 'winnow-clip\[export\]'"
    ):
        export("nowhere", tmp_path / "out", "hugging-face")


def test_the_command_exports_and_complains_in_one_line(run, tmp_path, capsys):
    assert cli.run(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith(f"export: {tmp_path / 'out'}\n")
    assert cli.run(["export", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_kill_leaves_no_half_of_an_export(run, tmp_path):
    """Killed while it writes; the next export sweeps what was left and is whole."""
    out = tmp_path / "out"
    code = (
        "import os, signal\n"
        "from winnow import cli\n"
        "from winnow.models.exporting import open_clip_folder\n"
        "open_clip_folder.differences = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"cli.run(['export', {str(run)!r}, '--out', {str(out)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert done.returncode == -9
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1
    export(run, out)
    whole_export(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_all_three_formats_share_a_folder(run, tmp_path):
    out = tmp_path / "out"
    said = export(run, out, "open-clip", "hugging-face", "onnx")
    assert len(said) == 3
    card = (out / "README.md").read_text()
    (example,) = [e for e in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnx" in e]
    found = {}
    exec(compile(example.replace("FOLDER", str(out)), "card", "exec"), found)  # noqa: S102
    assert (found["image"].shape, found["text"].shape) == ((1, 16), (2, 16))
    export(run, out, "onnx")
    assert sorted(path.name for path in (out / "onnx").iterdir()) == [
        "text_model.onnx",
        "vision_model.onnx",
    ]
