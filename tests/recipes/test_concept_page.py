"""The page of concepts on real files: what is shown, and what is said where it cannot be."""

import json
import re
import shutil
import struct
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from coloured_things import write_shards
from safetensors.torch import load_file, save_file

from winnow import cli
from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.vocabulary import Vocabulary
from winnow.concepts.vocabulary_facts import VocabularyConfig
from winnow.data.concept_targets import ConceptTargets
from winnow.data.images import View, evaluation_view
from winnow.data.selection import Selection
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.objectives import ConceptDistillation
from winnow.recipes.concept_page import concept_section
from winnow.recipes.concepts import Concepts, run_concepts
from winnow.recipes.data import Curate, run_curate
from winnow.recipes.report import Report, run_report
from winnow.recipes.training import tiny
from winnow.reports.runs import read_runs
from winnow.training.recipe import Runtime
from winnow.training.run import train
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
)


def silent(*_, **__):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A curated folder, its targets and a run on them.

    Tables, circles, red and green are stopped, so 10 of the 60 pairs name no concept.
    """
    home = tmp_path_factory.mktemp("page")
    shards = str(write_shards(home / "shards", count=60))
    run_curate(
        Curate(shards=(shards,), out=str(home / "out"), rules=("none",), workers=1), say=silent
    )
    selection = home / "out" / "selections" / "none"
    options = Concepts(
        data=str(selection),
        image_size=32,
        top_k=2,
        vocabulary=VocabularyConfig(min_count=3, stop=("table", "circle", "red", "green")),
        heads=HeadsConfig(held_out=0.25, epochs=3, upsampling_threshold=0.0),
        device="cpu",
        workers=1,
    )
    targets = run_concepts(options, say=silent)
    recipe = replace(
        tiny(),
        model=SMALL,
        concept_distillation=ConceptDistillation(),
        batch_size=24,
        steps=1,
        runtime=Runtime(workers=0, device="cpu", log_every=1),
    )
    train(recipe, Selection.open(selection), home / "run", targets=ConceptTargets.open(targets))
    return home, targets.relative_to(home)


class Folders:
    """A copy of all that was made, to break."""

    def __init__(self, home, targets):
        self.home = home
        self.out = home / "out"
        self.selection = self.out / "selections" / "none"
        self.targets = home / targets
        self.vocabulary = self.targets.parent
        self.run = home / "run"

    def page(self, *runs, concepts=None):
        """The text of the page's section on concepts."""
        options = Report(
            runs=runs, selection=self.selection, concepts=concepts, out=self.home / "page.html"
        )
        (section,) = re.findall(
            r"<h2>Concepts</h2>(.*?)</section>", run_report(options).read_text(), re.DOTALL
        )
        return " ".join(unescape(re.sub("<.*?>", " ", section)).split())


@pytest.fixture
def folders(made, tmp_path):
    home, targets = made
    for name in ("out", "run"):
        shutil.copytree(home / name, tmp_path / name)
    return Folders(tmp_path, targets)


def change(path, **values):
    """Set values of a json file; `a__b` is b in a."""
    whole = json.loads(path.read_text())
    for name, value in values.items():
        *parents, last = name.split("__")
        inner = whole
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(whole))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_the_page_shows_teacher_captions_and_the_runs_with_heads(folders):
    shown = folders.page(folders.run)
    assert "Selection “ none ”, teacher efficientnet-lite0" in shown
    assert "Pair by pair" in shown and "square" in shown and "yellow" in shown
    assert "not shown" not in shown
    assert folders.page(folders.run, concepts=folders.targets) == shown


def test_the_pairs_are_drawn_from_those_that_name_a_concept(folders):
    selection = Selection.open(folders.selection)
    captions = selection.table["caption"].to_pylist()
    naming = [row for row, one in enumerate(captions) if not re.search("(red|green) circle", one)]
    assert len(naming) == 50 < len(captions)
    random = np.random.default_rng(int(selection.fingerprint[:16], 16))
    rows = sorted(random.choice(naming, size=24, replace=False).tolist())
    section = concept_section(folders.selection, [], None)
    keys = selection.table["key"].to_pylist()
    assert [one.key for one in section.samples] == [keys[row] for row in rows]
    assert [one.caption for one in section.samples] == [captions[row] for row in rows]
    for sample in section.samples:
        named = {concept for head in sample.heads for concept in head.caption}
        assert named == set(sample.caption.split()) & {"square", "triangle", "blue", "yellow"}


