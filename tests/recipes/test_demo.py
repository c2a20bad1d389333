"""The demo end to end, on a small build of the packaged pictures and a step or two of training."""

import json
from dataclasses import replace
from functools import partial

import pytest

from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.vocabulary_facts import VocabularyConfig
from winnow.data.packaged import PackagedConfig, build
from winnow.evaluation.evaluate import Protocols
from winnow.evaluation.probes import FewShot
from winnow.recipes import demo as demo_module
from winnow.recipes.concepts import Concepts
from winnow.recipes.demo import THREE_CHANGES, Demo, run_demo
from winnow.recipes.training import tiny
from winnow.types import InputError

SMALL = PackagedConfig(side=32, max_concepts=40, max_icons=0)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    return build(tmp_path_factory.mktemp("packaged") / "small", config=SMALL, processes=1)


@pytest.fixture
def said(packaged, monkeypatch):
    """The demo on the small build; what it says is collected as text."""
    monkeypatch.setattr(demo_module, "packaged_data", lambda: packaged)
    monkeypatch.setattr(demo_module, "tiny", lambda: replace(tiny(), batch_size=32))
    few = {"heads": HeadsConfig(held_out=0.3), "vocabulary": VocabularyConfig(min_count=2)}
    monkeypatch.setattr(demo_module, "Concepts", partial(Concepts, **few))
    probes = Protocols(names=("linear-probe", "few-shot"), few_shot=FewShot(shots=(1,), subsets=2))
    monkeypatch.setattr(demo_module, "PROBES", probes)
    return []


def run(said, out, **options):
    def say(*things, sep=" "):
        said.append(sep.join(str(thing) for thing in things))

    return run_demo(Demo(out=out, steps=2, **options), say=say)


@pytest.mark.slow
def test_the_demo_ends_with_two_comparable_models_and_a_page(said, packaged, tmp_path):
    page = run(said, tmp_path / "demo")
    assert any(THREE_CHANGES in text for text in said)
    recipes = [
        json.loads((tmp_path / "demo" / name / "recipe.json").read_text())
        for name in ("clip-raw", "psd-concepts-curated")
    ]
    different = {key for key in recipes[0] if recipes[0][key] != recipes[1][key]}
    assert different == {"objective", "concept_distillation"}
    raw, kept = (
        json.loads((tmp_path / "demo" / name / "data.json").read_text())["pairs"]
        for name in ("clip-raw", "psd-concepts-curated")
    )
    assert 0 < kept < raw
    text = page.read_text()
    assert all(task in text for task in packaged.tasks)


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_where_it_was(said, tmp_path, monkeypatch):
    honest, calls = demo_module.evaluate_model, []

    def interrupted(*arguments, **options):
        # A model is evaluated twice, without probes and with them: this is the second model.
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(*arguments, **options)

    monkeypatch.setattr(demo_module, "evaluate_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(said, tmp_path / "demo")
    metrics = tmp_path / "demo" / "psd-concepts-curated" / "metrics.jsonl"
    before = metrics.read_bytes()
    assert run(said, tmp_path / "demo").is_file()
    assert metrics.read_bytes() == before


@pytest.mark.slow
def test_another_seed_in_the_same_folder_is_refused(said, tmp_path):
    run(said, tmp_path / "demo")
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        run(said, tmp_path / "demo", seed=1)
