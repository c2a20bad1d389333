"""`winnow concepts` and what training and the page make of it, on real pictures and weights."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from coloured_things import write_shards

from winnow import cli
from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.teacher import Teacher
from winnow.concepts.vocabulary import Vocabulary
from winnow.concepts.vocabulary_facts import VocabularyConfig
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.kept import kept_pairs
from winnow.curation.parse import installed_pipeline
from winnow.data.concept_targets import ConceptTargets
from winnow.data.folder import claimed
from winnow.data.selection import Selection
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.objectives import ConceptDistillation, HardNegativeNCE
from winnow.recipes.concept_page import concept_section
from winnow.recipes.concepts import Concepts, open_targets, run_concepts
from winnow.recipes.data import Curate, run_curate
from winnow.recipes.training import tiny
from winnow.reports.page import write_report
from winnow.reports.runs import read_runs
from winnow.training.recipe import Runtime
from winnow.training.run import train
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
)


def options(data, **changes):
    facts = {
        "image_size": 32,
        "heads": HeadsConfig(held_out=0.25, epochs=20, upsampling_threshold=0.0),
        "vocabulary": VocabularyConfig(min_count=3),
        "top_k": 3,
        "device": "cpu",
        "workers": 1,
    }
    return Concepts(data=str(data), **facts | changes)


def silent(*_, **__):
    pass


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    """A curated folder with two selections: `none`, and `cat` with what C and A leave."""
    folder = tmp_path_factory.mktemp("things")
    shards = str(write_shards(folder / "shards"))
    for rules in (("none",), ("short",)):
        specs = ("none",) if rules == ("none",) else ("caption-length:min_characters=24",)
        asked = Curate(
            shards=(shards,), out=str(folder / "out"), rules=specs, name=rules[0], workers=1
        )
        run_curate(asked, say=silent)
    return folder / "out"


@pytest.fixture(scope="module")
def made(curated):
    """The targets of `none`, by the packaged weights."""
    return run_concepts(options(curated / "selections" / "none"), say=silent)


@pytest.fixture
def distilling():
    return replace(
        tiny(),
        model=SMALL,
        objective=HardNegativeNCE(),
        concept_distillation=ConceptDistillation(),
        batch_size=24,
        steps=3,
        runtime=Runtime(workers=0, device="cpu", log_every=1),
    )


def test_targets_say_what_is_in_the_pictures(curated, made):
    """Colours and shapes are seen in pictures that the heads did not learn from too."""
    home = curated / "concepts" / "none"
    assert made.parent == home and made.name.startswith("efficientnet-lite0-32px-")
    vocabulary = Vocabulary.open(made.parent)
    assert set(vocabulary.concepts["objects"]) == {"circle", "square", "triangle", "table"}
    assert set(vocabulary.concepts["attributes"]) == {"red", "blue", "green", "yellow"}
    selection, targets = Selection.open(curated / "selections" / "none"), ConceptTargets.open(made)
    uids, captions = (selection.table[name].to_pylist() for name in ("uid", "caption"))
    found = targets.of(uids)
    colours = [vocabulary.concepts["attributes"][n] for n in found["attributes"].index_BK[:, 0]]
    right = np.mean([colour in caption for colour, caption in zip(colours, captions, strict=True)])
    assert right > 0.8, "by chance it is a quarter, and a quarter of the pictures was held out"
    report = json.loads((made / "heads.json").read_text())["facts"]["report"]["attributes"]
    assert report["recall"][0]["value"] > 0.7 > 0.5 > report["recall"][0]["majority"]


def test_what_is_done_is_not_done_again(curated, made, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}

    def never(*_, **__):
        raise AssertionError("again")

    honest = Teacher.features
    shown = []

    def counted(self, image_BCHW):
        shown.append(len(image_BCHW))
        return honest(self, image_BCHW)

    monkeypatch.setattr(Teacher, "features", counted)
    monkeypatch.setattr("winnow.concepts.head_training.train_heads", never)
    monkeypatch.setattr("winnow.concepts.heads.predict", never)
    assert run_concepts(options(curated / "selections" / "none"), say=silent) == made
    assert sum(shown) == 2, "the probe of the teacher's width"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_selection_shares_the_features_and_has_targets_of_its_own(
    curated, made, monkeypatch
):
    honest, shown = Teacher.features, []

    def counted(self, image_BCHW):
        shown.append(len(image_BCHW))
        return honest(self, image_BCHW)

    monkeypatch.setattr(Teacher, "features", counted)
    other = run_concepts(options(curated / "selections" / "short"), say=silent)
    assert sum(shown) == 2
    kept, all_of_them = ConceptTargets.open(other), ConceptTargets.open(made)
    assert 0 < len(kept) < len(all_of_them)
    assert kept.facts.selection_fingerprint != all_of_them.facts.selection_fingerprint


def test_another_number_of_concepts_is_read_off_the_heads_that_are_there(curated, made, tmp_path):
    shutil.copytree(curated, tmp_path / "out")
    heads = tmp_path / "out" / "concepts" / "none" / made.name / "heads.safetensors"
    before = heads.stat().st_mtime_ns
    folder = run_concepts(options(tmp_path / "out" / "selections" / "none", top_k=2), say=silent)
    assert ConceptTargets.open(folder).of([]).keys() == {"objects", "attributes"}
    assert ConceptTargets.open(folder).facts.top_k == 2
    assert heads.stat().st_mtime_ns == before


def test_a_store_of_another_teacher_is_refused_naming_both(curated, made):
    small = options(
        curated / "selections" / "none",
        image_size=64,
        features=curated / "features" / made.name,
    )
    with pytest.raises(InputError, match=r"32 pixels\).* this is efficientnet-lite0 .*64 pixels"):
        run_concepts(small, say=silent)


def test_copies_of_a_pair_have_one_target_and_two_pictures_of_one_uid_are_refused(
    tmp_path, monkeypatch
):
    """Copies in blocks of other sizes, where the last bits of a product may differ."""
    monkeypatch.setattr("winnow.concepts.heads._BLOCK", 50)
    shards = write_shards(tmp_path / "shards", count=60)
    shutil.copy(shards / "00000.tar", shards / "00002.tar")
    asked = Curate(shards=(str(shards),), out=str(tmp_path / "out"), rules=("none",), workers=1)
    run_curate(asked, say=silent)
    folder = run_concepts(options(tmp_path / "out"), say=silent)
    assert len(ConceptTargets.open(folder)) == 60
    clash = write_shards(tmp_path / "clash", count=60, uids={3: "ab" * 16, 10: "ab" * 16})
    asked = Curate(shards=(str(clash),), out=str(tmp_path / "other"), rules=("none",), workers=1)
    run_curate(asked, say=silent)
    with pytest.raises(InputError, match=f"two different pictures have the uid {'ab' * 16}"):
        run_concepts(options(tmp_path / "other"), say=silent)


def spoil(path, how):
    octets = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(octets[: len(octets) // 2])
    else:
        octets[-9] ^= 4
        path.write_bytes(octets)


@pytest.mark.parametrize("how", ["delete", "cut", "flip"])
@pytest.mark.parametrize(
    "name", ["targets.npy", "targets.json", "heads.safetensors", "heads.json", "../labels.arrow"]
)
def test_what_is_damaged_is_made_again_as_it_was(curated, made, tmp_path, name, how):
    shutil.copytree(curated, tmp_path / "out")
    folder = tmp_path / "out" / "concepts" / "none" / made.name
    spoil(folder / name, how)
    (folder / ".left.behind.partial").write_text("by a kill")
    asked = options(tmp_path / "out" / "selections" / "none")
    assert run_concepts(asked, say=silent) == folder
    for path in (folder / name, folder / "targets.npy"):
        assert path.read_bytes() == (made / path.relative_to(folder)).read_bytes()
    assert not list(folder.glob(".*"))


def test_other_labels_of_the_same_concepts_make_other_heads(tmp_path):
    """The vocabulary alone would not say so: "icon" is on the stop list, and then it is not."""
    shards = write_shards(tmp_path / "shards", suffix=lambda n: " icon" if n % 3 == 2 else "")
    asked = Curate(shards=(str(shards),), out=str(tmp_path / "out"), rules=("none",), workers=1)
    run_curate(asked, say=silent)
    found = []
    for stop in ((), ("icon",)):
        config = VocabularyConfig(min_count=3, stop=stop)
        folder = run_concepts(options(tmp_path / "out", vocabulary=config), say=silent)
        facts = json.loads((folder / "heads.json").read_text())["facts"]
        found.append((facts["labels"], (folder / "heads.safetensors").read_bytes()))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]


def test_targets_of_a_vocabulary_that_was_replaced_are_refused_naming_both(
    curated, made, distilling, tmp_path, monkeypatch
):
    shutil.copytree(curated, tmp_path / "out")
    data = tmp_path / "out" / "selections" / "none"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("winnow.concepts.head_training.train_heads", interrupted)
        small = VocabularyConfig(min_count=3, max_objects=2)
        run_concepts(options(data, vocabulary=small), say=silent)
    old = ConceptTargets.open(made).facts.vocabulary[:12]
    new = Vocabulary.open(tmp_path / "out" / "concepts" / "none").fingerprint[:12]
    with pytest.raises(InputError, match=f"over the vocabulary {old}, .* another now .{new}"):
        open_targets(distilling, Selection.open(data), None)


def test_two_at_once_are_one_too_many(curated, made):
    with claimed(made.parent, doing="x"), pytest.raises(InputError, match="making concepts in"):
        run_concepts(options(curated / "selections" / "none"), say=silent)


def test_a_parser_that_is_named_and_not_there_is_refused(curated, made):
    asked = options(curated / "selections" / "none", parse=ParseCaptions(pipeline="nope"))
    with pytest.raises(InputError, match="'nope' is not installed"):
        run_concepts(asked, say=silent)


def test_folders_without_a_selection_are_refused(tmp_path, curated):
    with pytest.raises(InputError, match="several selections; name one"):
        run_concepts(options(curated), say=silent)
    with pytest.raises(InputError, match="holds no selection"):
        run_concepts(options(tmp_path), say=silent)
    for name in ("top_k", "workers", "batch_size"):
        with pytest.raises(InputError, match=f"{name} 0"):
            options(curated, **{name: 0})


def test_a_vocabulary_without_a_concept_names_the_threshold(curated):
    rare = options(curated / "selections" / "none", vocabulary=VocabularyConfig(min_count=500))
    with pytest.raises(InputError, match="lower min_count"):
        run_concepts(rare, say=silent)


def test_training_finds_the_only_targets_of_its_selection(curated, made, distilling, tmp_path):
    selection = Selection.open(curated / "selections" / "none")
    targets = open_targets(distilling, selection, None)
    assert targets.folder == made
    assert open_targets(replace(distilling, concept_distillation=None), selection, None) is None
    train(distilling, selection, tmp_path / "run", targets=targets)
    shutil.copytree(made, made.with_name("another"))
    try:
        with pytest.raises(InputError, match=r"several teachers; name one .*another"):
            open_targets(distilling, selection, None)
        assert open_targets(distilling, selection, made).folder == made
    finally:
        shutil.rmtree(made.with_name("another"))


def test_training_without_targets_says_how_to_make_them(curated, distilling, tmp_path):
    shutil.copytree(curated / "ledger", tmp_path / "out" / "ledger")
    shutil.copytree(curated / "selections", tmp_path / "out" / "selections")
    selection = Selection.open(tmp_path / "out" / "selections" / "none")
    with pytest.raises(InputError, match=r"make them with `winnow concepts .*none --teacher NAME"):
        open_targets(distilling, selection, None)


def test_the_command_line_goes_the_whole_way(curated, made, tmp_path, capsys):
    shutil.copytree(curated, tmp_path / "out")
    data, run = str(tmp_path / "out" / "selections" / "none"), str(tmp_path / "run")
    made = tmp_path / "out" / "concepts" / "none" / made.name
    small = ["--image-size", "32", "--vocabulary.min-count", "3", "--workers", "1"]
    small += ["--heads.held-out", "0.25", "--top-k", "3"]
    assert cli.run(["concepts", data, *small]) == 0
    shown = capsys.readouterr().out
    assert "recall@1" in shown and f"targets: {made}" in shown
    assert cli.run(["concepts", run]) == 2
    assert f"{run} holds no selection" in capsys.readouterr().err
    short = ["--steps", "1", "--batch-size", "8", "--runtime.workers", "0"]
    assert cli.run(["train", "diht", "--data", data, "--out", run, "--concepts", run, *short]) == 2
    assert f"{run} holds no concept targets" in capsys.readouterr().err


def test_the_page_shows_what_caption_teacher_and_student_say(curated, made, distilling, tmp_path):
    selection = Selection.open(curated / "selections" / "none")
    targets = ConceptTargets.open(made)
    train(distilling, selection, tmp_path / "with", targets=targets)
    train(replace(distilling, concept_distillation=None), selection, tmp_path / "without")
    runs = [tmp_path / "with", tmp_path / "without"]
    section = concept_section(selection.directory, read_runs(runs), None)
    assert section.teacher == "efficientnet-lite0" and section.k == 3
    assert [head.size for head in section.heads] == [4, 4]
    assert len(section.samples) == 24 and section.problems == ()
    keys, uids = (selection.table[name].to_pylist() for name in ("key", "uid"))
    for sample in section.samples:
        objects, attributes = sample.heads
        assert set(attributes.caption) == {sample.caption.split()[1]}
        assert "table" in objects.caption
        assert sum(share for _, share in objects.teacher) == pytest.approx(1)
        stored = targets.of([uids[keys.index(sample.key)]])["objects"].mass_BK[0]
        assert [share for _, share in objects.teacher] == pytest.approx(stored.tolist())
        assert objects.students.keys() == {"with"}
        assert sum(share for _, share in objects.students["with"]) == pytest.approx(1)
    page = write_report(
        tmp_path / "page.html",
        selection=None,
        runs=runs,
        tasks={},
        title="t",
        concepts=section,
    )
    assert "triangle" in page.read_text() and "efficientnet-lite0" in page.read_text()


def test_a_page_of_a_selection_that_has_changed_is_refused(curated, made, tmp_path):
    shutil.copytree(curated, tmp_path / "out")
    facts = tmp_path / "out" / "selections" / "none" / "selection.json"
    values = json.loads(facts.read_text()) | {"fingerprint": "0" * 64}
    facts.write_text(json.dumps(values))
    with pytest.raises(InputError, match="make them again with `winnow concepts"):
        concept_section(facts.parent, [], None)


def test_a_parse_that_the_rules_read_is_not_replaced(tmp_path, monkeypatch):
    """By its own settings it is read as it is; another parser's would not be the selection's."""
    shards = write_shards(tmp_path / "shards", count=12)
    rules = ("complexity:least=1",)
    asked = Curate(shards=(str(shards),), out=str(tmp_path / "out"), rules=rules, workers=1)
    selection = Selection.open(run_curate(asked, say=silent).directory)
    named = ParseCaptions(pipeline=installed_pipeline(None))
    assert kept_pairs(selection, named, workers=1).identity == named.identity()
    monkeypatch.setattr(ParseCaptions, "identity", lambda _: "another parser")
    with pytest.raises(InputError, match=r"asked for: another parser.*leave the settings out"):
        kept_pairs(selection, named, workers=1)
    assert kept_pairs(selection, ParseCaptions(), workers=1).identity != "another parser"


def test_kept_rows_are_those_of_the_selection(curated):
    selection = Selection.open(curated / "selections" / "short")
    pairs = kept_pairs(selection, ParseCaptions(), workers=1)
    uids = [uid for rows in pairs.batches() for uid in rows["uid"].to_pylist()]
    assert uids == selection.table["uid"].to_pylist()
    lemmas = [o["lemma"] for rows in pairs.batches() for o in rows["objects"][0].as_py()]
    assert "table" in lemmas


def test_a_ledger_that_is_no_longer_the_selections_is_refused(curated, tmp_path):
    shutil.copytree(curated, tmp_path / "out")
    out = tmp_path / "out"
    for name in ("kept.arrow", "selection.json"):
        shutil.copy(out / "selections" / "none" / name, out / "selections" / "short" / name)
    selection = Selection.open(out / "selections" / "short")
    with pytest.raises(InputError, match="no longer the one that was selected from"):
        kept_pairs(selection, ParseCaptions(), workers=1)
    loose = tmp_path / "loose"
    shutil.copytree(out / "selections" / "none", loose)
    with pytest.raises(InputError, match="not among the selections of a curated folder"):
        kept_pairs(Selection.open(loose), ParseCaptions(), workers=1)