def test_a_students_shares_are_those_of_its_heads_and_its_own_images(folders):
    """Recomputed from the files, the pictures of the samples through the exported model."""
    heads = folders.run / "concept_heads.safetensors"
    random = np.random.default_rng(0)
    tensors = {
        name: torch.from_numpy(random.normal(size=tuple(one.shape)).astype(np.float32))
        for name, one in load_file(heads).items()
    }
    save_file(tensors, heads)
    section = concept_section(folders.selection, read_runs([folders.run]), None)
    encoder, concepts = load_encoder(str(folders.run)), Vocabulary.open(folders.vocabulary).concepts
    for sample in section.samples[:4]:
        view = evaluation_view(sample.image, view=View(16))
        image_BD = encoder.encode_image(torch.from_numpy(view[None]))
        for head in sample.heads:
            weight, bias = tensors[f"{head.head}.weight"], tensors[f"{head.head}.bias"]
            probabilities = (image_BD @ weight.T + bias).softmax(dim=1)[0].tolist()
            expected = dict(zip(concepts[head.head], probabilities, strict=True))
            assert dict(head.students["run"]) == pytest.approx(expected, abs=1e-5)


def replaced_vocabulary(folders):
    """The targets are over another one than is beside them now."""
    change(folders.targets / "targets.json", facts__vocabulary="0" * 64)


def vocabulary_of_another_state(folders):
    change(folders.vocabulary / "vocabulary.json", source__selection__fingerprint="0" * 64)


def changed_selection(folders):
    change(folders.selection / "selection.json", fingerprint="0" * 64)


def lost_shards(folders):
    gone = [f"{folders.home}/gone/{number:05d}.tar" for number in range(2)]
    change(folders.selection / "selection.json", shards=gone)


BROKEN = {
    "targets cut": (lambda f: cut(f.targets / "targets.npy"), "targets.npy is missing or damaged"),
    "no targets": (lambda f: (f.targets / "targets.npy").unlink(), "targets.npy is missing or"),
    "targets.json cut": (lambda f: cut(f.targets / "targets.json"), "targets.json cannot be read"),
    "no vocabulary": (lambda f: (f.vocabulary / "vocabulary.json").unlink(), "no vocabulary"),
    "vocabulary cut": (
        lambda f: cut(f.vocabulary / "vocabulary.parquet"),
        "the vocabulary in .* is damaged",
    ),
    "no labels": (lambda f: (f.vocabulary / "labels.arrow").unlink(), "labels.arrow of a vocab"),
    "heads.json cut": (lambda f: cut(f.targets / "heads.json"), "the concept heads in .* damaged"),
    "kept cut": (lambda f: cut(f.selection / "kept.arrow"), "kept.arrow of a selection is missing"),
    "shards": (lost_shards, "gone/0000[01].tar cannot be read"),
    "selection": (
        changed_selection,
        "the selection 'none' behind the targets in .* had the fingerprint (?!000000).*has 000000",
    ),
    "vocabulary of another state": (
        vocabulary_of_another_state,
        "the selection 'none' behind the vocabulary in .* had the fingerprint 000000",
    ),
    "another vocabulary": (
        replaced_vocabulary,
        "efficientnet-lite0\\S* is over the vocabulary 000000.* has another now",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_a_sentence_and_an_error_where_it_was_asked_for(folders, name):
    breaks, words = BROKEN[name]
    breaks(folders)
    shown = folders.page(folders.run)
    assert re.fullmatch(f"Concepts are not shown: .*{words}.*\\.", shown), shown
    (folders.home / "page.html").unlink()
    with pytest.raises(InputError, match=words):
        folders.page(folders.run, concepts=folders.targets)
    assert not (folders.home / "page.html").exists()


def test_without_targets_the_page_says_how_to_make_them(folders):
    shutil.rmtree(folders.out / "concepts")
    assert folders.page() == (
        f"Concepts are not shown: there are no concept targets for {folders.selection}; make them "
        f"with `winnow concepts {folders.selection} --teacher NAME`."
    )


def test_a_selection_of_no_curated_folder_has_a_page_too(folders):
    moved = folders.home / "loose" / "kept"
    shutil.copytree(folders.selection, moved)
    folders.selection = moved
    with pytest.raises(InputError, match="not among the selections of a curated folder"):
        concept_section(moved, [], None)
    assert concept_section(moved, [], folders.targets).teacher == "efficientnet-lite0"


def test_of_several_teachers_one_must_be_named(folders):
    another = folders.targets.with_name("another")
    shutil.copytree(folders.targets, another)
    shown = folders.page()
    assert "has the targets of several teachers; name one with --concepts, of" in shown
    assert str(another) in shown and str(folders.targets) in shown
    assert "Pair by pair" in folders.page(concepts=another)


def test_targets_without_a_selection_are_refused(folders, capsys):
    with pytest.raises(InputError, match="name it with --selection"):
        run_report(Report(runs=(folders.run,), concepts=folders.targets))
    out = str(folders.home / "page.html")
    asked = ["report", str(folders.run), "--concepts", str(folders.targets), "--out", out]
    assert cli.run(asked) == 2
    assert f"the targets in {folders.targets} are of a selection" in capsys.readouterr().err
    page = run_report(Report(runs=(folders.run,), out=folders.home / "page.html")).read_text()
    assert "No selection was given, so nothing is known of what a teacher sees" in page


def cut_heads(run):
    cut(run / "concept_heads.safetensors")


def heads_of_a_huge_header(run):
    (run / "concept_heads.safetensors").write_bytes(struct.pack("<Q", 1 << 60))


def without_a_bias(run):
    tensors = load_file(run / "concept_heads.safetensors")
    del tensors["attributes.bias"]
    save_file(tensors, run / "concept_heads.safetensors")


def with_a_concept_more(run):
    tensors = load_file(run / "concept_heads.safetensors")
    tensors["objects.weight"] = torch.zeros(3, 16)
    save_file(tensors, run / "concept_heads.safetensors")


def of_another_width(run):
    tensors = load_file(run / "concept_heads.safetensors")
    tensors["objects.weight"] = torch.zeros(2, 17)
    save_file(tensors, run / "concept_heads.safetensors")


def over_another_vocabulary(run):
    change(run / "data.json", concepts__vocabulary="0" * 64)


def without_data(run):
    (run / "data.json").unlink()


def with_a_list_as_data(run):
    (run / "data.json").write_text("[]")


def without_a_model(run):
    shutil.rmtree(run / "model")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (cut_heads, r"concept_heads.safetensors is damaged"),
        (heads_of_a_huge_header, r"concept_heads.safetensors is damaged"),
        (without_a_bias, r"attributes.bias of the shape \(2,\), and it has none"),
        (with_a_concept_more, r"objects.weight of the shape \(2, 16\), and it has \(3, 16\)"),
        (of_another_width, r"objects.weight of the shape \(2, 16\), and it has \(2, 17\)"),
        (over_another_vocabulary, "its heads are over another vocabulary"),
        (without_data, "data.json cannot be read"),
        (with_a_list_as_data, "its heads are over another vocabulary"),
        (without_a_model, "holds no trained model"),
    ],
)
def test_a_run_whose_heads_cannot_be_used_is_named_and_the_others_are_shown(folders, breaks, words):
    broken = folders.home / "broken"
    shutil.copytree(folders.run, broken)
    breaks(broken)
    shown = folders.page(broken, folders.run, concepts=folders.targets)
    assert re.search(f"What broken has learned of concepts is not shown: .*{words}", shown)
    section = concept_section(folders.selection, read_runs([broken, folders.run]), None)
    assert len(section.problems) == 1
    assert {name for one in section.samples[0].heads for name in one.students} == {"run"}


def test_a_picture_that_cannot_be_decoded_costs_the_students_and_not_the_page(folders, monkeypatch):
    monkeypatch.setattr("winnow.recipes.concept_page._picture", lambda *_: b"GIF89a")
    shown = folders.page(folders.run)
    assert re.search(r"What run has .* the picture \d+ of .*tar cannot be read any more", shown)
    assert shown.count("not readable") == 24


def test_measures_are_those_of_the_heads_that_made_the_targets(folders):
    measures = concept_section(folders.selection, [], None).heads[0].measures
    report = json.loads((folders.targets / "heads.json").read_text())["facts"]["report"]["objects"]
    assert measures.cross_entropy == report["cross_entropy"]
    assert measures.calibration_error == report["calibration_error"]
    change(folders.targets / "heads.json", fingerprint="0" * 16)
    assert concept_section(folders.selection, [], None).heads[0].measures is None
    (folders.targets / "heads.json").unlink()
    assert concept_section(folders.selection, [], None).heads[0].measures is None
    assert folders.page().count("There are no heads beside the targets") == 2
